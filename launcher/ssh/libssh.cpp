// What libssh has no call for; see libssh.hpp.
#include "launcher/ssh/libssh.hpp"

#include <openssl/evp.h>

#include <string_view>

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

}  // namespace llmlaunch::launcher::ssh
