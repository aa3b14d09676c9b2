// What a host prints before the first frame, in whatever pieces it comes.
#include "launcher/agent_greeting.hpp"

#include <vector>

#include "launcher/agent/protocol.hpp"
#include "tests/support/catch.hpp"

namespace launcher_agent_greeting_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

// All events as text, with the rest or the error at the end.
std::vector<std::string> events_of(std::string_view bytes, std::size_t piece) {
  AgentGreeting greeting;
  std::vector<std::string> texts;
  bool marker = false;
  while (true) {
    const auto event = greeting.next();
    if (!event) {
      texts.push_back("error: " + event.error().what);
      return texts;
    }
    if (*event) {
      if (const auto* noise = std::get_if<NoiseLine>(&**event)) texts.push_back("noise: " + noise->text);
      if (const auto* need = std::get_if<NeedAgent>(&**event)) texts.push_back("need: " + need->hash);
      if (const auto* failed = std::get_if<StartFailed>(&**event)) texts.push_back("failed: " + failed->reason);
      if (std::holds_alternative<AgentMarker>(**event)) {
        marker = true;
        texts.push_back("marker");
      }
      continue;
    }
    if (bytes.empty()) break;
    greeting.feed(bytes.substr(0, piece));
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  texts.push_back((marker ? "frames: " : "unended: ") + greeting.take_rest());
  return texts;
}

}  // namespace

TEST_CASE("the greeting is cut into the same events however its bytes are split") {
  const std::string bytes = "Welcome to gpu07\n\nlast login: never\nLLMLAUNCH NEED abc\nLLMLAUNCH AGENT 5\nab\ncd";
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    CHECK(events_of(bytes, piece) == std::vector<std::string>{"noise: Welcome to gpu07", "noise: last login: never",
                                                              "need: abc", "marker", "frames: ab\ncd"});
  }
}

TEST_CASE("the greeting gives the reason of a host that cannot start the agent") {
  CHECK(events_of("\nLLMLAUNCH FAIL no directory for the agent (/a: no room)\n", 7) ==
        std::vector<std::string>{"failed: no directory for the agent (/a: no room)", "unended: "});
}

TEST_CASE("the greeting leaves an unended line to whoever meets the end of the stream") {
  CHECK(events_of("This account is not available", 4) ==
        std::vector<std::string>{"unended: This account is not available"});
}

TEST_CASE("the greeting takes a marker only at the start of a line") {
  CHECK(events_of("say LLMLAUNCH AGENT 5\n", 100) ==
        std::vector<std::string>{"noise: say LLMLAUNCH AGENT 5", "unended: "});
}

TEST_CASE("the greeting refuses the marker of another protocol version") {
  CHECK(events_of("LLMLAUNCH AGENT 999\n", 100) ==
        std::vector<std::string>{
            "error: the agent speaks version 999 of the agent protocol, this llmlaunch speaks version 5"});
  CHECK(events_of("LLMLAUNCH AGENT \n", 100).front().starts_with("error: the agent speaks version  of"));
  AgentGreeting greeting;
  greeting.feed("LLMLAUNCH AGENT 9\nLLMLAUNCH AGENT 5\n");
  CHECK(greeting.next().error().code == Errc::version_mismatch);
  CHECK(greeting.next().error().code == Errc::version_mismatch);  // final
}

TEST_CASE("the greeting shows a long line in pieces") {
  const std::string line(2 * kMaxNoiseLineBytes + 5, 'x');
  const auto events = events_of(line + "\nLLMLAUNCH AGENT 5\n", 1000);
  REQUIRE(events.size() == 5);
  CHECK(events[0] == "noise: " + std::string(kMaxNoiseLineBytes, 'x'));
  CHECK(events[2] == "noise: xxxxx");
  CHECK(events[3] == "marker");
}

TEST_CASE("the greeting gives up on a host that never stops talking") {
  std::string flood;
  while (flood.size() <= kMaxNoiseBytes) flood += "buy one, get one free\n";
  const auto events = events_of(flood, 4096);
  CHECK(events.back() == "error: more than 1048576 bytes came and no agent among them");
}

}  // namespace launcher_agent_greeting_test
