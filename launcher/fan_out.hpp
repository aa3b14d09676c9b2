/// \file
/// `FanOut`: how many hosts may be on their way at the same time. Held by `JobState`, which says who took a place, got
/// on and left; sees no clock. One thread.
///
/// Without a limit of the user's the window starts at kPlacesPerCore for each core of the head, and one host more for
/// each that was opened. It is halved when the head does not keep up (a tick comes late, a thread of ssh sessions is
/// behind by as much) or an sshd drops a connection, and from then on raised by one for each window of hosts that were
/// opened. A limit of the user's stays what it is.
///
/// A host that has not got on for kPlacePatience gives its place to the next one and goes on without: who hangs delays
/// nobody. Not while ticks are late: then it is the head that hangs.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "launcher/remote.hpp"

namespace llmlaunch::launcher {

using TimePoint = std::chrono::steady_clock::time_point;

/// 2.4 ms of a core for each host, and a login that takes 40 ms or more: 16 logins keep a core busy.
inline constexpr std::size_t kPlacesPerCore = 16;
inline constexpr std::size_t kFewestPlacesAtStart = 32;
inline constexpr std::size_t kMostPlacesAtStart = 256;
inline constexpr std::size_t kFewestPlaces = 8;
inline constexpr std::size_t kMostPlaces = 4096;
/// A login takes less, also on a busy host; what takes longer waits for somebody else.
inline constexpr std::chrono::milliseconds kPlacePatience{1'000};
/// The job ticks every 100 ms, and asks the threads of ssh sessions as often.
inline constexpr std::chrono::milliseconds kLateTick{250};
/// What comes sooner after a halving was caused before it.
inline constexpr std::chrono::milliseconds kHalvingPause{1'000};

class FanOut {
 public:
  /// `fixed`: the user's limit; `cores`: the head's, at least 1.
  FanOut(std::optional<std::uint32_t> fixed, std::size_t cores, std::size_t hosts);

  bool has_place() const { return taken_ < window_; }
  void take(std::size_t host, TimePoint now);
  /// How far the host is; only a step that is new counts.
  void reached(std::size_t host, OpenStep step, TimePoint now);
  /// The host is open.
  void opened(std::size_t host);
  /// It is on its way no more. A host without a place may leave.
  void leave(std::size_t host);
  /// An sshd dropped a connection.
  void dropped(TimePoint now) { halve(now); }
  /// `behind`: how far the threads are that ssh sessions live on, when there are any.
  void tick(TimePoint now, std::chrono::milliseconds behind = std::chrono::milliseconds{0});

  std::size_t window() const { return window_; }

 private:
  struct Place {
    bool counts = false;
    OpenStep step = OpenStep::waiting;
    TimePoint since;  // of the step
  };
  void halve(TimePoint now);

  bool adapts_;
  std::size_t window_;
  std::size_t taken_ = 0;
  std::size_t opened_since_raise_ = 0;
  std::vector<Place> places_;  // by host
  std::optional<TimePoint> last_tick_;
  std::optional<TimePoint> halved_at_;
};

}  // namespace llmlaunch::launcher
