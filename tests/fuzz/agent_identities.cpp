// What ssh-agent says it has: any bytes give a list that can be written back, or an error.
#include "launcher/ssh/agent_client.hpp"

#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llmlaunch;
  using namespace llmlaunch::launcher::ssh;
  const auto identities = decode_identities(ByteView(reinterpret_cast<const std::byte*>(data), size));
  if (!identities) return 0;
  const auto again = decode_identities(encode_identities(*identities));
  FUZZ_CHECK(again && again->size() == identities->size());
  return 0;
}
