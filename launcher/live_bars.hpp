/// \file
/// `LiveBars`: which streams are drawing a line again and again, and the one line that a terminal shows of them: the
/// first stream's, with how many others there are. Says when there is something new of it. Sees no bytes, no clock and
/// no terminal; used by `Console`.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <set>
#include <string>

#include "launcher/roll_call.hpp"

namespace llmlaunch::launcher {

/// Often enough to look alive; a terminal far away has to keep up with it.
inline constexpr std::chrono::milliseconds kBetweenLiveLines{100};
/// A state is shown this much after its first byte: by then the rest of it has come as well.
inline constexpr std::chrono::milliseconds kLiveLineSettles{30};

class LiveBars {
 public:
  /// Whether there is something to see in the line of that stream; and what it shows, which is asked of one alone.
  using SeenFunction = std::function<bool(std::size_t stream)>;
  using StateFunction = std::function<std::string(std::size_t stream)>;

  /// It has drawn its line again.
  void redrawn(std::size_t stream, TimePoint now);
  /// Its line is complete, or goes on as one that is not drawn again.
  void ended(std::size_t stream);

  /// When `update` has something to do.
  std::optional<TimePoint> due() const { return due_; }
  /// Looks at the streams again.
  void update(std::size_t columns, TimePoint now, const SeenFunction& is_seen, const StateFunction& state);
  /// "[rank 0 gpu01] 45%|████▌     | 45/100 (+7 more)", as the last `update` saw it; "": there is none.
  const std::string& line() const { return line_; }

 private:
  std::set<std::size_t> streams_;
  std::string line_;
  TimePoint next_{};  // not before that
  std::optional<TimePoint> due_;
};

}  // namespace llmlaunch::launcher
