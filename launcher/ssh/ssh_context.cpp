// Reads what ssh's files say, once for all hosts; see ssh_context.hpp. Their grammar is ssh_config.cpp's and
// known_hosts.cpp's.
#include "launcher/ssh/ssh_context.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launcher/ssh/host_lookup.hpp"
#include "launcher/ssh/jump_host.hpp"
#include "launcher/ssh/ssh_pattern.hpp"
#include "launcher/ssh/terminal.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/try_threads.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// ssh-agent signs one at a time. Some more hosts at it keep it busy while others wait for the network. Each holds a
// thread, and one more is for who waits for a person.
constexpr std::size_t kAgentPlaces = 8;

int family_of(AddressFamily family) {
  if (family == AddressFamily::any) return AF_UNSPEC;
  return family == AddressFamily::inet ? AF_INET : AF_INET6;
}

Result<Secret> ask_password() {
  auto typed = ask_before_all("Password for all hosts: ");
  if (!typed && typed.error().code == Errc::unsupported)
    return make_error(Errc::usage, "--ask-pass: there is no terminal to ask for a password at", {},
                      "run it in the foreground of a terminal, or sign in with a key: ssh-copy-id");
  if (typed && typed->empty()) return make_error(Errc::usage, "--ask-pass: no password was typed");
  return typed;
}

HostKeyPolicy policy_of(const SshSettings& settings, const HostSettings& host) {
  if (settings.host_key_policy) return *settings.host_key_policy;
  const bool accepts = host.host_key_checking == StrictHostKeyChecking::accept_new ||
                       host.host_key_checking == StrictHostKeyChecking::no;
  return accepts ? HostKeyPolicy::accept_new : HostKeyPolicy::strict;
}

}  // namespace

SshContext::SshContext(const LaunchPlan& plan, SshConfig config, LocalUser user, bool may_ask,
                       std::optional<Secret> password, std::size_t workers)
    : settings_(plan.ssh),
      timeouts_(plan.timeouts),
      config_(std::move(config)),
      user_(std::move(user)),
      agent_places_(kAgentPlaces),
      password_(std::move(password)),
      workers_(workers),
      threads_(tried_threads(kAgentPlaces + 1)),
      keys_(may_ask, threads_) {}

SshContext::~SshContext() = default;

Result<std::shared_ptr<SshContext>> SshContext::load(const LaunchPlan& plan, const Questions& questions,
                                                     std::size_t workers) {
  LocalUser user = local_user();
  auto config = SshConfig::load(config_files(plan.ssh.config_file, user.home), user);
  if (!config) {
    Error error = config.error();
    error.code = make_error_code(Errc::invalid_config);  // whatever is wrong with the file: it was to be another one
    return error;
  }
  for (const auto& note : config->notes()) log_warning("{}", note);
  std::optional<Secret> password;
  if (questions.ask_password) {
    auto typed = ask_password();
    if (!typed) return typed.error();
    password.emplace(std::move(*typed));
  }
  const bool may_ask = !questions.batch && has_terminal();
  std::shared_ptr<SshContext> context(
      new SshContext(plan, std::move(*config), std::move(user), may_ask, std::move(password), workers));
  context->host_keys_ = questions.host_keys;
  return context;
}

void SshContext::warn_once(const std::string& text) {
  if (warned_.insert(text).second) log_warning("{}", text);
}

// Once for all hosts that the same lines are for.
void SshContext::say_left_out(const HostSettings& found) {
  if (found.left_out.empty()) return;
  const std::string text =
      fmt::format("these lines of the ssh configuration change nothing here: {}", fmt::join(found.left_out, ", "));
  if (warned_.insert(text).second) log_info("{}", text);
}

std::string SshContext::expanded(const std::string& path) const {
  return expanded_path(path, user_);
}

Result<HostAccess> SshContext::access(const HostPlan& host) {
  HostSettings wanted = settings_of(config_, host);
  if (host.proxy_jump) {
    auto way = parse_proxy_jump(*host.proxy_jump);
    if (!way) return way.error();
    wanted.jumps = std::move(*way);
    wanted.proxy_command.clear();
    wanted.proxy_place = "llmlaunch.ssh.proxy_jump";
    std::erase_if(wanted.unsupported,
                  [](const auto& setting) { return lower_case(setting.keyword).starts_with("proxy"); });
  }
  return access_by(wanted, host.name);
}

Result<HostAccess> SshContext::access_jump(const std::vector<JumpStop>& way) {
  const JumpStop& last = way.back();
  HostSettings found = config_.for_host({last.host, last.user, last.port});
  if (way.size() > 1) {
    found.jumps.assign(way.begin(), way.end() - 1);
    found.proxy_command.clear();
  }
  // A key that is named for all hosts may be the jump host's as well; one that its own lines name goes first.
  if (found.identities_are_default && !settings_.identity_files.empty()) found.identity_files.clear();
  found.identity_files.insert(found.identity_files.end(), settings_.identity_files.begin(),
                              settings_.identity_files.end());
  found.identities_are_default = found.identities_are_default && settings_.identity_files.empty();
  return access_by(found, last.host);
}

// The first stop may itself be reached through others, as its own lines say.
Result<std::vector<JumpStop>> SshContext::whole_way(std::vector<JumpStop> way) const {
  while (!way.empty()) {
    const JumpStop first = way.front();
    const HostSettings found = config_.for_host({first.host, first.user, first.port});
    if (found.jumps.empty()) break;
    way.insert(way.begin(), found.jumps.begin(), found.jumps.end());
    if (way.size() > kMaxJumps)
      return make_error(Errc::invalid_config,
                        fmt::format("{}: the way to jump host {} leads through {}, and has no end", found.proxy_place,
                                    to_string(first), to_string(found.jumps)),
                        {},
                        fmt::format("leave the jump host out of the block that it stands in: Host * !{}", first.host));
  }
  return way;
}

Result<HostAccess> SshContext::access_by(const HostSettings& found, std::string name) {
  for (const auto& setting : found.unsupported) {
    if (setting.refuse)
      return make_error(Errc::unsupported, to_string(setting), {},
                        "give llmlaunch.ssh.config_file a file without it, or an 'address' that is reached directly");
    warn_once(to_string(setting));
  }
  say_left_out(found);
  HostAccess access;
  access.name = std::move(name);
  access.tcp.host = found.host_name;
  access.tcp.port = found.port;
  access.tcp.family = family_of(found.address_family);
  access.tcp.name_hint = "give the host an 'address' in the configuration";
  access.tcp.refused_hint = "no sshd listens there: start it, or give the right 'port' (or llmlaunch.ssh.port)";
  const bool own_default = timeouts_.connect == Timeouts{}.connect;
  access.tcp.timeout = own_default && found.connect_timeout ? *found.connect_timeout : timeouts_.connect;
  access.user = found.user;
  access.identities_only = found.identities_only;
  access.certificate_files = found.certificate_files;
  access.ask_nobody = found.batch_mode;
  if (settings_.use_agent) access.agent_path = found.identity_agent.value_or("");
  access.identity_files = found.identity_files;
  access.files_are_named = !found.identities_are_default;
  for (auto& file : access.identity_files) file = expanded(file);
  auto way = whole_way(found.jumps);
  if (!way) return way.error();
  access.jumps = std::move(*way);
  access.proxy_command = found.proxy_command;
  access.proxy_place = found.proxy_place;
  access.alive_limit = found.alive_limit;
  add_host_keys(found, access);
  return access;
}

void SshContext::add_host_keys(const HostSettings& found, HostAccess& access) const {
  std::vector<std::string> own =
      settings_.known_hosts_files.empty() ? found.user_known_hosts_files : settings_.known_hosts_files;
  for (auto& file : own) file = expanded(file);
  if (!own.empty()) access.new_keys_file = own.front();
  access.key_files = own;
  access.key_files.insert(access.key_files.end(), found.global_known_hosts_files.begin(),
                          found.global_known_hosts_files.end());
  const std::string alias = found.host_key_alias.value_or("");
  access.key_names.push_back(known_hosts_name(access.tcp.host, access.tcp.port, alias));
  const std::string typed = known_hosts_name(access.name, access.tcp.port, alias);
  if (typed != access.key_names.front()) access.key_names.push_back(typed);
  access.policy = policy_of(settings_, found);
  access.hash_names = found.hash_known_hosts.value_or(false);
}

std::shared_ptr<JumpHost> SshContext::jump_host(asio::any_io_executor executor, const std::vector<JumpStop>& way) {
  auto& jump = jump_hosts_[to_string(way)];
  if (!jump) jump = std::make_shared<JumpHost>(executor, way);
  return jump;
}

Result<KnownHosts*> SshContext::known_hosts(const std::vector<std::string>& files) {
  auto& known = known_hosts_[files];
  if (!known) {
    auto loaded = KnownHosts::load(files);
    if (!loaded) return loaded.error();
    known = std::make_unique<KnownHosts>(std::move(*loaded));
    for (const auto& note : known->notes()) log_debug("{}", note);
  }
  return known.get();
}

}  // namespace llmlaunch::launcher::ssh
