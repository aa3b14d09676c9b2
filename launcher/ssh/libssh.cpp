// What libssh has no call for; see libssh.hpp.
#include "launcher/ssh/libssh.hpp"

#include <openssl/evp.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace llmlaunch::launcher::ssh {

std::string type_name(ssh_key key) {
  const char* name = ssh_key_type_to_char(ssh_key_type(key));
  return name == nullptr ? "unknown" : name;
}

Bytes public_blob(ssh_key key) {
  char* raw = nullptr;
  if (ssh_pki_export_pubkey_base64(key, &raw) != SSH_OK) return {};
  const TextHandle owner(raw);
  const std::string_view text(raw);
  Bytes bytes(text.size() / 4 * 3);
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return {};
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  bytes.resize(static_cast<std::size_t>(size) - padding);
  return bytes;
}

KeyHandle copy_of(ssh_key key) {
  constexpr std::size_t kLengthBytes = 4;
  const Bytes blob = public_blob(key);  // begins with the name of its type
  if (blob.size() < kLengthBytes) return nullptr;
  const std::string name(as_text(blob).substr(kLengthBytes, std::to_integer<std::size_t>(blob[kLengthBytes - 1])));
  KeyHandle copy(ssh_key_dup(key));
  if (name.find("-cert-") == name.npos) return copy;
  char* raw = nullptr;
  ssh_key certificate = nullptr;
  if (ssh_pki_export_pubkey_base64(key, &raw) != SSH_OK) return nullptr;
  const TextHandle owner(raw);
  if (ssh_pki_import_cert_base64(raw, ssh_key_type_from_name(name.c_str()), &certificate) != SSH_OK) return nullptr;
  KeyHandle alone(certificate);
  if (!copy) return alone;  // it was no more than that
  return ssh_pki_copy_cert_to_privkey(certificate, copy.get()) == SSH_OK ? std::move(copy) : nullptr;
}

}  // namespace llmlaunch::launcher::ssh
