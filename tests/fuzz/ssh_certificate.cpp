// A certificate and a key, whatever bytes they are: one of them is of the other, or not, and nothing beyond their ends
// is looked at.
#include "launcher/ssh/certificate.hpp"

#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llmlaunch;
  const ByteView all(reinterpret_cast<const std::byte*>(data), size);
  const std::size_t half = size / 2;
  const Bytes first(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(half));
  const Bytes second(all.begin() + static_cast<std::ptrdiff_t>(half), all.end());
  if (launcher::ssh::certifies(first, second)) FUZZ_CHECK(first.size() > second.size());
  FUZZ_CHECK(!launcher::ssh::certifies(second, second));
  return 0;
}
