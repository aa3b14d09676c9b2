// HMAC proofs by OpenSSL's libcrypto, and randomness from the kernel. Decides nothing: who proves when is in WorldState
// and Client.
#include "rendezvous/auth.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace llmlaunch::rendezvous {
namespace {

// Without randomness there is no authentication, and no safe way to go on. The kernel's call fails only where seccomp
// forbids it; below 256 bytes it is never cut short once the pool is ready.
void fill_random(void* out, std::size_t count) {
  auto* at = static_cast<unsigned char*>(out);
  while (count > 0) {
    const ssize_t got = ::getrandom(at, count, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      std::perror("llmlaunch: getrandom");
      std::abort();
    }
    at += got;
    count -= static_cast<std::size_t>(got);
  }
}

int hex_digit(char letter) {
  if (letter >= '0' && letter <= '9') return letter - '0';
  if (letter >= 'a' && letter <= 'f') return letter - 'a' + 10;
  if (letter >= 'A' && letter <= 'F') return letter - 'A' + 10;
  return -1;
}

}  // namespace

Result<Token> Token::parse(std::string_view hex) {
  const auto refused = [&](std::string why) {
    return make_error(Errc::invalid_argument, "the job token is not 64 hex digits: " + why, {},
                      "llmlaunch sets LLMLAUNCH_TOKEN for its ranks; do not change it");
  };
  if (hex.size() != 2 * kTokenBytes) return refused(fmt::format("it has {} characters", hex.size()));
  Token token;
  for (std::size_t i = 0; i < kTokenBytes; ++i) {
    const int high = hex_digit(hex[2 * i]);
    const int low = hex_digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return refused("it has other characters");
    token.secret_[i] = static_cast<unsigned char>(high << 4 | low);
  }
  return token;
}

Token::~Token() {
  OPENSSL_cleanse(secret_.data(), secret_.size());
}

ProofBytes Token::prove(Side side, const Hello& hello, const Nonce& server_nonce) const {
  Bytes text;
  const auto append = [&text](ByteView bytes) { text.insert(text.end(), bytes.begin(), bytes.end()); };
  append(as_bytes(side == Side::server ? "llmlaunch rendezvous 1: server" : "llmlaunch rendezvous 1: client"));
  append(server_nonce);
  append(encode(hello));  // holds the client's nonce

  ProofBytes proof{};
  unsigned length = 0;
  const unsigned char* made = ::HMAC(::EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()),
                                     reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                                     reinterpret_cast<unsigned char*>(proof.data()), &length);
  if (made == nullptr || length != proof.size()) {
    std::fputs("llmlaunch: libcrypto has no HMAC-SHA256\n", stderr);
    std::abort();
  }
  return proof;
}

bool Token::verify(const ProofBytes& proof, Side side, const Hello& hello, const Nonce& server_nonce) const {
  const ProofBytes expected = prove(side, hello, server_nonce);
  return ::CRYPTO_memcmp(expected.data(), proof.data(), expected.size()) == 0;
}

Nonce make_nonce() {
  Nonce nonce;
  fill_random(nonce.data(), nonce.size());
  return nonce;
}

}  // namespace llmlaunch::rendezvous
