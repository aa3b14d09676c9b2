/// \file
/// The private keys and certificates of a launch: each file is read once, and each passphrase is asked for once, for
/// all hosts. Keys stay with the ring. All calls from the thread of the event loop.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "launcher/ssh/key_unlock.hpp"
#include "launcher/ssh/libssh.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/frame.hpp"

namespace llmlaunch::launcher::ssh {

/// A private key file.
struct Identity {
  std::string path;
  ssh_key key = nullptr;         ///< null when the file has no key that can be used as it is, see `problem`
  ssh_key public_key = nullptr;  ///< also of a key with a passphrase, when its file or the .pub file beside it tells
  Bytes public_blob;
  std::string problem;  ///< "it has a passphrase …", "no such file"
  bool missing = false;
  bool locked = false;  ///< a passphrase is all that is missing, and somebody can be asked for it
};

/// A file with the certificate of a user's key, as ssh-keygen -s makes it.
struct Certificate {
  std::string path;
  ssh_key key = nullptr;  ///< the public key with the certificate; null when there is none, see `problem`
  Bytes blob;             ///< as sshd gets it
  std::string problem;
  bool missing = false;
};

class KeyRing {
 public:
  /// `may_ask`: there is somebody at a terminal. `threads`: where that is waited for.
  KeyRing(bool may_ask, asio::thread_pool& threads) : may_ask_(may_ask), unlock_(threads) {}
  KeyRing(const KeyRing&) = delete;
  KeyRing& operator=(const KeyRing&) = delete;

  /// References stay good, and what they say may change with `unlock`.
  const Identity& identity(const std::string& path);
  const Certificate& certificate(const std::string& path);

  /// The private key together with the certificate; null when they do not belong together, or one of them is missing.
  ssh_key certified(const Identity& identity, const Certificate& certificate);

  /// Asks for the passphrase of a key that is locked. Afterwards it has its key, or `problem` says why not.
  asio::awaitable<void> unlock(asio::any_io_executor executor, std::string path, const bool& canceled);
  /// Who asks and who waits look at their `canceled` again.
  void wake() { unlock_.wake(); }

 private:
  void read(Identity& identity);
  void take(Identity& identity, KeyHandle key);

  bool may_ask_;
  KeyUnlock unlock_;
  std::map<std::string, Identity> identities_;
  std::map<std::string, Certificate> certificates_;
  std::map<std::pair<std::string, std::string>, KeyHandle> certified_;
  std::vector<KeyHandle> keys_;
};

}  // namespace llmlaunch::launcher::ssh
