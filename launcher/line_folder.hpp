/// \file
/// `LineFolder`: the same line from many ranks within a moment becomes one, with the list of ranks. No line is lost,
/// and the lines of one rank keep their order. Sees no clock. Used by `Console` for `--fold-lines`.
///
///     rank 0 says a, b    rank 1 says a, c, b    →    a [0-1]  c [1]  b [0-1]
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "launcher/agent/protocol.hpp"

namespace llmlaunch::launcher {

using TimePoint = std::chrono::steady_clock::time_point;

/// How long a line waits for others that are the same. People see no delay below this.
inline constexpr std::chrono::milliseconds kFoldWindow{100};
/// What waits is bounded by bytes and by lines; beyond it the oldest goes out before its time.
inline constexpr std::size_t kMaxFoldedBytes = 1u << 20;
inline constexpr std::size_t kMaxFoldedLines = 4096;

class LineFolder {
 public:
  struct Folded {
    agent::Stream stream;
    std::vector<std::uint32_t> ranks;  // in the order in which they came
    std::string text;
  };
  using FoldedFunction = std::function<void(const Folded& line)>;

  /// `ranks`: of the job. `speaking`: how many of them have their lines passed here; a line that all have said waits
  /// no longer.
  LineFolder(std::size_t ranks, std::size_t speaking);

  void add(std::uint32_t rank, agent::Stream stream, std::string_view text, TimePoint now);
  /// Gives out, in their order, the lines that wait no longer.
  void take(TimePoint now, const FoldedFunction& line);
  void take_all(const FoldedFunction& line);
  /// When `take` has something again.
  std::optional<TimePoint> due() const;

 private:
  using Number = std::uint64_t;  // of a group, from 1, in the order of output
  struct Group {
    Folded line;  // without ranks: it was moved
    TimePoint until;
    std::size_t hash;
    std::size_t latest = 0;  // ranks that have said nothing since
  };
  Number find_behind(std::uint32_t rank, const Folded& line, const std::deque<Number>& numbers);
  Number find_movable(std::uint32_t rank, const Folded& line, const std::deque<Number>& numbers, TimePoint now);
  Number move_to_end(Number number);
  void join(std::uint32_t rank, Number number);
  void take_front(const FoldedFunction& line);
  Group& group(Number number) { return groups_[number - first_]; }

  std::size_t speaking_;
  std::deque<Group> groups_;
  Number first_ = 1;          // of groups_.front()
  std::vector<Number> last_;  // by rank: the group that holds its last line; 0: none
  std::size_t bytes_ = 0;
  std::unordered_map<std::size_t, std::deque<Number>> by_hash_;  // numbers ascend
};

}  // namespace llmlaunch::launcher
