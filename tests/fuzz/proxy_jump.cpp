// ProxyJump: a text is refused with a reason, or it is a way that reads the same when it is written again.
#include "launcher/proxy_jump.hpp"

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto way = parse_proxy_jump(text);
  if (!way) {
    FUZZ_CHECK(!way.error().what.empty());
    return 0;
  }
  FUZZ_CHECK(way->size() <= kMaxJumps);
  if (way->empty()) return 0;  // none
  const auto again = parse_proxy_jump(to_string(*way));
  FUZZ_CHECK(again && to_string(*again) == to_string(*way));
  return 0;
}
