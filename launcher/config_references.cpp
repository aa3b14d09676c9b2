// ${VAR} and ${VAR:-x} in texts. "$$" is a dollar; a dollar before anything else is itself.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "launcher/config_layers.hpp"
#include "rendezvous/base/cut_text.hpp"

namespace llmlaunch::launcher {
namespace {

// A default with a reference with a default …: more than this is no configuration.
constexpr int kMaxNesting = 8;

bool is_name(std::string_view text) {
  const auto good = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), good) && std::isdigit(text.front()) == 0;
}

/// What is wrong, and the words at which it is.
struct Trouble {
  std::string what;
  std::string note;
  std::string at;
};

class Resolver {
 public:
  Resolver(const EnvList& environment, std::vector<std::string>& secrets)
      : environment_(environment), secrets_(secrets) {}

  /// The text with its references resolved, or nothing and `trouble()`.
  std::optional<std::string> resolve(std::string_view text, int depth = 0) {
    std::string out;
    while (!text.empty()) {
      const auto dollar = std::min(text.find('$'), text.size());
      out += text.substr(0, dollar);
      text.remove_prefix(dollar);
      if (text.empty()) break;
      if (text.starts_with("$$")) {
        out += '$';
        text.remove_prefix(2);
      } else if (!text.starts_with("${")) {
        out += '$';
        text.remove_prefix(1);
      } else {
        const auto close = end_of(text);
        if (close == text.npos) return fail("a '${' without '}'", "write '$$' for a plain dollar", text.substr(0, 2));
        const auto value = value_of_reference(text.substr(2, close - 2), depth);
        if (!value) return std::nullopt;
        out += *value;
        text.remove_prefix(close + 1);
      }
      if (out.size() > kMaxConfigBytes) return fail(fmt::format("more than {} bytes", kMaxConfigBytes), "", "${");
    }
    return out;
  }

  /// Of the latest `resolve`.
  const Trouble& trouble() const { return trouble_; }
  bool used_secret() const { return used_secret_; }

 private:
  static std::size_t end_of(std::string_view text) {
    int open = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (text.substr(at).starts_with("${")) ++open;
      if (text[at] == '}' && --open == 0) return at;
    }
    return text.npos;
  }

  std::nullopt_t fail(std::string what, std::string note, std::string_view at) {
    trouble_ = {std::move(what), std::move(note), std::string(at)};
    return std::nullopt;
  }

  std::optional<std::string> value_of_reference(std::string_view inside, int depth) {
    const auto colon = inside.find(":-");
    const std::string name(inside.substr(0, colon));
    const std::string at = "${" + name.substr(0, 40);
    if (!is_name(name)) {
      return fail(fmt::format("'${{{}}}' names no variable", name.substr(0, 40)),
                  "${NAME} and ${NAME:-default} are known; '$$' is a plain dollar", at);
    }
    if (depth >= kMaxNesting) return fail(fmt::format("references nested deeper than {}", kMaxNesting), "", at);
    const auto found =
        std::find_if(environment_.begin(), environment_.end(), [&](const auto& own) { return own.first == name; });
    const bool given = found != environment_.end() && (colon == inside.npos || !found->second.empty());
    if (!given && colon == inside.npos)
      return fail(fmt::format("the variable {} is not set", name),
                  fmt::format("set it, or write ${{{}:-default}}", name), at);
    auto value = given ? std::optional(found->second) : resolve(inside.substr(colon + 2), depth + 1);
    if (value && names_secret(name)) {
      used_secret_ = true;
      if (!value->empty()) secrets_.push_back(*value);
    }
    return value;
  }

  const EnvList& environment_;
  std::vector<std::string>& secrets_;
  Trouble trouble_;
  bool used_secret_ = false;
};

/// Where the words stand, when they stand as they are on the value's first line.
ConfigMark place_in(const YamlNode& node, const std::string& words) {
  const ConfigMark mark = node.mark;
  if (!mark.source || mark.line == 0 || mark.line > mark.source->line_count()) return mark;
  const auto line = mark.source->line(mark.line);
  for (auto at = line.find(words); at != line.npos; at = line.find(words, at + 1)) {
    const ConfigMark found = mark.source->mark_at(mark.line, at);
    if (found.column >= mark.column) return found;
  }
  return mark;
}

bool from_variable(const YamlNode& node) {
  return node.mark.source && !node.mark.source->is_file() && node.mark.source->name().starts_with("LLMLAUNCH_");
}

struct Walk {
  ConfigLayers& layers;
  const EnvList& environment;
  std::size_t bytes = 0;

  Result<void> text(YamlNode& node, const std::string& path, bool may_be_empty) {
    if (node.kind != YamlNode::Kind::scalar || node.text.find('$') == node.text.npos) return ok;
    Resolver resolver(environment, layers.secrets);
    const auto value = resolver.resolve(node.text);
    const ConfigSource& file = *layers.sources.front();
    if (!value) {
      const Trouble& trouble = resolver.trouble();
      return file.error_at(place_in(node, trouble.at), fmt::format("{}: {}", path, trouble.what), trouble.note);
    }
    bytes += value->size();
    if (bytes > kMaxConfigBytes)
      return file.error_at(node.mark, fmt::format("the references come to more than {} bytes", kMaxConfigBytes));
    node.text = *value;
    node.secret = resolver.used_secret();
    if (node.secret && !node.text.empty()) layers.secrets.push_back(node.text);  // also where the secret is short
    // "${PORT:-}": as good as not given, but for a variable, which may be empty.
    if (node.text.empty() && !node.quoted && !may_be_empty) node.kind = YamlNode::Kind::null;
    return ok;
  }

  Result<void> node(YamlNode& at, const std::string& path, bool in_env) {
    if (from_variable(at)) return ok;
    if (at.kind == YamlNode::Kind::sequence) {
      for (std::size_t i = 0; i < at.items.size(); ++i)
        if (auto done = node(at.items[i], fmt::format("{}[{}]", path, i), in_env); !done) return done;
      return ok;
    }
    if (at.kind != YamlNode::Kind::mapping) return text(at, path, in_env);
    for (std::size_t i = 0; i + 1 < at.items.size(); i += 2) {
      const std::string& key = at.items[i].text;
      if (key == "setup" && !in_env) continue;  // the host's shell reads these
      const bool below_env = in_env || key == "env" || key == "rank_env";
      if (auto done = node(at.items[i + 1], fmt::format("{}.{}", path, cut_text(key, 60)), below_env); !done)
        return done;
    }
    return ok;
  }
};

}  // namespace

Result<void> resolve_references(ConfigLayers& layers, YamlNode& node, const std::string& path,
                                const EnvList& environment) {
  return Walk{layers, environment}.node(node, path, false);
}

}  // namespace llmlaunch::launcher
