// Prefix templates, lists of ranks and sizes: any text is an answer or an error, and what is taken keeps its limits.
#include "launcher/log_settings.hpp"

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto pieces = parse_prefix(text)) {
    std::size_t bytes = 0;
    for (const auto& piece : *pieces)
      if (const auto* words = std::get_if<std::string>(&piece)) bytes += words->size();
    FUZZ_CHECK(bytes <= kMaxPrefixBytes);
  } else {
    FUZZ_CHECK(!pieces.error().what.empty());
  }
  if (const auto ranks = parse_ranks(text)) {
    for (const auto& [first, last] : *ranks) FUZZ_CHECK(first <= last);
    static_cast<void>(check_ranks(*ranks, 16).has_value());
  }
  if (const auto bytes = parse_bytes(text)) FUZZ_CHECK(*bytes <= 1'000'000'000'000'000'000);
  return 0;
}
