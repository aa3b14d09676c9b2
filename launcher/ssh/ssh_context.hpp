/// \file
/// What all ssh sessions of one launch share: ~/.ssh/config, known_hosts and private keys, each read once; and what
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
#include "launcher/ssh/known_hosts.hpp"
#include "launcher/ssh/libssh.hpp"
#include "launcher/ssh/ssh_config.hpp"
#include "launcher/ssh/tcp_connect.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

/// A private key file. Read at its first use; the key stays with the context.
struct Identity {
  std::string path;
  ssh_key key = nullptr;  ///< null when the file has no key that can be used as it is, see `problem`
  Bytes public_blob;      ///< also of a key with a passphrase, when its .pub file is there
  std::string problem;    ///< "needs a passphrase", "no such file"
  bool missing = false;
};

/// How to reach one host and sign in there.
struct HostAccess {
  TcpTarget tcp;
  std::string user;
  std::vector<std::string> identity_files;
  bool files_are_named = false;  ///< by the user, so that a missing file is worth a word
  bool identities_only = false;
  std::string agent_path;              ///< ssh-agent's socket; empty: none is asked
  std::vector<std::string> key_names;  ///< names to look up in known_hosts
  std::vector<std::string> key_files;  ///< known_hosts files; the first one takes new keys
  std::string new_keys_file;           ///< empty: new keys are not written down
  HostKeyPolicy policy = HostKeyPolicy::strict;
  bool hash_names = false;
};

class SshContext {
 public:
  /// Reads the ssh configuration for the hosts of this plan. Errors name file and line.
  static Result<std::shared_ptr<SshContext>> load(const LaunchPlan& plan);

  /// `Errc::unsupported` when ~/.ssh/config asks for something that we do not do and must not leave out.
  Result<HostAccess> access(const HostPlan& host);

  /// The known_hosts of these files, loaded once.
  Result<KnownHosts*> known_hosts(const std::vector<std::string>& files);

  const Identity& identity(const std::string& path);

  /// Where calls run that wait for ssh-agent or for a file's lock.
  asio::thread_pool& threads() { return threads_; }

  /// Waits for one of the places at ssh-agent, which signs one thing at a time: hosts that stand in line are not slow.
  /// False when `canceled` became true meanwhile. Give the place back.
  asio::awaitable<bool> take_agent_place(asio::any_io_executor executor, const bool& canceled);
  void give_agent_place();
  /// Those who wait look at their `canceled` again.
  void wake_agent_line();

  /// An agent that did not answer is not asked again in this launch. Says so once.
  void give_up_agent(const std::string& path, const Error& error);
  bool agent_given_up(const std::string& path) const { return agents_given_up_.contains(path); }

  const Timeouts& timeouts() const { return timeouts_; }

 private:
  SshContext(const LaunchPlan& plan, SshConfig config, LocalUser user);
  void warn_once(const std::string& text);
  std::string expanded(const std::string& path) const;

  SshSettings settings_;
  Timeouts timeouts_;
  SshConfig config_;
  LocalUser user_;
  std::map<std::vector<std::string>, std::unique_ptr<KnownHosts>> known_hosts_;
  std::map<std::string, Identity> identities_;
  std::vector<KeyHandle> keys_;
  std::set<std::string> warned_;
  std::set<std::string> agents_given_up_;
  std::size_t agent_places_;
  std::optional<asio::steady_timer> agent_line_;
  asio::thread_pool threads_;
};

}  // namespace llmlaunch::launcher::ssh
