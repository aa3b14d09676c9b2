/// \file
/// `llmlaunch.logs` and the options of the same names: how ranks' lines look on the console and what the run directory
/// keeps of them. The words are checked here, where they are read; what they do is in console.hpp and log_files.hpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// When the console has colours: on a terminal that wants them, always, never.
enum class ColorWhen { automatic, always, never };
/// Whose lines share a colour.
enum class ColorBy { host, rank };

/// "auto", "always", "never"; "host", "rank". Nothing for everything else.
std::optional<ColorWhen> color_when(std::string_view word);
std::optional<ColorBy> color_by(std::string_view word);

/// What a prefix may name.
enum class PrefixField { host, rank, local_rank, node_rank, time, stream, world_size };
/// A prefix taken apart: texts and names in their order. None: no prefix at all.
using PrefixTemplate = std::vector<std::variant<std::string, PrefixField>>;

/// "{time} [{rank}] " → pieces; "{{" and "}}" are braces; "none" and "" are no prefix. `Errc::invalid_argument` for an
/// unknown name (with "did you mean"), a brace without its other half, a line end, more than kMaxPrefixBytes.
Result<PrefixTemplate> parse_prefix(std::string_view text);
/// Before each line: what is longer buries the line.
inline constexpr std::size_t kMaxPrefixBytes = 200;

/// First and last of ranks that follow each other.
using RankRange = std::pair<std::uint32_t, std::uint32_t>;
/// "0,8-15" → ranges, in the order written. `Errc::invalid_argument` names the piece that is none.
Result<std::vector<RankRange>> parse_ranks(std::string_view text);
/// "0,8-15" of ranks in ascending order.
std::string ranks_in_words(const std::vector<std::uint32_t>& ranks);
/// `Errc::invalid_argument` when the job has no such rank: "rank 16 does not exist: the job has 16 ranks, 0-15".
Result<void> check_ranks(const std::vector<RankRange>& ranks, std::uint32_t world_size);

/// "4096", "100MB" (10^6), "64KiB" (2^10); K, M, G and T alone mean KB, MB … Nothing for everything else, and for more
/// than 10^18.
std::optional<std::uint64_t> parse_bytes(std::string_view text);
/// "100 MB", "64 KiB", "1234 bytes": the largest unit that leaves no rest.
std::string bytes_in_words(std::uint64_t bytes);

/// Smaller files would be rotated with every line.
inline constexpr std::uint64_t kMinFileBytes = 1024;
/// Rotating renames every kept file.
inline constexpr std::uint32_t kMaxKeep = 100;
/// Nobody reads faster.
inline constexpr std::uint32_t kMaxUpdatesPerSecond = 100;
/// "0" … "100". Nothing for everything else.
std::optional<std::uint32_t> parse_updates(std::string_view text);

/// Which run directories stay when a new run begins: the newest ones, or those that are not older.
struct RunsKept {
  std::optional<std::uint32_t> count;
  std::optional<std::chrono::seconds> age;
  bool all() const { return !count && !age; }
};
/// "20", "30d", "12h". Nothing for everything else.
std::optional<RunsKept> parse_runs_kept(std::string_view text);

struct LogSettings {
  // On the console.
  std::optional<std::string> prefix;  ///< checked by parse_prefix; unset: "[rank 48 gpu07] ", padded
  bool prefix_is_host = false;        ///< instead: "gpu07: ", for one rank on each host
  ColorWhen color = ColorWhen::automatic;
  ColorBy color_by = ColorBy::host;
  std::vector<RankRange> ranks;          ///< whose lines are shown; empty: all
  bool fold_lines = false;               ///< the same line of many ranks is shown once
  std::uint32_t updates_per_second = 1;  ///< of a line that is redrawn by "\r", for each stream; 0: only its last state
  // In the run directory.
  bool per_rank = true;
  bool merged = true;
  std::uint64_t max_file_bytes = 0;  ///< 0: no limit
  std::uint32_t keep = 5;            ///< rotated files beside the one that is written
  RunsKept keep_runs;                ///< older run directories are removed; run_directories.hpp
};

}  // namespace llmlaunch::launcher
