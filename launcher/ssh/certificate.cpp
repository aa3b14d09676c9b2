// Compares the fields of a key in two blobs; see certificate.hpp.
#include "launcher/ssh/certificate.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace llmlaunch::launcher::ssh {
namespace {

constexpr std::string_view kSuffix = "-cert-v01@openssh.com";

// u32 length in network order, then so many bytes, which are taken off.
std::optional<std::string_view> take_string(std::string_view& rest) {
  if (rest.size() < 4) return std::nullopt;
  std::size_t length = 0;
  for (const char c : rest.substr(0, 4)) length = (length << 8) | static_cast<unsigned char>(c);
  rest.remove_prefix(4);
  if (length > rest.size()) return std::nullopt;
  const std::string_view text = rest.substr(0, length);
  rest.remove_prefix(length);
  return text;
}

}  // namespace

bool certifies(ByteView certificate, ByteView public_key) {
  std::string_view theirs = as_text(certificate), fields = as_text(public_key);
  const auto certified = take_string(theirs), type = take_string(fields);
  const auto nonce = take_string(theirs);
  if (!certified || !type || !nonce || fields.empty()) return false;
  return *certified == std::string(*type).append(kSuffix) && theirs.starts_with(fields);
}

}  // namespace llmlaunch::launcher::ssh
