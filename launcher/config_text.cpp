// Writes configurations. Hosts that stand beside each other and are told the same things become one range again.
#include "launcher/config_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "launcher/hostlist.hpp"

namespace llmlaunch::launcher {
namespace {

/// A text below `llmlaunch:`, where ${VAR} begins a reference and $$ is one dollar; not for lines of `setup`.
std::string config_value(std::string_view text) {
  std::string doubled;
  for (const char c : text) doubled.append(c == '$' ? 2 : 1, c);
  return config_scalar(doubled);
}

bool is_word_of_yaml(std::string_view text) {
  constexpr std::array<std::string_view, 12> kWords{"y",    "n",     "yes",  "no", "on",   "off",
                                                    "true", "false", "null", "~",  ".inf", ".nan"};
  std::string small(text);
  std::transform(small.begin(), small.end(), small.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return std::find(kWords.begin(), kWords.end(), small) != kWords.end();
}

bool is_plain_scalar(std::string_view text) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  constexpr std::string_view kOthers = "0123456789_./-";
  if (text.empty() || is_word_of_yaml(text)) return false;
  const bool begins = kLetters.find(text.front()) != kLetters.npos || text.front() == '/' || text.starts_with("~/");
  const auto fits = [&](char c) { return kLetters.find(c) != kLetters.npos || kOthers.find(c) != kOthers.npos; };
  return begins && std::all_of(text.begin() + (text.front() == '~' ? 1 : 0), text.end(), fits);
}

std::string list_of(const std::vector<std::string>& texts) {
  std::string list;
  for (const auto& text : texts) list += (list.empty() ? "" : ", ") + config_scalar(text);
  return "[" + list + "]";
}

std::string map_of(const EnvList& env) {
  std::string map;
  for (const auto& [name, value] : env)
    map += fmt::format("{}{}: {}", map.empty() ? "" : ", ", config_scalar(name), config_value(value));
  return "{" + map + "}";
}

std::string in_list(const std::string& name) {
  return name.find(':') == name.npos ? name : "[" + name + "]";  // IPv6
}

// What a host is told beside its name, as the keys of a flow mapping.
std::string host_lines(const HostConfig& host) {
  std::string keys;
  const auto add = [&keys](std::string_view key, const std::string& value) {
    keys += fmt::format(", {}: {}", key, value);
  };
  if (host.address) add("address", config_value(*host.address));
  if (host.user) add("user", config_value(*host.user));
  if (host.port) add("port", std::to_string(*host.port));
  if (host.slots) add("slots", std::to_string(*host.slots));
  if (host.identity_files.size() == 1) add("identity_file", config_value(host.identity_files.front()));
  if (host.identity_files.size() > 1) add("identity_files", list_of(host.identity_files));
  if (host.workdir) add("workdir", config_value(*host.workdir));
  if (host.proxy_jump) add("proxy_jump", config_scalar(*host.proxy_jump));
  if (host.gpu_ids) add("gpu_ids", config_scalar(*host.gpu_ids));
  if (!host.env.empty()) add("env", map_of(host.env));
  if (!host.rank_env.empty()) add("rank_env", map_of(host.rank_env));
  if (!host.setup.empty()) add("setup", list_of(host.setup));
  return keys;
}

std::string hosts_text(const std::vector<HostConfig>& hosts) {
  std::string text;
  for (std::size_t i = 0; i < hosts.size();) {
    const std::string keys = host_lines(hosts[i]);
    std::vector<std::string> names{in_list(hosts[i].name)};
    const bool single = hosts[i].address || names.front() != hosts[i].name;  // an address belongs to one host
    for (++i; !single && i < hosts.size() && host_lines(hosts[i]) == keys && in_list(hosts[i].name) == hosts[i].name;
         ++i)
      names.push_back(hosts[i].name);
    const std::string name = config_scalar(single ? names.front() : compress_hostlist(names));
    text += keys.empty() ? fmt::format("    - {}\n", name) : fmt::format("    - {{name: {}{}}}\n", name, keys);
  }
  return text;
}

std::string ssh_text(const SshSettings& ssh) {
  std::string text;
  const auto add = [&text](std::string_view key, const std::string& value) {
    text += fmt::format("    {}: {}\n", key, value);
  };
  if (ssh.user) add("user", config_value(*ssh.user));
  if (ssh.port) add("port", std::to_string(*ssh.port));
  if (ssh.identity_files.size() == 1) add("identity_file", config_value(ssh.identity_files.front()));
  if (ssh.identity_files.size() > 1) add("identity_files", list_of(ssh.identity_files));
  if (ssh.config_file) add("config_file", config_value(*ssh.config_file));
  if (!ssh.known_hosts_files.empty()) add("known_hosts_files", list_of(ssh.known_hosts_files));
  if (ssh.host_key_policy)
    add("host_key_policy", *ssh.host_key_policy == HostKeyPolicy::strict ? "strict" : "accept-new");
  if (!ssh.use_agent) add("use_agent", "false");
  if (ssh.fanout) add("fanout", std::to_string(*ssh.fanout));
  if (ssh.proxy_jump) add("proxy_jump", config_scalar(*ssh.proxy_jump));
  return text.empty() ? text : "  ssh:\n" + text;
}

std::string rendezvous_text(const Config& config) {
  std::string text;
  if (config.rendezvous_via == RendezvousWay::ssh) text += "    via: ssh\n";
  if (!config.use_agent_store) text += "    use_agent_store: false\n";
  if (!config.store_allow_from.empty()) text += fmt::format("    allow_from: {}\n", list_of(config.store_allow_from));
  return text.empty() ? text : "  rendezvous:\n" + text;
}

std::string env_text(std::string_view key, const EnvList& env) {
  if (env.empty()) return {};
  std::string text = fmt::format("  {}:\n", key);
  for (const auto& [name, value] : env) text += fmt::format("    {}: {}\n", config_scalar(name), config_value(value));
  return text;
}

}  // namespace

std::string config_scalar(std::string_view text) {
  if (is_plain_scalar(text)) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') quoted += '\\';
    if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string llmlaunch_section(const Config& config) {
  std::string text;
  if (!config.hosts.empty()) text += "  hosts:\n" + hosts_text(config.hosts);
  if (!config.groups.empty()) {
    text += "  groups:\n";
    for (const auto& [name, hosts] : config.groups)
      text += fmt::format("    {}: {}\n", config_scalar(name), config_scalar(hosts));
  }
  text += ssh_text(config.ssh) + env_text("env", config.env) + env_text("rank_env", config.rank_env);
  if (!config.forward_env.empty()) text += fmt::format("  forward_env: {}\n", list_of(config.forward_env));
  if (!config.process.setup.empty()) text += fmt::format("  setup: {}\n", list_of(config.process.setup));
  if (config.workdir) text += fmt::format("  workdir: {}\n", config_value(*config.workdir));
  text += rendezvous_text(config);
  if (config.log_dir != Config{}.log_dir) text += fmt::format("  log_dir: {}\n", config_value(config.log_dir));
  return text.empty() ? text : "llmlaunch:\n" + text;
}

std::string config_text(const Config& config, const std::string& comment) {
  std::string text;
  for (std::string_view rest = comment; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    text += fmt::format("# {}\n", line);
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  text += "compute_environment: LOCAL_MACHINE\n";
  text += fmt::format("distributed_type: {}\n", config.distributed_type == "NO" ? "\"NO\"" : config.distributed_type);
  text += fmt::format("mixed_precision: {}\n", config_scalar(config.mixed_precision));
  text += fmt::format("use_cpu: {}\n", config.use_cpu);
  text += fmt::format("num_machines: {}\n", config.num_machines.value_or(1));
  text += fmt::format("num_processes: {}\n", config.num_processes.value_or(1));
  text += "machine_rank: 0\n";
  if (config.main_process_ip) text += fmt::format("main_process_ip: {}\n", config_scalar(*config.main_process_ip));
  if (config.main_process_port != 0) text += fmt::format("main_process_port: {}\n", config.main_process_port);
  if (config.gpu_ids) text += fmt::format("gpu_ids: {}\n", config_scalar(*config.gpu_ids));
  if (config.debug) text += "debug: true\n";
  if (config.enable_cpu_affinity) text += "enable_cpu_affinity: true\n";
  text += "main_training_function: main\n";
  const std::string own = llmlaunch_section(config);
  return own.empty() ? text : text + "\n" + own;
}

}  // namespace llmlaunch::launcher
