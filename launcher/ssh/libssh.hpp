/// \file
/// libssh's objects with owners, and the few things that it leaves to its callers. Included in launcher/ssh/ only.
#pragma once

#include <libssh/callbacks.h>
#include <libssh/libssh.h>

#include <memory>
#include <string>
#include <type_traits>

#include "rendezvous/base/frame.hpp"

namespace llmlaunch::launcher::ssh {

struct SessionDeleter {
  void operator()(ssh_session session) const { ssh_free(session); }
};
using SessionHandle = std::unique_ptr<std::remove_pointer_t<ssh_session>, SessionDeleter>;

struct KeyDeleter {
  void operator()(ssh_key key) const { ssh_key_free(key); }
};
using KeyHandle = std::unique_ptr<std::remove_pointer_t<ssh_key>, KeyDeleter>;

struct StringDeleter {
  void operator()(char* text) const { ssh_string_free_char(text); }
};
using TextHandle = std::unique_ptr<char, StringDeleter>;

/// The kind of a key as it stands in files and on the wire: "ssh-ed25519", "ecdsa-sha2-nistp256".
std::string type_name(ssh_key key);

/// The public half as known_hosts and ssh-agent have it, decoded; empty when libssh cannot write it.
Bytes public_blob(ssh_key key);

/// A copy that another thread may use, with its certificate; null when libssh has no memory for it. libssh 0.10 copies
/// no certificates itself: of a certificate it copies nothing, of a key with one the key alone.
KeyHandle copy_of(ssh_key key);

}  // namespace llmlaunch::launcher::ssh
