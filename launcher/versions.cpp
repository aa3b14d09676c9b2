#include "launcher/versions.hpp"

#include <openssl/crypto.h>

#include "launcher/agent/protocol.hpp"
#include "launcher/ssh/version.hpp"
#include "rendezvous/message.hpp"

namespace llmlaunch::launcher {

ProtocolVersions protocol_versions() {
  return {agent::kProtocolVersion, rendezvous::kProtocolVersion};
}

std::vector<std::pair<std::string, std::string>> library_versions() {
  // Boost's headers and yaml-cpp's are asked by CMake: yaml-cpp has no such macro.
  return {{"libssh", ssh::library_version()},
          {"Boost", LLMLAUNCH_BOOST_VERSION},
          {"yaml-cpp", LLMLAUNCH_YAML_CPP_VERSION},
          {"OpenSSL", ::OpenSSL_version(OPENSSL_VERSION_STRING)}};
}

}  // namespace llmlaunch::launcher
