// Reads what ssh's files say, once for all hosts; see ssh_context.hpp. Their grammar is ssh_config.cpp's and
// known_hosts.cpp's.
#include "launcher/ssh/ssh_context.hpp"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include "rendezvous/base/log.hpp"

extern char** environ;

namespace llmlaunch::launcher::ssh {
namespace {

// ssh-agent signs one at a time. Some more hosts at it keep it busy while others wait for the network.
constexpr std::size_t kAgentPlaces = 8;

int no_prompt(const char*, char*, std::size_t, int, int, void*) {
  return -1;
}

EnvList own_environment() {
  EnvList entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals != text.npos) entries.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return entries;
}

// Cron and containers may lack HOME or USER; the password file knows both.
LocalUser local_user() {
  LocalUser user;
  const char* home = std::getenv("HOME");
  if (home != nullptr) user.home = home;
  if (const passwd* entry = ::getpwuid(::getuid()); entry != nullptr) {
    user.name = entry->pw_name;
    if (user.home.empty()) user.home = entry->pw_dir;
  }
  user.environment = own_environment();
  return user;
}

KeyHandle public_key_beside(const std::string& path) {
  ssh_key key = nullptr;
  const bool read = ssh_pki_import_pubkey_file((path + ".pub").c_str(), &key) == SSH_OK;
  return KeyHandle(read ? key : nullptr);
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line(256, '\0');
  file.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<std::size_t>(file.gcount()));
  return line.substr(0, line.find('\n'));
}

// Why libssh could not read it, as far as its beginning tells.
std::string problem_of(std::string_view beginning) {
  if (beginning.find("PRIVATE KEY") != beginning.npos)
    return "it has a passphrase, and nobody is asked: ssh-add it, llmlaunch signs in through ssh-agent";
  for (const char* type : {"ssh-", "ecdsa-", "sk-"})
    if (beginning.starts_with(type)) return "this is a public key: name the private one beside it";
  return "it is no private key";
}

HostKeyPolicy policy_of(const SshSettings& settings, const HostSettings& host) {
  if (settings.host_key_policy) return *settings.host_key_policy;
  const bool accepts = host.host_key_checking == StrictHostKeyChecking::accept_new ||
                       host.host_key_checking == StrictHostKeyChecking::no;
  return accepts ? HostKeyPolicy::accept_new : HostKeyPolicy::strict;
}

}  // namespace

SshContext::SshContext(const LaunchPlan& plan, SshConfig config, LocalUser user)
    : settings_(plan.ssh),
      timeouts_(plan.timeouts),
      config_(std::move(config)),
      user_(std::move(user)),
      agent_places_(kAgentPlaces),
      threads_(kAgentPlaces) {}

Result<std::shared_ptr<SshContext>> SshContext::load(const LaunchPlan& plan) {
  LocalUser user = local_user();
  auto config = SshConfig::load(config_files(plan.ssh.config_file, user.home), user);
  if (!config) {
    Error error = config.error();
    error.code = make_error_code(Errc::invalid_config);  // whatever is wrong with the file: it was to be another one
    return error;
  }
  for (const auto& note : config->notes()) log_warning("{}", note);
  return std::shared_ptr<SshContext>(new SshContext(plan, std::move(*config), std::move(user)));
}

void SshContext::warn_once(const std::string& text) {
  if (warned_.insert(text).second) log_warning("{}", text);
}

std::string SshContext::expanded(const std::string& path) const {
  return path == "~" || path.starts_with("~/") ? user_.home + path.substr(1) : path;
}

Result<HostAccess> SshContext::access(const HostPlan& host) {
  HostSettings found = config_.for_host({host.name, host.user, host.port});
  for (const auto& setting : found.unsupported) {
    if (setting.refuse)
      return make_error(Errc::unsupported, to_string(setting), {},
                        "give llmlaunch.ssh.config_file a file without it, or an 'address' that is reached directly");
    warn_once(to_string(setting));
  }
  HostAccess access;
  // An address in llmlaunch's own configuration is more to the point than HostName.
  access.tcp.host = host.address.empty() || host.address == host.name ? found.host_name : host.address;
  access.tcp.port = found.port;
  access.tcp.family = found.address_family;
  const bool own_default = timeouts_.connect == Timeouts{}.connect;
  access.tcp.timeout = own_default && found.connect_timeout ? *found.connect_timeout : timeouts_.connect;
  access.user = found.user;
  access.identities_only = found.identities_only;
  if (settings_.use_agent) access.agent_path = found.identity_agent.value_or("");

  access.identity_files = host.identity_files.empty() ? found.identity_files : host.identity_files;
  access.files_are_named = !host.identity_files.empty() || !found.identities_are_default;
  for (auto& file : access.identity_files) file = expanded(file);

  std::vector<std::string> own =
      settings_.known_hosts_files.empty() ? found.user_known_hosts_files : settings_.known_hosts_files;
  for (auto& file : own) file = expanded(file);
  if (!own.empty()) access.new_keys_file = own.front();
  access.key_files = own;
  access.key_files.insert(access.key_files.end(), found.global_known_hosts_files.begin(),
                          found.global_known_hosts_files.end());
  const std::string alias = found.host_key_alias.value_or("");
  access.key_names.push_back(known_hosts_name(access.tcp.host, access.tcp.port, alias));
  const std::string typed = known_hosts_name(host.name, access.tcp.port, alias);
  if (typed != access.key_names.front()) access.key_names.push_back(typed);
  access.policy = policy_of(settings_, found);
  access.hash_names = found.hash_known_hosts.value_or(false);
  return access;
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

// --- ssh-agent -----------------------------------------------------------------------------------------------------

asio::awaitable<bool> SshContext::take_agent_place(asio::any_io_executor executor, const bool& canceled) {
  if (!agent_line_) agent_line_.emplace(executor);
  while (agent_places_ == 0 && !canceled) {
    agent_line_->expires_at(std::chrono::steady_clock::time_point::max());
    co_await agent_line_->async_wait(await_tuple);
  }
  if (canceled) co_return false;
  --agent_places_;
  co_return true;
}

void SshContext::give_agent_place() {
  ++agent_places_;
  wake_agent_line();
}

void SshContext::wake_agent_line() {
  if (agent_line_) agent_line_->cancel();
}

void SshContext::give_up_agent(const std::string& path, const Error& error) {
  if (agents_given_up_.insert(path).second) log_warning("{}; going on without it", error.what);
}

// --- keys ----------------------------------------------------------------------------------------------------------

const Identity& SshContext::identity(const std::string& path) {
  const auto [at, added] = identities_.try_emplace(path);
  Identity& identity = at->second;
  if (!added) return identity;
  identity.path = path;
  if (const KeyHandle beside = public_key_beside(path)) identity.public_blob = public_blob(beside.get());
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    identity.missing = errno == ENOENT || errno == ENOTDIR;
    identity.problem = identity.missing ? "no such file" : std::generic_category().message(errno);
    return identity;
  }
  ssh_key key = nullptr;
  const bool readable = ssh_pki_import_privkey_file(path.c_str(), nullptr, no_prompt, nullptr, &key) == SSH_OK;
  KeyHandle owned(readable ? key : nullptr);
  if (!readable && ::access(path.c_str(), R_OK) != 0) {
    identity.problem = std::generic_category().message(errno);
    return identity;
  }
  if (!readable) {
    identity.problem = problem_of(first_line(path));
    return identity;
  }
  // As ssh: a private key that others can read is no private key.
  if (info.st_uid == ::getuid() && (info.st_mode & 077) != 0) {
    identity.problem = fmt::format("others may read it (mode {:04o}): chmod 600 {}", info.st_mode & 07777, path);
    return identity;
  }
  keys_.push_back(std::move(owned));
  identity.key = key;
  identity.public_blob = public_blob(key);
  return identity;
}

}  // namespace llmlaunch::launcher::ssh
