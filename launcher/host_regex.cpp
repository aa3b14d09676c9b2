// What a regular expression may hold; regcomp(3) does the rest.
#include "launcher/host_regex.hpp"

#include <fmt/format.h>

#include "launcher/host_scan.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::size_t kMaxRegexBytes = 200;

}  // namespace

Result<void> check_host_regex(const std::string& pattern) {
  if (pattern.empty())
    return bad_hosts("an empty regular expression", "// matches nothing that is meant; write /regex/");
  if (pattern.size() > kMaxRegexBytes)
    return bad_hosts(fmt::format("a regular expression of more than {} bytes", kMaxRegexBytes));
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\0') return bad_hosts("a zero byte in a regular expression");
    if (pattern[i] == '{')
      return bad_hosts("'{' in a regular expression: counts are not supported", "write the piece out");
    if (pattern[i] == '\\' && i + 1 < pattern.size() && pattern[i + 1] >= '0' && pattern[i + 1] <= '9')
      return bad_hosts("a back reference in a regular expression is not supported");
    if (pattern[i] == '\\') ++i;
  }
  if (const auto wrong = HostRegex().compile(pattern))
    return bad_hosts(fmt::format("regular expression '{}': {}", pattern, *wrong));
  return ok;
}

}  // namespace llmlaunch::launcher
