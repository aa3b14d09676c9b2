/// \file
/// What all ssh sessions of one launch share: ~/.ssh/config, known_hosts, keys and passwords, each read once; and what
/// these say about one host. All calls from the thread of the event loop.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launcher/plan.hpp"
#include "launcher/ssh/agent_keys.hpp"
#include "launcher/ssh/key_ring.hpp"
#include "launcher/ssh/known_hosts.hpp"
#include "launcher/ssh/places.hpp"
#include "launcher/ssh/secret.hpp"
#include "launcher/ssh/ssh_config.hpp"
#include "launcher/ssh/ssh_shell.hpp"
#include "launcher/ssh/workers.hpp"
#include "launcher/tcp_connect.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

class JumpHost;

/// How to reach one host, or one jump host, and sign in there.
struct HostAccess {
  std::string name;  ///< for messages
  TcpTarget tcp;
  std::string user;
  std::vector<std::string> identity_files;
  bool files_are_named = false;  ///< by the user, so that a missing file is worth a word
  bool identities_only = false;
  std::vector<std::string> certificate_files;  ///< named; beside them those that lie next to an identity file
  bool ask_nobody = false;                     ///< BatchMode
  std::string agent_path;                      ///< ssh-agent's socket; empty: none is asked
  std::vector<std::string> key_names;          ///< names to look up in known_hosts
  std::vector<std::string> key_files;          ///< known_hosts files; the first one takes new keys
  std::string new_keys_file;                   ///< empty: new keys are not written down
  HostKeyPolicy policy = HostKeyPolicy::strict;
  bool hash_names = false;
  /// The way there, see `HostSettings`: at most one of the two.
  std::vector<JumpStop> jumps;
  std::string proxy_command;
  std::string proxy_place;
  std::optional<std::chrono::milliseconds> alive_limit;
};

class SshContext {
 public:
  /// Reads the ssh configuration for the hosts of this plan. Errors name file and line.
  /// `Errc::usage`: a password is to be asked for, and there is no terminal.
  static Result<std::shared_ptr<SshContext>> load(const LaunchPlan& plan, const Questions& questions,
                                                  std::size_t workers);
  ~SshContext();
  SshContext(const SshContext&) = delete;
  SshContext& operator=(const SshContext&) = delete;

  /// `Errc::unsupported` when ~/.ssh/config asks for something that we do not do and must not leave out.
  Result<HostAccess> access(const HostPlan& host);
  /// The same for the last host of a way. The other stops lead to it; the first one's own configuration says how it is
  /// reached.
  Result<HostAccess> access_jump(const std::vector<JumpStop>& way);
  /// The one session to the last host of this way, for all hosts behind it.
  std::shared_ptr<JumpHost> jump_host(asio::any_io_executor executor, const std::vector<JumpStop>& way);

  /// The known_hosts of these files, loaded once.
  Result<KnownHosts*> known_hosts(const std::vector<std::string>& files);

  KeyRing& keys() { return keys_; }
  /// What was typed for `--ask-pass`; null without it. Wiped with the context, at the end of the launch.
  const Secret* password() const { return password_ ? &*password_ : nullptr; }

  /// Where calls run that wait for ssh-agent, for a file's lock or for a person.
  asio::thread_pool& threads() { return threads_; }

  /// Where sessions live.
  Workers& workers() { return workers_; }

  /// At ssh-agent, which signs one thing at a time: hosts that stand in line are not slow.
  Places& agent_places() { return agent_places_; }
  AgentKeys& agent_keys() { return agent_keys_; }

  /// May be null.
  HostKeyDesk* host_keys() const { return host_keys_; }

  const Timeouts& timeouts() const { return timeouts_; }

 private:
  SshContext(const LaunchPlan& plan, SshConfig config, LocalUser user, bool may_ask, std::optional<Secret> password,
             std::size_t workers);
  void warn_once(const std::string& text);
  void say_left_out(const HostSettings& found);
  Result<HostAccess> access_by(const HostSettings& found, std::string name);
  Result<std::vector<JumpStop>> whole_way(std::vector<JumpStop> way) const;
  void add_host_keys(const HostSettings& found, HostAccess& access) const;
  std::string expanded(const std::string& path) const;

  SshSettings settings_;
  Timeouts timeouts_;
  SshConfig config_;
  LocalUser user_;
  std::map<std::vector<std::string>, std::unique_ptr<KnownHosts>> known_hosts_;
  std::set<std::string> warned_;
  std::map<std::string, std::shared_ptr<JumpHost>> jump_hosts_;
  Places agent_places_;
  AgentKeys agent_keys_;
  std::optional<Secret> password_;
  HostKeyDesk* host_keys_ = nullptr;
  Workers workers_;
  asio::thread_pool threads_;  // may hand a session back to its worker: gone before those
  KeyRing keys_;
};

}  // namespace llmlaunch::launcher::ssh
