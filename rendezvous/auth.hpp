/// \file
/// Proofs that a peer holds the job's token: HMAC-SHA256 over both nonces and the hello. Used by `WorldState` and
/// `Client`; private to this directory. No state, no socket.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "rendezvous/base/result.hpp"
#include "rendezvous/message.hpp"

namespace llmlaunch::rendezvous {

inline constexpr std::size_t kTokenBytes = 32;

/// The job's 256 bits. Wiped when it goes; not copied into any text.
class Token {
 public:
  /// From 64 hex digits; `Errc::invalid_argument` otherwise, without showing the value.
  static Result<Token> parse(std::string_view hex);
  ~Token();
  Token(const Token&) = default;
  Token& operator=(const Token&) = default;

  enum class Side { server, client };
  /// What `side` sends to show that it holds this token, in the conversation that `hello` and both nonces name.
  ProofBytes prove(Side side, const Hello& hello, const Nonce& server_nonce) const;
  /// Compares in constant time.
  bool verify(const ProofBytes& proof, Side side, const Hello& hello, const Nonce& server_nonce) const;

 private:
  Token() = default;
  std::array<unsigned char, kTokenBytes> secret_{};
};

/// 32 bytes of the kernel's randomness.
Nonce make_nonce();

}  // namespace llmlaunch::rendezvous
