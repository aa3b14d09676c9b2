// Groups of the same line, in the order of output. A rank joins a group behind the one that holds its last line; or one
// before it, which is then moved to the end, as long as none of those who are in it has said something since. So each
// rank's lines come out in their order, whoever else said them.
#include "launcher/line_folder.hpp"

#include <algorithm>
#include <utility>

namespace llmlaunch::launcher {
namespace {

bool same_line(const LineFolder::Folded& a, const LineFolder::Folded& b) {
  return a.stream == b.stream && a.text == b.text;
}

}  // namespace

LineFolder::LineFolder(std::size_t ranks, std::size_t speaking) : speaking_(speaking), last_(ranks, 0) {}

void LineFolder::add(std::uint32_t rank, agent::Stream stream, std::string_view text, TimePoint now) {
  Folded line{stream, {}, std::string(text)};
  const std::size_t hash = std::hash<std::string_view>{}(text);
  std::deque<Number>& numbers = by_hash_[hash];
  if (const Number behind = find_behind(rank, line, numbers); behind != 0) return join(rank, behind);
  if (const Number before = find_movable(rank, line, numbers, now); before != 0) return join(rank, move_to_end(before));
  bytes_ += text.size();
  groups_.push_back({std::move(line), now + kFoldWindow, hash});
  numbers.push_back(first_ + groups_.size() - 1);
  join(rank, numbers.back());
}

LineFolder::Number LineFolder::find_behind(std::uint32_t rank, const Folded& line, const std::deque<Number>& numbers) {
  for (auto at = std::upper_bound(numbers.begin(), numbers.end(), last_[rank]); at != numbers.end(); ++at)
    if (same_line(group(*at).line, line)) return *at;
  return 0;
}

LineFolder::Number LineFolder::find_movable(std::uint32_t rank, const Folded& line, const std::deque<Number>& numbers,
                                            TimePoint now) {
  if (numbers.empty()) return 0;
  const Group& latest = group(numbers.back());
  const bool movable = numbers.back() != last_[rank] && latest.latest == latest.line.ranks.size() && now < latest.until;
  return movable && same_line(latest.line, line) ? numbers.back() : 0;
}

LineFolder::Number LineFolder::move_to_end(Number number) {
  Group moved = std::exchange(group(number), Group{});
  std::deque<Number>& numbers = by_hash_[moved.hash];
  numbers.pop_back();  // find_movable takes the last one only
  const Number end = first_ + groups_.size();
  for (const std::uint32_t member : moved.line.ranks) last_[member] = end;
  groups_.push_back(std::move(moved));
  numbers.push_back(end);
  return end;
}

void LineFolder::join(std::uint32_t rank, Number number) {
  if (last_[rank] >= first_) --group(last_[rank]).latest;
  Group& joined = group(number);
  joined.line.ranks.push_back(rank);
  ++joined.latest;
  last_[rank] = number;
}

void LineFolder::take_front(const FoldedFunction& line) {
  const Group front = std::move(groups_.front());
  groups_.pop_front();
  ++first_;
  if (front.line.ranks.empty()) return;
  const auto found = by_hash_.find(front.hash);
  found->second.pop_front();
  if (found->second.empty()) by_hash_.erase(found);
  bytes_ -= front.line.text.size();
  line(front.line);
}

void LineFolder::take(TimePoint now, const FoldedFunction& line) {
  while (!groups_.empty()) {
    const Group& front = groups_.front();
    const bool full = bytes_ > kMaxFoldedBytes || groups_.size() > kMaxFoldedLines;
    const std::size_t ranks = front.line.ranks.size();
    if (now < front.until && !full && ranks != 0 && ranks < speaking_) return;
    take_front(line);
  }
}

void LineFolder::take_all(const FoldedFunction& line) {
  while (!groups_.empty()) take_front(line);
}

std::optional<TimePoint> LineFolder::due() const {
  if (groups_.empty()) return std::nullopt;
  return groups_.front().until;
}

}  // namespace llmlaunch::launcher
