/// \file
/// A jump host: one signed-in session that all hosts behind it share. It is made when the first of them wants it and
/// closed when the last one has left. `SshContext` has one for each way. All calls from the thread of the event loop.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/proxy_jump.hpp"
#include "launcher/ssh/forwards.hpp"
#include "launcher/ssh/places.hpp"
#include "launcher/ssh/transport.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

class Login;
class SshContext;

/// Hosts behind one jump host that have not signed in yet: each of them costs it a connection, and the time of two key
/// exchanges goes over one.
inline constexpr std::size_t kJumpPlaces = 8;
/// A jump host that failed is not asked again for so long: all hosts behind it fail for this one reason, and at once.
inline constexpr std::chrono::seconds kJumpFailureHolds{5};
/// Tries when sshd drops connections before the key exchange (MaxStartups).
inline constexpr int kMaxJumpAttempts = 6;

class JumpHost : public std::enable_shared_from_this<JumpHost> {
 public:
  /// `way`: the jump hosts before it, and this one as the last.
  JumpHost(asio::any_io_executor executor, std::vector<JumpStop> way);
  ~JumpHost();
  JumpHost(const JumpHost&) = delete;
  JumpHost& operator=(const JumpHost&) = delete;

  /// For who has not signed in yet behind it.
  Places& places() { return places_; }

  /// A connection from it to `target`. Errors that are the jump host's say so in `where` ("jump host bastion") and are
  /// the same for all who wait. `Errc::canceled` when `canceled` became true, see `wake`.
  asio::awaitable<Result<Transport>> connect_to(std::shared_ptr<SshContext> context, TcpTarget target,
                                                const bool& canceled);
  /// Those who wait look at their `canceled` again.
  void wake();

 private:
  class User;
  static asio::awaitable<void> open(std::shared_ptr<JumpHost> self, std::shared_ptr<SshContext> context);
  asio::awaitable<Result<void>> sign_in(std::shared_ptr<SshContext> context);
  void look_around();
  std::string name() const { return to_string(way_.back()); }

  asio::any_io_executor executor_;
  std::vector<JumpStop> way_;
  Places places_{kJumpPlaces};
  asio::steady_timer changed_;  // never fires; cancelled when there is news for those who wait
  std::shared_ptr<Login> login_;
  std::shared_ptr<Session> session_;
  std::shared_ptr<Forwards> forwards_;
  std::optional<Error> failure_;
  std::chrono::steady_clock::time_point failed_at_;
  std::size_t users_ = 0;  // who waits for it
  bool opening_ = false;
};

}  // namespace llmlaunch::launcher::ssh
