// How many hosts may be on their way at the same time; see fan_out.hpp for the rules.
#include "launcher/fan_out.hpp"

#include <algorithm>
#include <utility>

namespace llmlaunch::launcher {

FanOut::FanOut(std::optional<std::uint32_t> fixed, std::size_t cores, std::size_t hosts)
    : adapts_(!fixed),
      window_(fixed ? std::max<std::size_t>(*fixed, 1)
                    : std::clamp(cores * kPlacesPerCore, kFewestPlacesAtStart, kMostPlacesAtStart)),
      places_(hosts) {}

void FanOut::take(std::size_t host, TimePoint now) {
  if (!last_tick_) last_tick_ = now;
  places_[host] = {true, OpenStep::waiting, now};
  ++taken_;
}

void FanOut::reached(std::size_t host, OpenStep step, TimePoint now) {
  if (places_[host].step == step) return;
  places_[host].step = step;
  places_[host].since = now;
}

void FanOut::opened(std::size_t host) {
  leave(host);
  ++opened_since_raise_;
  if (!adapts_ || window_ >= kMostPlaces || (halved_at_ && opened_since_raise_ < window_)) return;
  ++window_;
  opened_since_raise_ = 0;
}

void FanOut::leave(std::size_t host) {
  if (std::exchange(places_[host].counts, false)) --taken_;
}

void FanOut::tick(TimePoint now, std::chrono::milliseconds behind) {
  const bool late = behind > kLateTick || (last_tick_ && now - *last_tick_ > kLateTick);
  last_tick_ = now;
  if (late) halve(now);
  for (std::size_t host = 0; host < places_.size(); ++host) {
    if (late)
      places_[host].since = now;
    else if (now - places_[host].since > kPlacePatience)
      leave(host);
  }
}

void FanOut::halve(TimePoint now) {
  if (!adapts_ || (halved_at_ && now < *halved_at_ + kHalvingPause)) return;
  halved_at_ = now;
  opened_since_raise_ = 0;
  window_ = std::max(window_ / 2, kFewestPlaces);
}

}  // namespace llmlaunch::launcher
