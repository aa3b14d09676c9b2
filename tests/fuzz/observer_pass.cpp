// A rendezvous.json that lies in a run directory: it is read without harm, what it says is within bounds, and no
// message has the token.
#include "launcher/observer_pass.hpp"

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch::launcher;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto pass = parse_observer_pass(text);
  if (!pass) {
    FUZZ_CHECK(!pass.error().what.empty() && pass.error().what.find(std::string(64, 'a')) == std::string::npos);
    return 0;
  }
  FUZZ_CHECK(pass->port != 0 && pass->token.size() == 64 && !pass->address.empty() && pass->pid >= 0);
  const auto again = parse_observer_pass(observer_pass_text(*pass));
  FUZZ_CHECK(again.has_value() && again->token == pass->token && again->generation == pass->generation);
  return 0;
}
