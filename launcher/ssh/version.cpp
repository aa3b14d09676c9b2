#include "launcher/ssh/version.hpp"

#include <libssh/libssh.h>

#include <string_view>

namespace llmlaunch::launcher::ssh {

std::string library_version() {
  const char* text = ::ssh_version(0);  // "0.10.6/openssl/zlib"
  const std::string_view version = text == nullptr ? "unknown" : text;
  return std::string(version.substr(0, version.find('/')));
}

}  // namespace llmlaunch::launcher::ssh
