// `llmlaunch:` — hosts with their ranges, ssh, environment, timeouts.
#include "launcher/config_llmlaunch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "launcher/config_process.hpp"
#include "launcher/config_schema.hpp"
#include "launcher/hostlist.hpp"
#include "launcher/proxy_jump.hpp"
#include "rendezvous/address_list.hpp"

namespace llmlaunch::launcher {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kNoHostsHint = "leave it out to run on this machine alone";

/// Expands a list; its error is placed at the node that holds it.
std::vector<std::string> expand_at(ConfigCheck& check, const YamlNode& at, const std::string& list) {
  auto names = expand_hostlist(list);
  if (names) return std::move(*names);
  check.fail(at.mark, names.error().what, names.error().hint);
  return {};
}

void check_name(ConfigCheck& check, const YamlNode& at, const HostConfig& host) {
  if (host.name.empty() || (host.user && host.user->empty()) || host.name.find('@') != host.name.npos) {
    check.fail(at.mark, fmt::format("'{}' is no host name: expected name or user@name",
                                    host.user ? *host.user + "@" + host.name : host.name));
  }
  if (host.name.find('%') != host.name.npos && host.name.find(':') == host.name.npos) {
    check.fail(at.mark, fmt::format("'%' cannot stand in a host name: '{}'", host.name));
  }
}

void read_plain_hosts(ConfigCheck& check, const YamlNode& item, Config& config) {
  for (const auto& name : expand_at(check, item, item.text)) {
    HostConfig host = host_named(name);
    check_name(check, item, host);
    host.where = check.place(item);
    config.hosts.push_back(std::move(host));
  }
}

/// The addresses of a mapping's hosts: one each, from a list of the same length.
std::vector<std::string> read_addresses(MapReader& host, std::size_t count, std::string_view name) {
  const YamlNode* node = host.find("address");
  const auto text = host.text("address");
  if (!node || !text) return {};
  auto addresses = expand_at(host.check(), *node, *text);
  if (addresses.size() != count && !host.check().error) {
    host.check().fail(node->mark, fmt::format("{} gives {} address{} for the {} host{} of '{}'",
                                              host.path_of("address"), addresses.size(),
                                              addresses.size() == 1 ? "" : "es", count, count == 1 ? "" : "s", name));
  }
  for (auto& address : addresses) {
    if (address.find('@') != address.npos || address.find("]:") != address.npos) {
      host.check().fail(node->mark,
                        fmt::format("{} holds more than an address: '{}'", host.path_of("address"), address),
                        "use the keys 'user' and 'port'");
    }
    if (address.starts_with('[')) address = address.substr(1, address.size() - 2);  // [2001:db8::1]
  }
  return addresses;
}

std::vector<std::string> read_identities(MapReader& map) {
  auto files = map.texts("identity_file");
  for (auto& file : map.texts("identity_files")) files.push_back(std::move(file));
  return files;
}

/// The jump hosts of a host or of all hosts, as they were written.
std::optional<std::string> read_proxy_jump(MapReader& map) {
  const auto text = map.text("proxy_jump");
  if (!text) return std::nullopt;
  if (const auto way = parse_proxy_jump(*text); !way) {
    map.check().fail(map.find("proxy_jump")->mark, fmt::format("{}: {}", map.path_of("proxy_jump"), way.error().what),
                     way.error().hint);
  }
  return text;
}

void read_host_mapping(ConfigCheck& check, const YamlNode& item, const std::string& path, Config& config) {
  MapReader map(check, item, path, keys_of(path));
  if (map.find("name") && map.find("host")) {
    check.fail(map.key_mark("host"), fmt::format("{} has both 'name' and 'host'", path), "they mean the same");
  }
  const std::string_view key = map.find("host") ? "host" : "name";
  const auto list = map.text(key);
  if (!list) {
    check.fail(item.mark, fmt::format("{} has no 'name'", path));
    return;
  }
  const auto names = expand_at(check, *map.find(key), *list);
  if (names.empty() && !check.error) check.fail(map.find(key)->mark, fmt::format("{} names no host", map.path_of(key)));
  HostConfig shared;
  shared.user = map.text("user");
  if (const auto port = map.integer("port", 1, 65535)) shared.port = static_cast<std::uint16_t>(*port);
  if (const auto slots = map.integer("slots", 1, kMaxSlots)) shared.slots = static_cast<std::uint32_t>(*slots);
  shared.identity_files = read_identities(map);
  shared.workdir = map.text("workdir");
  shared.env = map.env("env");
  shared.proxy_jump = read_proxy_jump(map);
  shared.rank_env = read_rank_env(map);
  shared.setup = read_setup(map);
  shared.gpu_ids = read_gpu_ids(map);
  shared.where = check.place(item);
  const auto addresses = read_addresses(map, names.size(), *list);
  if (check.error) return;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const HostConfig named = host_named(names[i]);
    HostConfig host = shared;
    host.name = named.name;
    if (!host.user) host.user = named.user;
    if (!host.port) host.port = named.port;
    check_name(check, item, host);
    if (!addresses.empty()) host.address = addresses[i];
    config.hosts.push_back(std::move(host));
  }
}

void check_duplicates(ConfigCheck& check, const std::vector<ConfigMark>& marks, const Config& config) {
  std::unordered_map<std::string_view, std::size_t> seen;
  for (std::size_t i = 0; i < config.hosts.size(); ++i) {
    const auto [other, added] = seen.emplace(config.hosts[i].name, i);
    if (added) continue;
    check.fail(marks[i], fmt::format("host '{}' is listed twice", config.hosts[i].name),
               fmt::format("first on line {}; for more ranks on one host set its 'slots'", marks[other->second].line));
    return;
  }
}

void read_hosts(ConfigCheck& check, const YamlNode& hosts, Config& config) {
  std::vector<ConfigMark> marks;  // of each host, for what is checked over all of them
  const auto read_item = [&](const YamlNode& item, const std::string& path) {
    if (item.kind == YamlNode::Kind::scalar) {
      read_plain_hosts(check, item, config);
    } else if (item.kind == YamlNode::Kind::mapping) {
      read_host_mapping(check, item, path, config);
    } else {
      check.fail(item.mark, fmt::format("{} must be a host name or a mapping with 'name'", path));
    }
    marks.resize(config.hosts.size(), item.mark);
    if (config.hosts.size() > kMaxHosts) check.fail(item.mark, fmt::format("more than {} hosts", kMaxHosts));
  };
  if (hosts.kind == YamlNode::Kind::sequence) {
    for (std::size_t i = 0; i < hosts.items.size() && !check.error; ++i) {
      read_item(hosts.items[i], fmt::format("llmlaunch.hosts[{}]", i));
    }
  } else {
    read_item(hosts, "llmlaunch.hosts");
  }
  if (config.hosts.empty()) check.fail(hosts.mark, "llmlaunch.hosts is empty", kNoHostsHint);
  if (!check.error) check_duplicates(check, marks, config);
}

/// Names for host expressions: "gpu: gpu[01-16]", a list of them, or null for nobody. They are read when they are used.
void read_groups(ConfigCheck& check, const YamlNode& groups, Config& config) {
  if (groups.kind != YamlNode::Kind::mapping)
    return check.fail(groups.mark, "llmlaunch.groups must be a mapping of names to hosts");
  for (std::size_t i = 0; i + 1 < groups.items.size(); i += 2) {
    const YamlNode& name = groups.items[i];
    const YamlNode& body = groups.items[i + 1];
    std::string text = body.text;
    bool good = body.kind != YamlNode::Kind::mapping && !name.text.empty();
    for (const YamlNode& item : body.items) {
      good = good && item.kind == YamlNode::Kind::scalar;
      text += (text.empty() ? "" : ",") + item.text;
    }
    if (!good)
      return check.fail(name.mark, fmt::format("llmlaunch.groups.{} must be a list of hosts", name.text),
                        "as in gpu: gpu[01-16]");
    config.groups.insert_or_assign(name.text, std::move(text));
  }
}

void read_ssh(ConfigCheck& check, const YamlNode& section, SshSettings& ssh) {
  MapReader map(check, section, "llmlaunch.ssh", keys_of("llmlaunch.ssh"));
  ssh.user = map.text("user");
  if (const auto port = map.integer("port", 1, 65535)) ssh.port = static_cast<std::uint16_t>(*port);
  ssh.identity_files = read_identities(map);
  ssh.config_file = map.text("config_file");
  ssh.known_hosts_files = map.texts("known_hosts_file");
  for (auto& file : map.texts("known_hosts_files")) ssh.known_hosts_files.push_back(std::move(file));
  if (const auto policy = map.text("host_key_policy")) {
    if (*policy == "strict") {
      ssh.host_key_policy = HostKeyPolicy::strict;
    } else if (*policy == "accept-new" || *policy == "accept_new") {
      ssh.host_key_policy = HostKeyPolicy::accept_new;
    } else {
      map.refuse("host_key_policy", *map.find("host_key_policy"), "strict or accept-new");
    }
  }
  ssh.use_agent = map.boolean("use_agent").value_or(ssh.use_agent);
  if (const auto fanout = map.integer("fanout", 1, kMaxFanout)) ssh.fanout = static_cast<std::uint32_t>(*fanout);
  ssh.proxy_jump = read_proxy_jump(map);
}

void read_timeouts(ConfigCheck& check, const YamlNode& section, Timeouts& timeouts) {
  MapReader map(check, section, "llmlaunch.timeouts", keys_of("llmlaunch.timeouts"));
  constexpr milliseconds kShortest{1};
  constexpr milliseconds kShortestHead{kShortestHeadMs};
  timeouts.connect = map.duration("connect", kShortest).value_or(timeouts.connect);
  timeouts.start = map.duration("start", kShortest).value_or(timeouts.start);
  timeouts.rendezvous = map.duration("rendezvous", kShortest).value_or(timeouts.rendezvous);
  timeouts.grace = map.duration("grace", milliseconds{0}).value_or(timeouts.grace);
  timeouts.head = map.duration("head", kShortestHead).value_or(timeouts.head);
  timeouts.run = map.duration("run", kShortest);
}

void read_rendezvous(ConfigCheck& check, const YamlNode& section, Config& config) {
  MapReader map(check, section, "llmlaunch.rendezvous", keys_of("llmlaunch.rendezvous"));
  if (const auto via = map.text("via")) {
    if (*via != "direct" && *via != "ssh") map.refuse("via", *map.find("via"), "direct or ssh");
    config.rendezvous_via = *via == "ssh" ? RendezvousWay::ssh : RendezvousWay::direct;
    config.places.emplace("llmlaunch.rendezvous.via", check.source.origin_of(map.find("via")->mark));
  }
  config.use_agent_store = map.boolean("use_agent_store").value_or(config.use_agent_store);
  config.store_allow_from = map.texts("allow_from");
  rendezvous::AddressList list;
  for (std::size_t i = 0; i < config.store_allow_from.size(); ++i) {
    if (list.add(config.store_allow_from[i])) continue;
    const YamlNode& value = *map.find("allow_from");
    const YamlNode& item = value.kind == YamlNode::Kind::sequence ? value.items[i] : value;
    map.refuse("allow_from", item, "addresses (10.0.0.7, fd00::7) or networks (10.1.0.0/16)");
  }
}

}  // namespace

HostConfig host_named(std::string_view written) {
  HostConfig host;
  if (const auto sign = written.find('@'); sign != written.npos) {
    host.user = written.substr(0, sign);
    written.remove_prefix(sign + 1);
  }
  if (written.starts_with('[')) {  // an IPv6 literal: expand_hostlist lets nothing else through
    const auto close = std::min(written.find(']'), written.size() - 1);
    const auto port = parse_integer(written.substr(std::min(close + 2, written.size())));
    if (port && *port >= 1 && *port <= 65535) host.port = static_cast<std::uint16_t>(*port);
    written = written.substr(1, close - 1);
  }
  host.name = written;
  return host;
}

void read_llmlaunch_section(ConfigCheck& check, const YamlNode& section, Config& config) {
  const auto keys = keys_of("llmlaunch");
  MapReader map(check, section, "llmlaunch", keys);
  for (const std::string_view key : keys) {
    const ConfigMark mark = map.key_mark(key);
    if (mark.line != 0) config.places.emplace(map.path_of(key), check.source.origin_of(mark));
  }
  if (const YamlNode* hosts = map.find("hosts")) {
    read_hosts(check, *hosts, config);
  } else if (const ConfigMark key = map.key_mark("hosts"); key.line != 0) {
    // Hosts that are all commented out: never a quiet run on this machine.
    check.fail(key, "llmlaunch.hosts is empty", kNoHostsHint);
  }
  if (const YamlNode* groups = map.find("groups")) read_groups(check, *groups, config);
  if (const YamlNode* ssh = map.find("ssh")) read_ssh(check, *ssh, config.ssh);
  config.env = map.env("env");
  read_forward_env(map, config);
  read_process_settings(map, config);
  config.workdir = map.text("workdir");
  config.python = map.text("python");
  config.token_file = map.text("token_file");
  config.log_dir = map.text("log_dir").value_or(config.log_dir);
  if (const YamlNode* logs = map.find("logs")) read_logs(check, *logs, config);
  if (const YamlNode* own = map.find("rendezvous")) read_rendezvous(check, *own, config);
  if (const YamlNode* timeouts = map.find("timeouts")) read_timeouts(check, *timeouts, config.timeouts);
}

}  // namespace llmlaunch::launcher
