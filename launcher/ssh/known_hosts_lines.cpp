// The format of known_hosts, sshd(8): [@marker] names type base64 [comment]. Also for writing a line.
#define OPENSSL_SUPPRESS_DEPRECATED  // HMAC() looks its algorithm up at each call: 3 microseconds, ten times the hash
#include "launcher/ssh/known_hosts_lines.hpp"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>

#include "launcher/ssh/ssh_pattern.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

constexpr std::string_view kFieldBlank = " \t";
constexpr std::string_view kHashMagic = "|1|";

Error malformed(std::string what) {
  return make_error(Errc::protocol, std::move(what));
}

std::string_view take_field(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(kFieldBlank), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(kFieldBlank));
  line.remove_prefix(word.size());
  return word;
}

// The name of the key's type, as the blob itself begins: u32 length in network order, then the name.
std::string_view type_in(ByteView blob) {
  const std::string_view text = as_text(blob);
  if (text.size() < 4) return {};
  std::size_t length = 0;
  for (const char c : text.substr(0, 4)) length = (length << 8) | static_cast<unsigned char>(c);
  return length <= text.size() - 4 ? text.substr(4, length) : std::string_view();
}

std::optional<Sha1> sha1_from_base64(std::string_view text) {
  const auto bytes = from_base64(text);
  if (!bytes || bytes->size() != kSha1Bytes) return std::nullopt;
  Sha1 sha1{};
  std::copy_n(reinterpret_cast<const unsigned char*>(bytes->data()), kSha1Bytes, sha1.begin());
  return sha1;
}

Result<void> read_names(std::string_view word, KnownLine& line) {
  if (!word.starts_with('|')) {
    line.names = lower_case(word);
    return ok;
  }
  if (!word.starts_with(kHashMagic)) return malformed("the name is hashed in an unknown way");
  word.remove_prefix(kHashMagic.size());
  const std::size_t bar = std::min(word.find('|'), word.size());
  const auto salt = sha1_from_base64(word.substr(0, bar));
  const auto hash = sha1_from_base64(word.substr(std::min(bar + 1, word.size())));
  if (!salt || !hash) return malformed("the hashed name is damaged");
  line.hashed.emplace(*salt, *hash);
  return ok;
}

Result<void> read_marker(std::string_view word, KnownLine& line) {
  if (word == "@revoked")
    line.marker = Marker::revoked;
  else if (word == "@cert-authority")
    line.marker = Marker::cert_authority;
  else
    return malformed("unknown marker '" + std::string(word.substr(0, 40)) + "'");
  return ok;
}

std::string sha1_to_base64(const Sha1& sha1) {
  return to_base64(std::as_bytes(std::span(sha1)));
}

}  // namespace

std::string to_base64(ByteView bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // and the zero that EVP_EncodeBlock ends with
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

std::optional<Bytes> from_base64(std::string_view text) {
  // EVP_DecodeBlock passes over blanks at both ends and counts padding as bytes: neither is wanted.
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::string_view digits = text.substr(0, text.size() - padding);
  if (text.empty() || text.size() % 4 != 0 || digits.find_first_not_of(kDigits) != std::string_view::npos)
    return std::nullopt;
  Bytes bytes(text.size() / 4 * 3);
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(size) - padding);
  return bytes;
}

HashedName::HashedName(const Sha1& salt, const Sha1& hash) : hash_(hash) {
  const auto start = [&salt](SHA_CTX& context, unsigned char pad) {
    std::array<unsigned char, SHA_CBLOCK> block;
    block.fill(pad);
    for (std::size_t i = 0; i < salt.size(); ++i) block[i] ^= salt[i];
    SHA1_Init(&context);
    SHA1_Update(&context, block.data(), block.size());
  };
  start(inner_, 0x36);
  start(outer_, 0x5c);
}

Sha1 HashedName::hash_of(std::string_view name) const {
  Sha1 hash{};
  SHA_CTX context = inner_;
  SHA1_Update(&context, name.data(), name.size());
  SHA1_Final(hash.data(), &context);
  context = outer_;
  SHA1_Update(&context, hash.data(), hash.size());
  SHA1_Final(hash.data(), &context);
  return hash;
}

Result<std::optional<KnownLine>> parse_known_line(std::string_view text) {
  KnownLine line;
  std::string_view word = take_field(text);
  if (word.empty() || word.starts_with('#')) return std::optional<KnownLine>();
  if (text.size() > kMaxKnownHostsLineBytes) return malformed("longer than a line with a key can be");
  if (word.starts_with('@')) {
    if (Result<void> marker = read_marker(word, line); !marker) return marker.error();
    word = take_field(text);
  }
  if (Result<void> names = read_names(word, line); !names) return names.error();
  line.key.type = std::string(take_field(text));
  const std::string_view base64 = take_field(text);
  if (base64.empty()) return malformed("a line has names, a key type and a key");
  auto blob = from_base64(base64);
  if (!blob) return malformed("the key is damaged: not base64");
  if (type_in(*blob) != line.key.type) return malformed("the key is damaged: it is no " + line.key.type.substr(0, 40));
  line.key.blob = std::move(*blob);
  return std::optional<KnownLine>(std::move(line));
}

Result<std::string> known_line(const std::string& name, const HostKey& key, bool hashed) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) > ' ' && c != 0x7f &&
           std::string_view(",*?!|#@").find(c) == std::string_view::npos;
  });
  if (name.empty() || !plain || type_in(key.blob) != key.type || key.type.empty())
    return make_error(Errc::invalid_argument, "'" + name + "' and its key cannot be written to a known_hosts file");
  std::string shown = name;
  if (hashed) {
    Sha1 salt{};
    if (RAND_bytes(salt.data(), static_cast<int>(salt.size())) != 1)
      return make_error(Errc::out_of_resources, "no random bytes to hide the host's name with");
    shown = std::string(kHashMagic) + sha1_to_base64(salt) + "|" + sha1_to_base64(HashedName(salt, {}).hash_of(name));
  }
  return shown + " " + key.type + " " + to_base64(key.blob) + "\n";
}

}  // namespace llmlaunch::launcher::ssh
