/// \file
/// Bytes in JSON that are no text. Private to this directory.
#pragma once

#include <openssl/evp.h>

#include <string>
#include <string_view>

namespace llmlaunch::launcher {

inline std::string base64(std::string_view bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // EVP_EncodeBlock ends it with a zero
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

}  // namespace llmlaunch::launcher
