/// \file
/// The way in to one sshd, a host's or a jump host's: reach it, wait for its banner, exchange keys, check its key, sign
/// in. Each step has its own deadline, and its failure says which one it was. Used by the ssh shell and by `JumpHost`.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/remote.hpp"
#include "launcher/ssh/session.hpp"
#include "launcher/ssh/sign_in.hpp"
#include "launcher/ssh/ssh_context.hpp"
#include "launcher/tcp_connect.hpp"

namespace llmlaunch::launcher::ssh {

class JumpHost;
class ProxyCommand;

class Login : public std::enable_shared_from_this<Login> {
 public:
  /// For lines of banners, and of a ProxyCommand's stderr.
  using Noise = std::function<void(std::string_view line)>;

  /// Called with each step that is reached; may be empty.
  using Steps = std::function<void(OpenStep step)>;

  Login(asio::any_io_executor executor, std::shared_ptr<SshContext> context, Noise noise, Steps steps = nullptr);
  ~Login() { close(); }
  Login(const Login&) = delete;
  Login& operator=(const Login&) = delete;

  /// Before `run`: the thread that the session lives on when it is reached directly; null for the event loop's. What
  /// leads through a jump host or a command stays on the loop, with the jump host's own session.
  void live_on(std::shared_ptr<asio::io_context> worker) { worker_ = std::move(worker); }

  /// Once. Errors have no `where`, or that of a jump host that failed.
  asio::awaitable<Result<std::shared_ptr<Session>>> run(HostAccess access);

  /// Ends all: `run` gives `Errc::canceled`, and so does what uses the session. Idempotent.
  void close();

  OpenStep step() const { return step_; }

 private:
  void enter(OpenStep step);
  asio::awaitable<Result<void>> all_steps();
  asio::awaitable<Result<Transport>> reach();
  asio::awaitable<Result<Transport>> reach_directly();
  asio::awaitable<Result<Transport>> reach_through_jump();
  Result<Transport> reach_through_command();
  Result<void> make_session(Transport transport);
  asio::awaitable<Result<void>> within(std::string doing, asio::awaitable<Result<void>> step);
  asio::awaitable<Result<void>> check_host_key();
  bool is_accepted(const HostKeyQuestion& question) const;
  asio::awaitable<Result<void>> accept_host_key(const HostKeyQuestion& question, KnownHosts& known);
  asio::awaitable<Result<void>> sign_in();
  asio::awaitable<Error> with_end_of_command(Error error);
  Error canceled() const;

  asio::any_io_executor executor_;
  std::shared_ptr<SshContext> context_;
  Noise noise_;
  Steps steps_;
  HostAccess access_;
  std::shared_ptr<asio::io_context> worker_;
  std::shared_ptr<TcpConnector> connector_;
  std::shared_ptr<JumpHost> jump_;
  std::optional<Place> place_;  // at the jump host, until we have signed in
  std::shared_ptr<ProxyCommand> command_;
  std::shared_ptr<Session> session_;
  std::optional<SignInAttempt> signing_in_;
  bool asked_somebody_ = false;
  OpenStep step_ = OpenStep::waiting;
  bool closed_ = false;
};

}  // namespace llmlaunch::launcher::ssh
