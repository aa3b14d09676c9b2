/// \file
/// `LinePrefix`: what stands before the lines of each rank, put together once for all of them. Used by `LogMux` and
/// `Console`. Pure; the time comes in as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/log_settings.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/types.hpp"

namespace llmlaunch::launcher {

/// Where a rank runs, as its prefix may say it.
struct RankPlace {
  std::string host;
  std::uint32_t local_rank = 0;
  std::uint32_t node_rank = 0;
};
/// By rank.
std::vector<RankPlace> rank_places(const LaunchPlan& plan);

class LinePrefix {
 public:
  /// "[rank 48 gpu07] ", rank and host padded so that all have the same width.
  explicit LinePrefix(const std::vector<RankPlace>& places);
  /// By the template, padded at its end to the same width; an empty one is no prefix.
  LinePrefix(const PrefixTemplate& pieces, const std::vector<RankPlace>& places);

  /// What checked settings ask for on the console.
  static LinePrefix of(const LogSettings& settings, const std::vector<RankPlace>& places);
  /// "gpu07: ", as pdsh writes it: not padded. One rank on each host.
  static LinePrefix of_hosts(const std::vector<RankPlace>& places);

  /// `time` is what {time} stands for; it must have the same width every time.
  void append(Rank rank, agent::Stream stream, std::string_view time, std::string& to) const;
  bool empty() const { return texts_.empty() || texts_.front().empty(); }
  bool shows_time() const { return shows_time_; }
  /// Of a terminal, that each takes; `of_hosts`: that the first one takes.
  std::size_t columns() const;

 private:
  LinePrefix() = default;
  void pad();

  std::vector<std::string> texts_;  // 2 per rank: stdout, stderr; kTimeMark for {time}
  bool shows_time_ = false;
};

}  // namespace llmlaunch::launcher
