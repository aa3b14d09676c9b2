// Asks ssh_config.cpp with what a plan knows; see host_lookup.hpp.
#include "launcher/ssh/host_lookup.hpp"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "rendezvous/base/home.hpp"

extern char** environ;

namespace llmlaunch::launcher::ssh {
namespace {

EnvList own_environment() {
  EnvList entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals != text.npos) entries.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return entries;
}

}  // namespace

// Cron and containers may lack USER; the password file knows it.
LocalUser local_user() {
  LocalUser user;
  user.home = home_directory();
  if (const passwd* entry = ::getpwuid(::getuid()); entry != nullptr) user.name = entry->pw_name;
  user.environment = own_environment();
  return user;
}

HostSettings settings_of(const SshConfig& config, const HostPlan& host) {
  HostQuery query{host.name, host.user, host.port};
  if (!host.address.empty() && host.address != host.name) query.address = host.address;
  HostSettings settings = config.for_host(query);
  if (host.identity_files.empty()) return settings;
  settings.identity_files = host.identity_files;
  settings.identities_are_default = false;
  return settings;
}

std::string expanded_path(const std::string& path, const LocalUser& user) {
  return path == "~" || path.starts_with("~/") ? user.home + path.substr(1) : path;
}

}  // namespace llmlaunch::launcher::ssh
