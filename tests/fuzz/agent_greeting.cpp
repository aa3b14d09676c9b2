// The bytes before the first frame: the same events whether they come at once or in pieces, none lost, limits kept.
#include "launcher/agent_greeting.hpp"

#include <algorithm>

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

// Everything that came out, as one text with marks, so that two runs can be compared.
std::string story_of(std::string_view bytes, std::size_t piece) {
  AgentGreeting greeting;
  std::string story;
  while (true) {
    const auto event = greeting.next();
    if (!event) return story + "\nerror " + event.error().what;
    if (!*event) {
      if (bytes.empty()) break;
      greeting.feed(bytes.substr(0, piece));
      bytes.remove_prefix(std::min(piece, bytes.size()));
      continue;
    }
    if (const auto* noise = std::get_if<NoiseLine>(&**event)) {
      FUZZ_CHECK(!noise->text.empty() && noise->text.size() <= kMaxNoiseLineBytes);
      FUZZ_CHECK(noise->text.find('\n') == std::string::npos);
      story += "\nnoise " + noise->text;
    }
    if (const auto* need = std::get_if<NeedAgent>(&**event)) story += "\nneed " + need->hash;
    if (const auto* failed = std::get_if<StartFailed>(&**event)) story += "\nfailed " + failed->reason;
    if (std::holds_alternative<AgentMarker>(**event)) story += "\nmarker";
  }
  return story + "\nrest " + greeting.take_rest();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  // The first byte: how large the pieces are; its top bit: the rest a hundred times, for long lines and floods.
  const std::size_t piece = (data[0] & 0x7f) + 1;
  if ((data[0] & 0x80) != 0) {
    const std::string once = bytes;
    for (int times = 0; times < 100; ++times) bytes += once;
  }
  FUZZ_CHECK(story_of(bytes, piece) == story_of(bytes, bytes.size() + 1));
  return 0;
}
