/// \file
/// Single lines of known_hosts files: taking them apart and writing them. Private to known_hosts*.cpp.
#pragma once

#include <openssl/sha.h>

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/ssh/known_hosts.hpp"

namespace llmlaunch::launcher::ssh {

// The largest lists of a big site, with every host and address, are some MB. It is read into memory.
inline constexpr std::size_t kMaxKnownHostsBytes = 64u << 20;
// An RSA key of 16384 bits has 2.8 kB of base64; the rest is for names.
inline constexpr std::size_t kMaxKnownHostsLineBytes = 64u << 10;

inline constexpr std::size_t kSha1Bytes = 20;
using Sha1 = std::array<unsigned char, kSha1Bytes>;

/// A hidden name, written |1|base64 of the salt|base64 of HMAC-SHA1(salt, name). Keeps what the salt alone makes of the
/// hash: a thousand hosts against a thousand such lines are a million comparisons.
class HashedName {
 public:
  HashedName(const Sha1& salt, const Sha1& hash);
  bool matches(std::string_view name) const { return hash_of(name) == hash_; }
  Sha1 hash_of(std::string_view name) const;

 private:
  SHA_CTX inner_{}, outer_{};
  Sha1 hash_;
};

enum class Marker { none, revoked, cert_authority };

struct KnownLine {
  Marker marker = Marker::none;
  std::string names;  ///< "gpu*,!gpu07,[10.0.0.1]:22", in small letters; empty when hashed
  std::optional<HashedName> hashed;
  HostKey key;
};

/// One line without its end. Nothing for empty lines and comments; `Errc::protocol` with what is wrong.
Result<std::optional<KnownLine>> parse_known_line(std::string_view line);

/// "gpu07 ssh-ed25519 AAAA…\n".
Result<std::string> known_line(const std::string& name, const HostKey& key, bool hashed);

std::string to_base64(ByteView bytes);
/// Strict: padding in place, nothing else in it.
std::optional<Bytes> from_base64(std::string_view text);

}  // namespace llmlaunch::launcher::ssh
