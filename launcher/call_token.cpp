// Reads the token of machines that are started one by one, and derives from it by HMAC-SHA256: one key for each use, so
// that none tells another.
#include "launcher/call_token.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {
namespace {

CallToken::Key derive_key(const void* secret, std::size_t size, const std::string& use) {
  CallToken::Key key{};
  unsigned length = 0;
  const auto* text = reinterpret_cast<const unsigned char*>(use.data());
  if (::HMAC(::EVP_sha256(), secret, static_cast<int>(size), text, use.size(), key.data(), &length) == nullptr ||
      length != key.size()) {
    std::fputs("llmlaunch: libcrypto has no HMAC-SHA256\n", stderr);
    std::abort();
  }
  return key;
}

// systemd gives credentials as root's, with an ACL for the service's user, which shows as the group's bits.
bool others_may_read(const struct stat& info) {
  const mode_t others = info.st_uid == 0 ? S_IRWXO : (S_IRWXG | S_IRWXO);
  return (info.st_mode & others) != 0;
}

Error token_file_error(int cause, const std::string& path, const std::string& where) {
  return make_error(Errc::invalid_config,
                    fmt::format("the token file '{}' cannot be read: {}", path,
                                std::error_code(cause, std::generic_category()).message()),
                    where, std::string(kMakesToken) + "; all machines of the job need the same");
}

}  // namespace

Result<CallToken> CallToken::parse(std::string_view text, const std::string& where) {
  while (!text.empty() && std::string_view(" \t\r\n").find(text.back()) != std::string_view::npos)
    text.remove_suffix(1);
  if (text.size() < kMinCallTokenChars || text.size() > kMaxCallTokenChars) {
    return make_error(Errc::invalid_config,
                      fmt::format("the token has {} characters; it must have {} to {}", text.size(), kMinCallTokenChars,
                                  kMaxCallTokenChars),
                      where, std::string(kMakesToken));
  }
  CallToken token;
  token.key_ = derive_key(text.data(), text.size(), "llmlaunch 1: connections between machines");
  token.ranks_ = derive_key(text.data(), text.size(), "llmlaunch 1: tokens of jobs");
  return token;
}

Result<CallToken> CallToken::read(const std::string& path, const std::string& where) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd || ::fstat(fd.value(), &info) != 0) return token_file_error(errno, path, where);
  if (S_ISREG(info.st_mode) && others_may_read(info)) {
    return make_error(Errc::invalid_config,
                      fmt::format("others may read the token file '{}' (mode {:04o})", path, info.st_mode & 07777),
                      where, fmt::format("chmod 600 {}, and make another token if somebody may have seen it", path));
  }
  std::string text(kMaxCallTokenChars + 64, '\0');
  std::size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = ::read(fd.value(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return token_file_error(errno, path, where);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  text.resize(filled);
  Result<CallToken> token = parse(text, where.empty() ? path : where + " " + path);
  ::OPENSSL_cleanse(text.data(), text.size());
  return token;
}

CallToken::~CallToken() {
  ::OPENSSL_cleanse(key_.data(), key_.size());
  ::OPENSSL_cleanse(ranks_.data(), ranks_.size());
}

std::string CallToken::rank_token(const std::string& job_id) const {
  std::string hex;
  for (const unsigned char byte : derive_key(ranks_.data(), ranks_.size(), job_id)) hex += fmt::format("{:02x}", byte);
  return hex;
}

}  // namespace llmlaunch::launcher
