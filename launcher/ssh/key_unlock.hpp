/// \file
/// Asks for the passphrases of key files, once for all hosts, at the terminal. Hosts that need a key stand in line
/// meanwhile; their deadlines do not run. All calls from the thread of the event loop.
#pragma once

#include <memory>
#include <string>

#include "launcher/ssh/libssh.hpp"
#include "launcher/ssh/places.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::ssh {

/// As many as ssh gives.
inline constexpr int kPassphraseTries = 3;

class KeyUnlock {
 public:
  /// `threads`: where the terminal is read, and keys are decrypted.
  explicit KeyUnlock(asio::thread_pool& threads);
  KeyUnlock(const KeyUnlock&) = delete;
  KeyUnlock& operator=(const KeyUnlock&) = delete;

  /// One question at a time.
  Places& line() { return line_; }

  /// The key of this file, after up to three questions. `Errc::unauthenticated`: the passphrase was wrong each time;
  /// other errors as of `ask_at_terminal`, `Errc::canceled` when `canceled` became true, see `wake`. For who has the
  /// place.
  asio::awaitable<Result<KeyHandle>> ask(std::string path, const bool& canceled);

  /// Who asks and who waits look at their `canceled` again.
  void wake();

 private:
  asio::thread_pool& threads_;
  Places line_{1};
  const bool* canceled_ = nullptr;  // of who asks
  UniqueFd stop_;                   // an eventfd
};

}  // namespace llmlaunch::launcher::ssh
