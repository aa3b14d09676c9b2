// A configuration file: whatever it holds, it is read or refused with a place, and what was read makes a plan or a
// message.
#include "launcher/config.hpp"

#include "launcher/plan.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto config = parse_config(text, "cfg.yaml");
  if (!config) {
    FUZZ_CHECK(config.error().code == Errc::invalid_config);
    FUZZ_CHECK(config.error().where.starts_with("cfg.yaml"));
    FUZZ_CHECK(!config.error().what.empty());
    return 0;
  }
  for (const auto& host : config->hosts) FUZZ_CHECK(!host.name.empty() && host.name.find('@') == host.name.npos);
  const HeadFacts head{"job", {{"HOME", "/home/me"}, {"HF_TOKEN", "sesame"}}, "/here"};
  const auto plan = make_plan(*config, {{"prog"}, {}}, head);
  if (!plan) {
    FUZZ_CHECK(plan.error().code == Errc::invalid_config);
    return 0;
  }
  std::uint32_t ranks = 0;
  for (const auto& host : plan->hosts) {
    for (const auto& rank : host.ranks) FUZZ_CHECK(number(rank.rank) == ranks++);
  }
  FUZZ_CHECK(ranks == plan->world_size && ranks > 0);
  // The head's value, that is; a file may have the word of its own accord.
  if (text.find("sesame") != text.npos) return 0;
  for (const auto& note : plan->notes) FUZZ_CHECK(note.find("sesame") == note.npos);
  return 0;
}
