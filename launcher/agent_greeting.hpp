/// \file
/// What a host prints before the first frame: noise of rc files, the bootstrap's requests, and at last the agent's
/// marker line. Bytes in, events out. Used by both bodies of RemoteShell: ssh/ and local_shell.cpp.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

// Longer lines before the marker, and on the agent's stderr, are shown in pieces of this size.
inline constexpr std::size_t kMaxNoiseLineBytes = 4096;
// More than this before the marker is no rc file's greeting: something else is running.
inline constexpr std::size_t kMaxNoiseBytes = 1u << 20;

struct NoiseLine {
  std::string text;  ///< without newline, never empty
};
struct NeedAgent {
  std::string hash;  ///< push the agent with this hash
};
struct StartFailed {
  std::string reason;  ///< the bootstrap's own words; the host ends the channel next
};
struct AgentMarker {};  ///< of our protocol version; frames follow, see take_rest
using GreetingEvent = std::variant<NoiseLine, NeedAgent, StartFailed, AgentMarker>;

/// Cuts the stream. Pieces may be split anywhere.
class AgentGreeting {
 public:
  /// Appends received bytes. Takes a copy.
  void feed(std::string_view bytes);

  /// The next event, or nothing when more bytes are needed; nothing for ever after the marker. Errors, both final and
  /// without `where`: `Errc::version_mismatch` (the marker of another protocol), `Errc::protocol` (too much noise).
  Result<std::optional<GreetingEvent>> next();

  /// After AgentMarker: the bytes that came behind it, the start of the frames. At the stream's end without a marker:
  /// an unended line.
  std::string take_rest();

 private:
  Result<std::optional<GreetingEvent>> cut();
  Result<std::optional<GreetingEvent>> event_of(std::string line);

  std::string buffer_;
  std::size_t taken_ = 0;  // of buffer_; cut off only when more is fed, as a flood of short lines would cost too much
  std::size_t noise_bytes_ = 0;
  bool done_ = false;
  std::optional<Error> error_;
};

}  // namespace llmlaunch::launcher
