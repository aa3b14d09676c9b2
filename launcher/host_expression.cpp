// Expressions of hosts, from left to right. Every list has its limit before it is made, every file is read once in its
// tree, and a regular expression can neither count nor refer back, so that no text makes this take long.
#include "launcher/host_expression.hpp"

#include <fmt/format.h>
#include <fnmatch.h>
#include <regex.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "launcher/config.hpp"
#include "launcher/hostlist.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr int kMaxDepth = 16;           // groups in groups, files in files
constexpr std::size_t kMaxFiles = 100;  // all together
constexpr std::size_t kMaxRegexBytes = 200;
constexpr std::size_t kShownBytes = 100;  // of an expression, on either side of the bad place
constexpr std::string_view kOperators = ",!&^";

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out;
}

// The expression with a caret below the bad place; of a long one what stands around it.
std::string with_caret(std::string_view expression, std::size_t at) {
  const std::size_t from = at > kShownBytes ? at - kShownBytes : 0;
  const std::string_view before = expression.substr(from, at - from);
  std::size_t columns = from > 0 ? 1 : 0;
  for (const char c : before) columns += (static_cast<unsigned char>(c) & 0xc0) == 0x80 ? 0 : 1;
  const std::string_view behind = expression.substr(at, kShownBytes);
  return fmt::format("\n   {}{}{}{}\n   {}^", from > 0 ? "…" : "", shown(before), shown(behind),
                     at + behind.size() < expression.size() ? "…" : "", std::string(columns, ' '));
}

Error bad(std::string what, std::string hint = {}) {
  return make_error(Errc::invalid_argument, std::move(what), {}, std::move(hint));
}

// A host under whatever user, port or brackets it was written.
std::string key_of(std::string_view written) {
  return host_named(written).name;
}

std::unordered_set<std::string> keys_of(const std::vector<std::string>& names) {
  std::unordered_set<std::string> keys;
  for (const auto& name : names) keys.insert(key_of(name));
  return keys;
}

// Those of `names` that are in `keys`, or those that are not.
std::vector<std::string> filtered(std::vector<std::string> names, const std::unordered_set<std::string>& keys,
                                  bool in) {
  std::erase_if(names, [&](const std::string& name) { return keys.contains(key_of(name)) != in; });
  return names;
}

Result<void> append(std::vector<std::string>& names, std::vector<std::string> more) {
  if (names.size() + more.size() > kMaxHosts) return bad(fmt::format("more than {} hosts are named", kMaxHosts));
  names.insert(names.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return ok;
}

Result<std::vector<std::string>> combined(std::vector<std::string> left, std::vector<std::string> right, char sign) {
  if (sign == '!') return filtered(std::move(left), keys_of(right), false);
  if (sign == '&') return filtered(std::move(left), keys_of(right), true);
  if (sign == '^') {
    const auto of_left = keys_of(left);
    left = filtered(std::move(left), keys_of(right), false);
    right = filtered(std::move(right), of_left, false);
  }
  if (auto added = append(left, std::move(right)); !added) return added.error();
  return left;
}

class Regex {
 public:
  Regex() = default;
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex() {
    if (compiled_) ::regfree(&regex_);
  }
  // The system's own words when it is no regular expression.
  std::optional<std::string> compile(const std::string& pattern) {
    const int failed = ::regcomp(&regex_, pattern.c_str(), REG_EXTENDED | REG_NOSUB);
    compiled_ = failed == 0;
    if (compiled_) return std::nullopt;
    char words[200];
    ::regerror(failed, &regex_, words, sizeof words);
    return words;
  }
  bool matches(const std::string& text) const { return ::regexec(&regex_, text.c_str(), 0, nullptr, 0) == 0; }

 private:
  regex_t regex_{};
  bool compiled_ = false;
};

// Counts and references back make matching as slow as somebody wants it to be.
Result<void> check_regex(const std::string& pattern) {
  if (pattern.empty()) return bad("an empty regular expression", "// matches nothing that is meant; write /regex/");
  if (pattern.size() > kMaxRegexBytes)
    return bad(fmt::format("a regular expression of more than {} bytes", kMaxRegexBytes));
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\0') return bad("a zero byte in a regular expression");
    if (pattern[i] == '{') return bad("'{' in a regular expression: counts are not supported", "write the piece out");
    if (pattern[i] == '\\' && i + 1 < pattern.size() && pattern[i + 1] >= '0' && pattern[i + 1] <= '9')
      return bad("a back reference in a regular expression is not supported");
    if (pattern[i] == '\\') ++i;
  }
  if (const auto wrong = Regex().compile(pattern))
    return bad(fmt::format("regular expression '{}': {}", pattern, *wrong));
  return ok;
}

// "ssh:user@n1": pdsh's way to say how a host is reached.
std::optional<std::string_view> transport_of(std::string_view item) {
  for (const std::string_view name : {"ssh", "rsh", "mrsh", "krb4", "exec", "qsh", "mqsh", "xcpu"})
    if (item.starts_with(name) && item.substr(name.size()).starts_with(':')) return name;
  return std::nullopt;
}

}  // namespace

struct HostSelector::Item {
  enum class Kind { list, pattern, group, file, standard_input, regex } kind = Kind::list;
  std::string_view text;  // without its sign
  std::size_t at = 0;     // of the text
  bool negative = false;
  mutable std::size_t bad_at = 0;  // after an error
};

/// Cuts an expression into items and operators.
struct HostSelector::Scan {
  std::string_view text;
  std::size_t at = 0;

  void skip_blanks() {
    while (at < text.size() && is_blank(text[at])) ++at;
  }
  bool at_operator() const { return at < text.size() && kOperators.find(text[at]) != kOperators.npos; }
  Result<Item> next();
  Result<void> regex(Item& item);
  void plain(Item& item);
};

Result<void> HostSelector::Scan::regex(Item& item) {
  std::size_t end = at + 1;
  while (end < text.size() && text[end] != '/') end += text[end] == '\\' ? 2 : 1;
  if (end >= text.size()) return bad("a regular expression without its closing '/'");
  item.kind = Item::Kind::regex;
  item.text = text.substr(at + 1, end - at - 1);
  at = end + 1;
  return ok;
}

// Up to the next operator outside of brackets.
void HostSelector::Scan::plain(Item& item) {
  std::size_t end = at;
  for (bool inside = false; end < text.size(); ++end) {
    if (text[end] == '[') inside = true;
    if (text[end] == ']') inside = false;
    if (!inside && kOperators.find(text[end]) != kOperators.npos) break;
  }
  item.text = trimmed(text.substr(at, end - at));
  at = end;
}

Result<HostSelector::Item> HostSelector::Scan::next() {
  Item item;
  skip_blanks();
  if (at < text.size() && text[at] == '-') {
    item.negative = true;
    ++at;
    skip_blanks();
    if (at == text.size() || (at_operator() && text[at] != '^')) {
      item.negative = false;
      item.kind = Item::Kind::standard_input;
      item.at = at - 1;
      return item;
    }
  }
  item.at = at;
  if (at < text.size() && text[at] == '/') {
    if (auto read = regex(item); !read) return read.error();
    return item;
  }
  if (at < text.size() && (text[at] == '^' || text[at] == '@')) {
    item.kind = text[at] == '^' ? Item::Kind::file : Item::Kind::group;
    ++at;
  }
  plain(item);
  const bool wild = item.text.find_first_of("*?") != item.text.npos;
  if (item.kind == Item::Kind::list && wild) item.kind = Item::Kind::pattern;
  if (!item.text.empty()) return item;
  if (at >= text.size()) return bad("an item is missing at the end", "a sign too many?");
  return bad(fmt::format("an item is missing before '{}'", text[at]), "a sign too many?");
}

HostSelector::HostSelector(HostSources sources) : sources_(std::move(sources)) {}

Result<void> HostSelector::include(std::string_view expression, const std::string& where) {
  auto names = evaluate(expression, where, 0);
  if (!names) return names.error();
  return append(names_, std::move(*names));
}

Result<void> HostSelector::exclude(std::string_view expression, const std::string& where) {
  const std::size_t before = filters_.size();
  const auto names = evaluate(expression, where, 0);
  if (!names) return names.error();
  for (auto& key : keys_of(*names)) excluded_.insert(key);
  for (std::size_t i = before; i < filters_.size(); ++i) filters_[i].keep = false;  // "-x /regex/"
  return ok;
}

Result<void> HostSelector::include_file(std::string_view text, const std::string& path) {
  seen_files_ = {std::filesystem::path(path).lexically_normal().string()};
  auto names = file_names(text, path, 1);
  if (!names) return names.error();
  return append(names_, std::move(*names));
}

Result<HostSelector::Names> HostSelector::evaluate(std::string_view expression, const std::string& where, int depth) {
  Scan scan{expression, 0};
  Names names;
  char sign = ',';
  const auto fail = [&](Error error, std::size_t at) {
    if (error.where.empty()) {
      error.what += with_caret(expression, std::min(at, expression.size()));
      error.where = where;
    }
    return error;
  };
  scan.skip_blanks();
  if (scan.at == expression.size()) return names;
  for (;;) {
    const auto item = scan.next();
    if (!item) return fail(item.error(), scan.at);
    item->bad_at = item->at;
    const bool aside = item->negative || item->kind == Item::Kind::regex;
    if (aside && sign != ',')
      return fail(bad(fmt::format("what is left out at the end cannot stand behind '{}'", sign), "write ',' before it"),
                  item->at);
    if (aside) {
      if (auto done = set_aside(*item, where, depth); !done) return fail(done.error(), item->bad_at);
    } else {
      auto more = value_of(*item, where, depth);
      if (!more) return fail(more.error(), item->bad_at);
      auto both = combined(std::move(names), std::move(*more), sign);
      if (!both) return fail(both.error(), item->at);
      names = std::move(*both);
    }
    scan.skip_blanks();
    if (scan.at == expression.size()) return names;
    if (!scan.at_operator()) return fail(bad("expected , ! & or ^ between two items"), scan.at);
    sign = expression[scan.at++];
  }
}

// "-item" and filters: not a part of the list, but of what is left of it.
Result<void> HostSelector::set_aside(const Item& item, const std::string& where, int depth) {
  if (item.kind == Item::Kind::regex) {
    std::string pattern(item.text);
    if (auto checked = check_regex(pattern); !checked) return checked.error();
    filters_.push_back({std::move(pattern), !item.negative});
    return ok;
  }
  const auto names = value_of(item, where, depth);
  if (!names) return names.error();
  for (auto& key : keys_of(*names)) excluded_.insert(key);
  return ok;
}

Result<HostSelector::Names> HostSelector::value_of(const Item& item, const std::string& where, int depth) {
  item.bad_at = item.at;
  const bool descends = item.kind == Item::Kind::group || item.kind == Item::Kind::file;
  if (descends && depth >= kMaxDepth)
    return bad(fmt::format("groups and files refer to each other more than {} deep", kMaxDepth));
  switch (item.kind) {
    case Item::Kind::list: return list_names(item);
    case Item::Kind::pattern: return pattern_names(item);
    case Item::Kind::group: return group_names(item, depth);
    case Item::Kind::file: seen_files_.clear(); return open_file(std::string(item.text), depth);
    case Item::Kind::regex: break;
    case Item::Kind::standard_input: {
      if (!sources_.read_stdin) return bad("hosts cannot be read from stdin here");
      const auto text = std::exchange(sources_.read_stdin, nullptr)();
      if (!text) return text.error();
      seen_files_.clear();
      return file_names(*text, "(stdin)", depth + 1);
    }
  }
  return bad("a defect: an item that has no value in " + where);
}

Result<HostSelector::Names> HostSelector::list_names(const Item& item) {
  std::string_view text = item.text;
  std::size_t skipped = 0;
  if (const auto transport = is_ipv6_literal(text) ? std::nullopt : transport_of(text)) {
    if (*transport != "ssh")
      return bad(fmt::format("'{}:' in '{}': hosts are reached by ssh alone", *transport, shown(text)));
    skipped = transport->size() + 1;
    text.remove_prefix(skipped);
  }
  auto names = expand_hostlist(text, item.bad_at);
  item.bad_at += item.at + skipped;
  if (!names || item.text.empty()) return names;
  for (const std::string& name : *names)
    if (key_of(name).empty() || name.starts_with('@') || key_of(name).find('@') != std::string::npos)
      return bad(fmt::format("'{}' is no host name: expected name or user@name", name));
  return names;
}

Result<HostSelector::Names> HostSelector::pattern_names(const Item& item) {
  const std::string pattern(item.text);
  if (pattern.find_first_of(std::string_view("[]\\\0", 4)) != pattern.npos)
    return bad(fmt::format("'{}' has '*' or '?' beside brackets", shown(pattern)), "write one of both");
  if (sources_.all.empty())
    return bad(fmt::format("nothing is known that '{}' could match", shown(pattern)),
               "patterns choose among the hosts of the configuration: --config names it");
  Names names;
  for (const std::string& host : sources_.all)
    if (::fnmatch(pattern.c_str(), key_of(host).c_str(), 0) == 0) names.push_back(host);
  if (!names.empty()) return names;
  return bad(fmt::format("'{}' matches none of the {} known hosts", shown(pattern), sources_.all.size()));
}

Result<HostSelector::Names> HostSelector::group_names(const Item& item, int depth) {
  if (item.text == "*") {
    if (!sources_.all.empty()) return sources_.all;
    return bad("no hosts are known that '@*' could be", "they are those of the configuration: --config names it");
  }
  if (item.text.starts_with('@') || item.text.find(':') != item.text.npos)
    return bad(fmt::format("'@{}': group sources are not supported", shown(item.text)),
               "groups stand below llmlaunch.groups in the configuration, and are called @name");
  const auto groups = expand_hostlist(item.text, item.bad_at);
  item.bad_at += item.at + (groups ? 0 : 1);
  if (!groups) return groups.error();
  Names names;
  for (const std::string& group : *groups) {
    const auto found = sources_.groups.find(group);
    if (found == sources_.groups.end())
      return bad(fmt::format("no group '{}' is known", group),
                 "groups stand below llmlaunch.groups in the configuration: --config names it");
    auto more = evaluate(found->second, "group " + group, depth + 1);
    if (!more) return more.error();
    if (auto added = append(names, std::move(*more)); !added) return added.error();
  }
  return names;
}

Result<HostSelector::Names> HostSelector::open_file(const std::string& path, int depth) {
  if (!sources_.read_file) return bad("host files cannot be read here");
  if (++files_read_ > kMaxFiles) return bad(fmt::format("more than {} host files", kMaxFiles));
  const auto text = sources_.read_file(path);
  if (!text) return text.error();
  seen_files_.insert(std::filesystem::path(path).lexically_normal().string());
  return file_names(*text, path, depth + 1);
}

// One expression a line; "#" begins a comment, and at the beginning of a line perhaps "#include".
Result<HostSelector::Names> HostSelector::file_names(std::string_view text, const std::string& path, int depth) {
  Names names;
  for (std::size_t at = 0, number = 1; at < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    constexpr std::string_view kInclude = "#include";
    const bool include =
        line.starts_with(kInclude) && (line.size() == kInclude.size() || is_blank(line[kInclude.size()]));
    const std::string_view content = trimmed(line.substr(0, line.find('#')));
    auto more = include ? included(trimmed(line.substr(kInclude.size())), path, number, depth)
                        : evaluate(content, fmt::format("{}:{}", path, number), depth);
    if (!more) return more.error();
    if (auto added = append(names, std::move(*more)); !added) return added.error();
  }
  return names;
}

Result<HostSelector::Names> HostSelector::included(std::string_view name, const std::string& from, std::size_t line,
                                                   int depth) {
  const auto pass_over = [&](std::string_view why) {
    notes_.push_back(fmt::format("{}:{}: #include {}; it is passed over", from, line, why));
    return Names{};
  };
  if (name.empty() || name.find_first_of(" \t\"<>") != name.npos) return pass_over("needs one name, without quotes");
  const bool as_written = name.starts_with('/') || name.starts_with("./") || name.starts_with("../");
  const std::filesystem::path beside = std::filesystem::path(from).parent_path() / name;
  const std::string path = (as_written ? std::filesystem::path(name) : beside).lexically_normal().string();
  if (seen_files_.contains(path)) return pass_over(fmt::format("{} once more", shown(path)));
  if (depth >= kMaxDepth) return bad(fmt::format("groups and files refer to each other more than {} deep", kMaxDepth));
  return open_file(path, depth);
}

bool HostSelector::keeps(std::string_view host) const {
  const std::string key = key_of(host);
  if (excluded_.contains(key)) return false;
  for (const Filter& filter : filters_) {
    Regex regex;
    const bool usable = !regex.compile(filter.pattern);  // it was compiled when it was read
    if (usable && regex.matches(key) != filter.keep) return false;
  }
  return true;
}

std::vector<std::string> HostSelector::names() const {
  Names kept = filtered(names_, excluded_, false);
  for (const Filter& filter : filters_) {
    Regex regex;
    const bool usable = !regex.compile(filter.pattern);
    if (usable)
      std::erase_if(kept, [&](const std::string& name) { return regex.matches(key_of(name)) != filter.keep; });
  }
  return kept;
}

}  // namespace llmlaunch::launcher
