/// \file
/// Folding of host lists: names back to "gpu[01-16],login0", as `compress_hostlist` does, and in the ways that
/// ClusterShell's users know. Pure; the order of the names is kept, and `expand_hostlist` gives them back.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// Names with more indices than this are no names of hosts; also the highest axis.
inline constexpr int kMaxAxes = 100;

struct FoldOptions {
  /// "n[0-18/2]" instead of "n[0,2,…]" where at least so many indices have the same distance; 0: never.
  std::size_t steps_from = 0;
  /// Only these indices become ranges, the first one of a name is 1 and the last one -1; empty: all. For programs that
  /// take one range in a name, such as Slurm's.
  std::vector<int> axes;
};

std::string fold_hostlist(const std::vector<std::string>& hosts, const FoldOptions& options);

/// In parts that are one name or one range without a gap each: n[1-3,7] is n[1-3] and n7. Steps are gaps.
std::vector<std::string> contiguous_hostlists(const std::vector<std::string>& hosts);

/// "1", "-1", "1,3" → FoldOptions::axes. Errors: `Errc::invalid_argument`.
Result<std::vector<int>> parse_axes(std::string_view text);

}  // namespace llmlaunch::launcher
