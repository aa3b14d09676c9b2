// Expressions of hosts, from left to right. Every list has its limit before it is made, every file is read once in its
// tree, and a regular expression can neither count nor refer back, so that no text makes this take long.
#include "launcher/host_expression.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "launcher/config.hpp"
#include "launcher/host_regex.hpp"
#include "launcher/host_scan.hpp"
#include "launcher/hostlist.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr int kMaxDepth = 16;           // groups in groups, files in files
constexpr std::size_t kMaxFiles = 100;  // all together
constexpr const char* kGroupsHint =
    "groups stand below llmlaunch.groups in the configuration, which --config names, or in a file that --groups names";

// A host under whatever user, port or brackets it was written.
std::string host_key(std::string_view written) {
  return host_named(written).name;
}

std::unordered_set<std::string> host_keys(const std::vector<std::string>& names) {
  std::unordered_set<std::string> keys;
  for (const auto& name : names) keys.insert(host_key(name));
  return keys;
}

// Those of `names` that are in `keys`, or those that are not.
std::vector<std::string> filtered(std::vector<std::string> names, const std::unordered_set<std::string>& keys,
                                  bool in) {
  std::erase_if(names, [&](const std::string& name) { return keys.contains(host_key(name)) != in; });
  return names;
}

Result<void> append(std::vector<std::string>& names, std::vector<std::string> more) {
  if (names.size() + more.size() > kMaxHosts) return bad_hosts(fmt::format("more than {} hosts are named", kMaxHosts));
  names.insert(names.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return ok;
}

Result<std::vector<std::string>> combined(std::vector<std::string> left, std::vector<std::string> right, char sign) {
  if (sign == '!') return filtered(std::move(left), host_keys(right), false);
  if (sign == '&') return filtered(std::move(left), host_keys(right), true);
  if (sign == '^') {
    const auto of_left = host_keys(left);
    left = filtered(std::move(left), host_keys(right), false);
    right = filtered(std::move(right), of_left, false);
  }
  if (auto added = append(left, std::move(right)); !added) return added.error();
  return left;
}

// "ssh:user@n1": pdsh's way to say how a host is reached.
std::optional<std::string_view> transport_of(std::string_view item) {
  for (const std::string_view name : {"ssh", "rsh", "mrsh", "krb4", "exec", "qsh", "mqsh", "xcpu"})
    if (item.starts_with(name) && item.substr(name.size()).starts_with(':')) return name;
  return std::nullopt;
}

}  // namespace

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
  for (auto& key : host_keys(*names)) excluded_.insert(key);
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
  HostScan scan(expression);
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
  if (scan.at() == expression.size()) return names;
  for (;;) {
    const auto item = scan.next();
    if (!item) return fail(item.error(), scan.at());
    item->bad_at = item->at;
    const bool aside = item->negative || item->kind == HostItem::Kind::regex;
    if (aside && sign != ',')
      return fail(
          bad_hosts(fmt::format("what is left out at the end cannot stand behind '{}'", sign), "write ',' before it"),
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
    if (scan.at() == expression.size()) return names;
    if (!scan.at_operator()) return fail(bad_hosts("expected , ! & or ^ between two items"), scan.at());
    sign = scan.take_operator();
  }
}

// "-item" and filters: not a part of the list, but of what is left of it.
Result<void> HostSelector::set_aside(const HostItem& item, const std::string& where, int depth) {
  if (item.kind == HostItem::Kind::regex) {
    std::string pattern(item.text);
    if (auto checked = check_host_regex(pattern); !checked) return checked.error();
    filters_.push_back({std::move(pattern), !item.negative});
    return ok;
  }
  const auto names = value_of(item, where, depth);
  if (!names) return names.error();
  for (auto& key : host_keys(*names)) excluded_.insert(key);
  return ok;
}

Result<HostSelector::Names> HostSelector::value_of(const HostItem& item, const std::string& where, int depth) {
  item.bad_at = item.at;
  const bool descends = item.kind == HostItem::Kind::group || item.kind == HostItem::Kind::file;
  if (descends && depth >= kMaxDepth)
    return bad_hosts(fmt::format("groups and files refer to each other more than {} deep", kMaxDepth));
  switch (item.kind) {
    case HostItem::Kind::list: return list_names(item);
    case HostItem::Kind::pattern: return pattern_names(item);
    case HostItem::Kind::group: return group_names(item, depth);
    case HostItem::Kind::file: seen_files_.clear(); return open_file(std::string(item.text), depth);
    case HostItem::Kind::regex: break;
    case HostItem::Kind::standard_input: {
      if (!sources_.read_stdin) return bad_hosts("hosts cannot be read from stdin here");
      const auto text = std::exchange(sources_.read_stdin, nullptr)();
      if (!text) return text.error();
      seen_files_.clear();
      return file_names(*text, "(stdin)", depth + 1);
    }
  }
  return bad_hosts("a defect: an item that has no value in " + where);
}

Result<HostSelector::Names> HostSelector::list_names(const HostItem& item) {
  std::string_view text = item.text;
  std::size_t skipped = 0;
  if (const auto transport = is_ipv6_literal(text) ? std::nullopt : transport_of(text)) {
    if (*transport != "ssh")
      return bad_hosts(fmt::format("'{}:' in '{}': hosts are reached by ssh alone", *transport, shown_host(text)));
    skipped = transport->size() + 1;
    text.remove_prefix(skipped);
  }
  auto names = expand_hostlist(text, item.bad_at);
  item.bad_at += item.at + skipped;
  if (!names || item.text.empty()) return names;
  for (const std::string& name : *names)
    if (host_key(name).empty() || name.starts_with('@') || host_key(name).find('@') != std::string::npos)
      return bad_hosts(fmt::format("'{}' is no host name: expected name or user@name", name));
  return names;
}

Result<HostSelector::Names> HostSelector::pattern_names(const HostItem& item) {
  const std::string pattern(item.text);
  if (pattern.find_first_of(std::string_view("[]\\\0", 4)) != pattern.npos)
    return bad_hosts(fmt::format("'{}' has '*' or '?' beside brackets", shown_host(pattern)), "write one of both");
  if (sources_.all.empty())
    return bad_hosts(fmt::format("nothing is known that '{}' could match", shown_host(pattern)),
                     "patterns choose among the hosts of the configuration: --config names it");
  Names names;
  for (const std::string& host : sources_.all)
    if (::fnmatch(pattern.c_str(), host_key(host).c_str(), 0) == 0) names.push_back(host);
  if (!names.empty()) return names;
  return bad_hosts(fmt::format("'{}' matches none of the {} known hosts", shown_host(pattern), sources_.all.size()));
}

Result<HostSelector::Names> HostSelector::group_names(const HostItem& item, int depth) {
  if (item.text == "*") {
    if (!sources_.all.empty()) return sources_.all;
    return bad_hosts("no hosts are known that '@*' could be", "they are those of the configuration: --config names it");
  }
  if (item.text.starts_with('@')) return group_list(item.text.substr(1));
  const std::size_t before = item.text.find(':') + 1;  // "source:"; 0 without one
  const std::string source(item.text.substr(0, before == 0 ? 0 : before - 1));
  const std::string_view pattern = item.text.substr(before);
  if (before > 0 && pattern == "*") return all_groups(source, depth);
  const auto groups = expand_hostlist(pattern, item.bad_at);
  item.bad_at += item.at + (groups ? 0 : before + 1);
  return groups ? of_groups(source, *groups, depth) : groups;
}

// "@source:*": each host once, however many of the groups it is in.
Result<HostSelector::Names> HostSelector::all_groups(const std::string& source, int depth) {
  const auto groups = group_list(source);
  if (!groups) return groups;
  auto all = of_groups(source, *groups, depth);
  if (!all) return all;
  std::unordered_set<std::string> seen;
  std::erase_if(*all, [&seen](const std::string& name) { return !seen.insert(host_key(name)).second; });
  return all;
}

// "@@source": names of groups, for people who look for one, and for scripts that go through all.
Result<HostSelector::Names> HostSelector::group_list(std::string_view source) const {
  Names groups;
  for (const auto& [key, expression] : sources_.groups) {
    const auto colon = key.find(':');
    const std::string_view its = colon == key.npos ? std::string_view{} : std::string_view(key).substr(0, colon);
    if (its == source) groups.push_back(key.substr(colon == key.npos ? 0 : colon + 1));
  }
  if (!groups.empty()) return groups;
  return bad_hosts(
      source.empty() ? "no groups are known" : fmt::format("no source of groups '{}' is known", shown_host(source)),
      kGroupsHint);
}

// A name without a source is first looked for in that of the group that it is used in.
Result<HostSelector::Names> HostSelector::of_groups(const std::string& source, const Names& groups, int depth) {
  Names names;
  for (const std::string& group : groups) {
    const std::string& own = source.empty() ? source_ : source;
    auto found = own.empty() ? sources_.groups.end() : sources_.groups.find(own + ":" + group);
    if (found == sources_.groups.end() && source.empty()) found = sources_.groups.find(group);
    if (found == sources_.groups.end())
      return no_group(fmt::format("{}{}{}", source, source.empty() ? "" : ":", group));
    const auto colon = found->first.find(':');
    const std::string outer = std::exchange(source_, colon == std::string::npos ? "" : found->first.substr(0, colon));
    auto more = evaluate(found->second, "group " + found->first, depth + 1);
    source_ = outer;
    if (!more) return more.error();
    if (auto added = append(names, std::move(*more)); !added) return added.error();
  }
  return names;
}

Error HostSelector::no_group(const std::string& name) const {
  std::vector<std::string_view> known;
  for (const auto& [key, expression] : sources_.groups) known.push_back(key);
  const auto meant = nearest(name, known);
  return bad_hosts(fmt::format("no group '{}' is known", name),
                   meant.empty() ? kGroupsHint : fmt::format("did you mean '@{}'?", meant));
}

Result<HostSelector::Names> HostSelector::open_file(const std::string& path, int depth) {
  if (!sources_.read_file) return bad_hosts("host files cannot be read here");
  if (++files_read_ > kMaxFiles) return bad_hosts(fmt::format("more than {} host files", kMaxFiles));
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
        line.starts_with(kInclude) && (line.size() == kInclude.size() || is_host_blank(line[kInclude.size()]));
    const std::string_view content = trimmed_host(line.substr(0, line.find('#')));
    auto more = include ? included(trimmed_host(line.substr(kInclude.size())), path, number, depth)
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
  if (seen_files_.contains(path)) return pass_over(fmt::format("{} once more", shown_host(path)));
  if (depth >= kMaxDepth)
    return bad_hosts(fmt::format("groups and files refer to each other more than {} deep", kMaxDepth));
  auto opened = open_file(path, depth);
  if (opened || !opened.error().hint.empty()) return opened;
  Error error = opened.error();
  error.hint = fmt::format("{}:{} includes it", from, line);
  return error;
}

bool HostSelector::keeps(std::string_view host) const {
  const std::string key = host_key(host);
  if (excluded_.contains(key)) return false;
  for (const Filter& filter : filters_) {
    HostRegex regex;
    const bool usable = !regex.compile(filter.pattern);  // it was compiled when it was read
    if (usable && regex.matches(key) != filter.keep) return false;
  }
  return true;
}

std::vector<std::string> HostSelector::names() const {
  Names kept = filtered(names_, excluded_, false);
  for (const Filter& filter : filters_) {
    HostRegex regex;
    const bool usable = !regex.compile(filter.pattern);
    if (usable)
      std::erase_if(kept, [&](const std::string& name) { return regex.matches(host_key(name)) != filter.keep; });
  }
  return kept;
}

}  // namespace llmlaunch::launcher
