// Makes the job token, for the launcher. Reading tokens and proving them is in auth.cpp.
#include <fmt/format.h>

#include "rendezvous/auth.hpp"
#include "rendezvous/server.hpp"

namespace llmlaunch::rendezvous {

std::string make_token() {
  static_assert(sizeof(Nonce) == kTokenBytes);
  std::string hex;
  for (const std::byte byte : make_nonce()) hex += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return hex;
}

}  // namespace llmlaunch::rendezvous
