// When a rank says that it waits, which one asks for the others, and the words. All ranks make the same calls in the
// same order, so that the number of a call is the same on each; those that only start something do not count, for a
// step that a device did not take may have started less on one rank than on others.
#include "trainer/wait_watch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
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

/// The number of each rank that waits, by rank.
std::vector<bool> waiting(std::string_view text, std::size_t ranks) {
  std::vector<bool> here(ranks);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    std::size_t rank = ranks;
    std::from_chars(text.data(), text.data() + end, rank);
    if (rank < ranks) here[rank] = true;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return here;
}

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
  note_again_.reset();
  on_start(now);
}

std::string WaitWatch::on_leave() {
  waits_since_.reset();
  started_.reset();
  return std::exchange(late_, {});
}

/// Where the limit is half gone already, who asks may do so before this wait is long.
WaitWatch::Time WaitWatch::note_at() const {
  if (note_again_) return *note_again_;
  return std::min(*waits_since_ + long_, std::max(*waits_since_, *started_ + half_));
}

WaitWatch::Action WaitWatch::on_tick(Time now) {
  if (is_useless_) return Rest{};
  if (noted_ && is_over(noted_->call)) {
    const Noted old = *std::exchange(noted_, std::nullopt);
    if (old.is_first || old.asks) return Forget{old.call, old.is_first, old.asks};
  }
  if (!waits_since_) return Rest{};
  if (!noted_) return now < note_at() ? Action(Rest{}) : Note{call_, fmt::format("{} ", rank_)};
  if (noted_->is_answered || now < *started_ + ask_after_) return Rest{};
  if (!noted_->asks) return Hear{call_};
  return noted_->answer.empty() ? Action(Ask{call_}) : Tell{call_, noted_->answer};
}

bool WaitWatch::fails(const Error& error) {
  is_useless_ = error.code == Errc::unsupported;
  return false;
}

bool WaitWatch::on_noted(const Note& note, const Result<std::uint64_t>& length, Time now) {
  if (!length) {
    if (!is_over(note.call)) note_again_ = now + long_;
    return fails(length.error());
  }
  const bool was_tried = !is_over(note.call) && note_again_;
  noted_ = Noted{.call = note.call, .is_first = was_tried || *length == note.text.size(), .answer = {}};
  return true;
}

bool WaitWatch::on_heard(const Result<Heard>& heard) {
  if (!heard) return fails(heard.error());
  noted_->asks = heard->created;
  if (heard->created) return true;
  know(heard->answer);
  noted_->is_answered = !heard->answer.empty();
  return false;
}

bool WaitWatch::on_asked(const Result<std::optional<std::string>>& who_waits) {
  if (!who_waits) return fails(who_waits.error());
  noted_->answer = answer_to(who_waits->value_or(""));
  know(noted_->answer);
  return !noted_->answer.empty();
}

bool WaitWatch::on_told(const Result<void>& told) {
  if (!told) return fails(told.error());
  noted_->is_answered = true;
  return false;
}

void WaitWatch::know(const std::string& answer) {
  if (!is_over(noted_->call)) late_ = answer;
}

/// Empty: it cannot be known. Where this rank is not among those that wait, the key is gone: others are further.
std::string WaitWatch::answer_to(std::string_view who_waits) const {
  const std::vector<bool> here = waiting(who_waits, hosts_.size());
  if (!here[rank_]) return {};
  std::vector<std::size_t> late;
  for (std::size_t rank = 0; rank < here.size(); ++rank) {
    if (!here[rank]) late.push_back(rank);
  }
  if (late.empty()) return "all ranks wait in it";
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
