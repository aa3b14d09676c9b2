/// \file
/// Signs in on one host with the keys that its user has: keys of ssh-agent that belong to a named file first, then the
/// files, then the other keys of the agent; the order of ssh itself. The certificate of a key goes before the key. A
/// passphrase is asked for when the host would take the key; the password of `--ask-pass` is what comes last.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launcher/ssh/agent_client.hpp"
#include "launcher/ssh/session.hpp"
#include "launcher/ssh/ssh_context.hpp"

namespace llmlaunch::launcher::ssh {

class SignInAttempt {
 public:
  SignInAttempt(asio::any_io_executor executor, std::shared_ptr<Session> session, std::shared_ptr<SshContext> context,
                const HostAccess& access);

  /// Each key has `timeouts.connect`, from the moment on that its turn at ssh-agent has come. `Errc::unauthenticated`
  /// names every key that was tried or could not be used, and what the server accepts.
  asio::awaitable<Result<void>> run();

  /// Ends what waits for ssh-agent or for a person. Idempotent.
  void close();

  /// Somebody was asked meanwhile: sshd may have lost patience (LoginGraceTime).
  bool has_waited() const { return has_waited_; }

 private:
  asio::awaitable<void> ask_agent();
  asio::awaitable<Result<SignIn>> with_agent(bool named);
  asio::awaitable<Result<SignIn>> with_view(std::vector<AgentIdentity> shown);
  asio::awaitable<Result<SignIn>> with_file(const Identity& identity);
  asio::awaitable<Result<SignIn>> with_certificates(const Identity& identity);
  asio::awaitable<Result<SignIn>> with_key(ssh_key key, std::string label);
  asio::awaitable<Result<SignIn>> is_wanted(const Identity& identity);
  asio::awaitable<Result<SignIn>> with_password();
  void show_with_certificates(const AgentIdentity& key, std::vector<AgentIdentity>& shown);
  std::vector<std::string> certificates_of(const std::string& identity_file) const;
  Result<SignIn> in_time(const Deadline& deadline, Result<SignIn> answer);
  bool is_named(const AgentIdentity& key) const;
  Error refused() const;
  std::string refused_hint() const;
  std::string no_key_hint() const;

  asio::any_io_executor executor_;
  std::shared_ptr<Session> session_;
  std::shared_ptr<SshContext> context_;
  const HostAccess& access_;
  std::shared_ptr<AgentClient> agent_;  // the connection for signing, when it was needed
  std::vector<AgentIdentity> agent_keys_;
  std::vector<std::string> tried_;  // "/home/me/.ssh/id_ed25519", "key 'me@laptop' of ssh-agent"
  std::vector<std::string> unusable_;
  std::string password_answer_;  // what came of the password; empty: it was not sent
  bool has_waited_ = false;
  bool certified_ = false;  // a certificate was tried
  bool partial_ = false;
  bool closed_ = false;
};

}  // namespace llmlaunch::launcher::ssh
