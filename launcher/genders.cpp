// Lines of hosts and attributes. %n stands for the host's own name in a value; such attributes name no group.
#include "launcher/genders.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "launcher/hostlist.hpp"

namespace llmlaunch::launcher {
namespace {

struct GendersLine {
  std::string_view hosts, attributes;
};

GendersLine take_genders_line(std::string_view& text) {
  std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  line = line.substr(0, line.find('#'));
  const auto trim = [](std::string_view part) {
    const std::size_t first = part.find_first_not_of(" \t\r");
    if (first == part.npos) return std::string_view{};
    return part.substr(first, part.find_last_not_of(" \t\r") - first + 1);
  };
  line = trim(line);
  const std::size_t space = std::min(line.find_first_of(" \t"), line.size());
  return {line.substr(0, space), trim(line.substr(space))};
}

}  // namespace

bool looks_like_genders(std::string_view text) {
  bool found = false;
  while (!text.empty()) {
    const GendersLine line = take_genders_line(text);
    if (line.hosts.empty()) continue;
    if (line.attributes.empty()) continue;
    if (line.attributes.find_first_of(" \t") != line.attributes.npos) return false;
    // "slots=8" is a host file's
    for (const std::string_view word : {"slots=", "max_slots=", "max-slots=", "user=", "port="})
      if (line.attributes.starts_with(word)) return false;
    if (line.attributes.find_first_not_of("0123456789") == line.attributes.npos) return false;  // LSF's "node 8"
    found = true;
  }
  return found;
}

Result<Genders> parse_genders(std::string_view text, const std::string& name) {
  Genders genders;
  std::set<std::string> seen;
  std::map<std::string, std::vector<std::string>, std::less<>> members;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const GendersLine line = take_genders_line(text);
    if (line.hosts.empty()) continue;
    const std::string where = fmt::format("{}:{}", name, number);
    const auto hosts = expand_hostlist(line.hosts);
    if (!hosts) return make_error(Errc::invalid_config, hosts.error().what, where, hosts.error().hint);
    if (line.attributes.find_first_of(" \t") != line.attributes.npos)
      return make_error(Errc::invalid_config, fmt::format("'{}' has a blank in it", line.attributes), where,
                        "attributes have commas between them");
    for (const std::string& host : *hosts) {
      if (!seen.insert(host).second) continue;
      if (genders.hosts.size() == kMaxHosts)
        return make_error(Errc::invalid_config, fmt::format("more than {} hosts", kMaxHosts), where);
      genders.hosts.push_back(host_named(host));
      genders.hosts.back().where = where;
    }
    for (std::size_t start = 0; start < line.attributes.size();) {
      const std::size_t end = std::min(line.attributes.find(',', start), line.attributes.size());
      std::string group(line.attributes.substr(start, end - start));
      std::replace(group.begin(), group.end(), '=', '-');
      start = end + 1;
      if (group.empty() || group.find('%') != group.npos) continue;
      for (const std::string& host : *hosts) members[group].push_back(host);
    }
  }
  for (const auto& [group, hosts] : members) genders.groups[group] = compress_hostlist(hosts);
  return genders;
}

}  // namespace llmlaunch::launcher
