// When a rank says that it waits, which one asks for the others, and the words. All ranks make the same calls in the
// same order, so that the number of a call is the same on each; those that only start something do not count, for a
// step that a device did not take may have started less on one rank than on others.
#include "trainer/wait_watch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace llmlaunch::trainer {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kMostTick{1000};
/// A wait that is worth a word to the store, where the limit is not short: most slow checkpoints cost none.
constexpr milliseconds kLongWait{30'000};
/// What is left of a limit when it is asked, where it is not short.
constexpr milliseconds kMostLeft{30'000};
/// Ranks that are named; of more there is the number.
constexpr std::size_t kNamed = 4;

/// Not more than it was.
std::string seconds_text(milliseconds time) {
  const double seconds = std::chrono::duration<double>(time).count();
  return seconds < 10 ? fmt::format("{:.2g}", seconds) : fmt::format("{}", std::floor(seconds));
}

}  // namespace

WaitWatch::WaitWatch(std::uint32_t rank, std::vector<std::string> hosts, Duration limit)
    : rank_(rank),
      hosts_(std::move(hosts)),
      tick_(std::clamp(limit / 50, milliseconds(1), kMostTick)),
      long_(std::min(kLongWait, limit / 10)),
      half_(limit / 2),
      ask_after_(limit - std::min(kMostLeft, limit / 10)) {}

void WaitWatch::on_start(Time now) {
  if (!started_) started_ = now;
}

void WaitWatch::on_enter(Time now) {
  ++call_;
  waits_since_ = now;
  on_start(now);
}

std::string WaitWatch::on_leave() {
  waits_since_.reset();
  started_.reset();
  return std::exchange(late_, {});
}

/// Where the limit is half gone already, who asks may do so before this wait is long.
WaitWatch::Time WaitWatch::note_at() const {
  return std::min(*waits_since_ + long_, std::max(*waits_since_, *started_ + half_));
}

WaitWatch::Action WaitWatch::on_tick(Time now) {
  if (is_useless_) return Rest{};
  if (noted_ && is_over(noted_->call)) {
    const Noted old = *std::exchange(noted_, std::nullopt);
    return Forget{old.call, old.asks};
  }
  if (!waits_since_) return Rest{};
  if (!noted_ || noted_->note_again) {
    const Time due = noted_ ? *noted_->note_again : note_at();
    return now < due ? Action(Rest{}) : Note{call_};
  }
  if (noted_->is_answered || now < *started_ + ask_after_) return Rest{};
  if (!noted_->asks) return Hear{call_};
  return noted_->answer.empty() ? Action(Ask{}) : Tell{call_, noted_->answer};
}

bool WaitWatch::fails(const Error& error) {
  is_useless_ = error.code == Errc::unsupported;
  return false;
}

bool WaitWatch::on_noted(std::uint64_t call, const Result<void>& noted, Time now) {
  noted_ = Noted{.call = call, .note_again = std::nullopt, .answer = {}};
  if (noted) return true;
  noted_->note_again = now + long_;
  return fails(noted.error());
}

bool WaitWatch::on_heard(const Result<Heard>& heard) {
  if (!heard) return fails(heard.error());
  noted_->asks = heard->created;
  if (heard->created) return true;
  know(heard->answer);
  noted_->is_answered = !heard->answer.empty();
  return false;
}

bool WaitWatch::on_asked(const Result<std::vector<Waiter>>& waiters) {
  if (!waiters) return fails(waiters.error());
  noted_->answer = answer_to(*waiters);
  know(noted_->answer);
  return true;
}

bool WaitWatch::on_told(const Result<void>& told) {
  if (!told) return fails(told.error());
  noted_->is_answered = true;
  return false;
}

void WaitWatch::know(const std::string& answer) {
  if (!is_over(noted_->call)) late_ = answer;
}

std::string WaitWatch::answer_to(const std::vector<Waiter>& waiters) const {
  std::vector<bool> waits(hosts_.size());
  waits[rank_] = true;
  bool elsewhere = false;
  for (const Waiter& waiter : waiters) {
    if (waiter.rank >= waits.size()) continue;
    waits[waiter.rank] = true;
    elsewhere = elsewhere || waiter.call != noted_->call;
  }
  std::vector<std::size_t> late;
  for (std::size_t rank = 0; rank < waits.size(); ++rank) {
    if (!waits[rank]) late.push_back(rank);
  }
  if (late.empty()) return elsewhere ? "all ranks wait, not all in the same collective" : "all ranks wait in it";
  return fmt::format("{} had not come to it within {} s", named(late), seconds_text(ask_after_ - long_ - tick_));
}

std::string WaitWatch::named(const std::vector<std::size_t>& ranks) const {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < std::min(ranks.size(), kNamed); ++i) {
    text += fmt::format("{}{} on {}", i == 0 ? "" : ", ", ranks[i], hosts_[ranks[i]]);
  }
  return ranks.size() > kNamed ? text + fmt::format(" and {} more", ranks.size() - kNamed) : text;
}

}  // namespace llmlaunch::trainer
