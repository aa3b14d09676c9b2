/// \file
/// What a user's certificate certifies, by its bytes: libssh 0.10 puts a certificate to any key and compares nothing.
#pragma once

#include "rendezvous/base/frame.hpp"

namespace llmlaunch::launcher::ssh {

/// Whether the certificate (PROTOCOL.certkeys of OpenSSH: type, nonce, the fields of the key, …) is of this public key
/// (RFC 4253, 6.6: type, the fields of the key). False for bytes that are neither.
bool certifies(ByteView certificate, ByteView public_key);

}  // namespace llmlaunch::launcher::ssh
