// The host's bytes up to the agent's marker, cut into events. No socket: both shells of RemoteShell feed what they read
// and act on what comes out.
#include "launcher/agent_greeting.hpp"

#include <utility>

#include "launcher/agent/protocol.hpp"

namespace llmlaunch::launcher {
namespace {

Error wrong_version(std::string_view version) {
  return make_error(Errc::version_mismatch,
                    "the agent speaks version " + std::string(version) +
                        " of the agent protocol, this llmlaunch speaks version " +
                        std::to_string(agent::kProtocolVersion),
                    {}, "use the llmlaunch and llmlaunch-agent of one build");
}

Error too_much_noise() {
  return make_error(Errc::protocol,
                    "more than " + std::to_string(kMaxNoiseBytes) + " bytes came and no agent among them", {},
                    "something else runs there: look at the lines shown and at the login shell's startup files");
}

}  // namespace

void AgentGreeting::feed(std::string_view bytes) {
  buffer_.erase(0, std::exchange(taken_, 0));
  buffer_ += bytes;
}

std::string AgentGreeting::take_rest() {
  std::string rest = buffer_.substr(taken_);
  buffer_.clear();
  taken_ = 0;
  return rest;
}

Result<std::optional<GreetingEvent>> AgentGreeting::next() {
  if (error_) return *error_;
  auto event = cut();
  if (!event) error_ = event.error();
  return event;
}

Result<std::optional<GreetingEvent>> AgentGreeting::cut() {
  while (!done_) {
    const std::string_view rest = std::string_view(buffer_).substr(taken_);
    const std::size_t end = rest.substr(0, kMaxNoiseLineBytes).find('\n');
    if (end == rest.npos && rest.size() < kMaxNoiseLineBytes) break;  // neither a whole line nor a whole piece
    const bool whole = end != rest.npos;
    std::string line(rest.substr(0, whole ? end : kMaxNoiseLineBytes));
    taken_ += line.size() + (whole ? 1 : 0);
    noise_bytes_ += line.size() + 1;
    if (noise_bytes_ > kMaxNoiseBytes) return too_much_noise();
    if (!line.empty()) return event_of(std::move(line));
  }
  return std::optional<GreetingEvent>();
}

Result<std::optional<GreetingEvent>> AgentGreeting::event_of(std::string line) {
  if (line.starts_with(agent::kNeedPrefix)) return GreetingEvent(NeedAgent{line.substr(agent::kNeedPrefix.size())});
  if (line.starts_with(agent::kFailPrefix)) return GreetingEvent(StartFailed{line.substr(agent::kFailPrefix.size())});
  if (!line.starts_with(agent::kMarkerPrefix)) return GreetingEvent(NoiseLine{std::move(line)});
  const std::string_view version = std::string_view(line).substr(agent::kMarkerPrefix.size());
  if (version != std::to_string(agent::kProtocolVersion)) return wrong_version(version);
  done_ = true;
  return GreetingEvent(AgentMarker{});
}

}  // namespace llmlaunch::launcher
