// `llmlaunch.include`: other configuration files, read where the including one says nothing. A name is relative to the
// file that it stands in. Mappings are joined key by key; lists and hosts are taken or left as a whole.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "launcher/config_layers.hpp"

namespace llmlaunch::launcher {
namespace {

std::size_t nodes_in(const YamlNode& node) {
  std::size_t nodes = 1;
  for (const YamlNode& item : node.items) nodes += nodes_in(item);
  return nodes;
}

bool says_nothing(const YamlNode& value) {
  const bool in_file = !value.mark.source || value.mark.source->is_file();  // "--set key=" takes a value away
  return value.kind == YamlNode::Kind::null && in_file;
}

void add_missing(YamlNode& into, YamlNode from, bool own_section = false) {
  for (std::size_t i = 0; i + 1 < from.items.size(); i += 2) {
    YamlNode& key = from.items[i];
    YamlNode& value = from.items[i + 1];
    YamlNode* here = value_of(into, key.text);
    if (!here || says_nothing(*here)) {
      set_value(into, key.text, key.mark, std::move(value));
      continue;
    }
    const bool whole = own_section && key.text == "hosts";  // one host may stand there without a list
    const bool in_file = !here->mark.source || here->mark.source->is_file();
    if (is_mapping(here) && is_mapping(&value) && in_file && !whole)
      add_missing(*here, std::move(value), !own_section && key.text == "llmlaunch");
  }
}

class Includer {
 public:
  Includer(ConfigLayers& layers, const ConfigInput& input, const ConfigFileReader& read)
      : layers_(layers), input_(input), read_(read) {
    nodes_ = nodes_in(layers.root);
  }

  /// Takes `include` out of `root`, the tree of the last file of `chain`, and adds what the files say.
  Result<void> into(YamlNode& root, std::vector<std::string> chain) {
    YamlNode* section = value_of(root, "llmlaunch");
    if (!is_mapping(section)) return ok;
    YamlNode* found = value_of(*section, "include");
    if (!found) return ok;
    YamlNode names = std::move(*found);
    erase_key(*section, "include");
    if (auto done = resolve_references(layers_, names, "llmlaunch.include", input_.environment); !done) return done;
    if (names.kind == YamlNode::Kind::null) return ok;
    if (chain.size() == 1) layers_.include = names;
    std::vector<YamlNode> items;
    if (names.kind == YamlNode::Kind::sequence)
      items = std::move(names.items);
    else
      items.push_back(std::move(names));
    // From the last to the first: a later file wins over an earlier one.
    for (auto item = items.rbegin(); item != items.rend(); ++item) {
      auto tree = tree_of(*item, chain);
      if (!tree) return tree.error();
      add_missing(root, std::move(*tree));
    }
    return ok;
  }

 private:
  Error fail(const YamlNode& at, std::string_view what, std::string_view note = {}) const {
    return layers_.sources.front()->error_at(at.mark, what, note);
  }

  std::string path_of(const YamlNode& name, const std::string& from) const {
    const bool in_file = !name.mark.source || name.mark.source->is_file();  // else relative to where one is
    std::filesystem::path path = name.text;
    if (name.text.starts_with("~/")) {
      for (const auto& [variable, value] : input_.environment)
        if (variable == "HOME") path = std::filesystem::path(value) / name.text.substr(2);
    } else if (in_file) {
      path = std::filesystem::path(from).parent_path() / path;
    }
    return path.lexically_normal().string();
  }

  Result<YamlNode> tree_of(const YamlNode& name, std::vector<std::string> chain) {
    const bool good =
        name.kind == YamlNode::Kind::scalar && !name.text.empty() && name.text.find('\0') == name.text.npos;
    if (!good) return fail(name, "llmlaunch.include must be the name of a file or a list of them");
    const std::string path = path_of(name, chain.back());
    if (std::find(chain.begin(), chain.end(), path) != chain.end())
      return fail(name, fmt::format("'{}' includes itself", path), fmt::format("{}", fmt::join(chain, " includes ")));
    if (chain.size() > kMaxIncludeDepth)
      return fail(name, fmt::format("included deeper than {} files", kMaxIncludeDepth));
    if (++files_ > kMaxIncludedFiles)
      return fail(name, fmt::format("more than {} files are included", kMaxIncludedFiles));
    auto text = read_(path);
    if (!text) return fail(name, fmt::format("cannot include '{}': {}", path, text.error().what), text.error().hint);
    bytes_ += text->size();
    if (bytes_ > kMaxConfigBytes)
      return fail(name, fmt::format("the included files have more than {} bytes", kMaxConfigBytes));
    if (text->starts_with("\xef\xbb\xbf")) text->erase(0, 3);
    layers_.sources.push_back(std::make_unique<ConfigSource>(path, *text));
    auto tree = parse_yaml(*layers_.sources.back(), *text);
    if (!tree) return tree;
    if (!is_mapping(&*tree))
      return layers_.sources.back()->error_at(tree->mark, "the file must hold a mapping of keys to values",
                                              "it is included");
    nodes_ += nodes_in(*tree);
    if (nodes_ > kMaxConfigNodes)
      return fail(name, fmt::format("more than {} keys and values with the included files", kMaxConfigNodes));
    chain.push_back(path);
    if (auto done = into(*tree, std::move(chain)); !done) return done.error();
    return tree;
  }

  ConfigLayers& layers_;
  const ConfigInput& input_;
  const ConfigFileReader& read_;
  std::size_t bytes_ = 0;
  std::size_t nodes_ = 0;
  std::size_t files_ = 0;
};

}  // namespace

Result<void> apply_includes(ConfigLayers& layers, const ConfigInput& input, const ConfigFileReader& read) {
  const std::string file = std::filesystem::path(input.path).lexically_normal().string();
  return Includer(layers, input, read).into(layers.root, {file});
}

}  // namespace llmlaunch::launcher
