// The streams that draw a line again, in their order: of rank 0 stdout, then stderr, and so on.
#include "launcher/live_bars.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "launcher/screen_text.hpp"

namespace llmlaunch::launcher {

void LiveBars::redrawn(std::size_t stream, TimePoint now) {
  streams_.insert(stream);
  if (!due_) due_ = std::max(next_, now + kLiveLineSettles);
}

// At once: its last state is a line by now, and would stand there twice.
void LiveBars::ended(std::size_t stream) {
  if (streams_.erase(stream) > 0) due_ = TimePoint{};
}

void LiveBars::update(std::size_t columns, TimePoint now, const SeenFunction& is_seen, const StateFunction& state) {
  due_.reset();
  next_ = now + kBetweenLiveLines;
  line_.clear();
  const auto first = std::find_if(streams_.begin(), streams_.end(), is_seen);
  if (first == streams_.end()) return;
  const auto others = std::count_if(std::next(first), streams_.end(), is_seen);
  const std::string more = others > 0 ? fmt::format(" (+{} more)", others) : std::string();
  const std::size_t room = columns > more.size() ? columns - more.size() : 0;
  line_ = row_text(row_text(state(*first), room) + more, columns);
}

}  // namespace llmlaunch::launcher
