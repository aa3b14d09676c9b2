// The words of `llmlaunch.logs` that are more than a number: prefix templates, lists of ranks, sizes.
#include "launcher/log_settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "rendezvous/base/nearest.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher {
namespace {

// In the order of PrefixField.
constexpr std::array<std::string_view, 7> kFieldNames{"host", "rank",   "local_rank", "node_rank",
                                                      "time", "stream", "world_size"};

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};
// Largest first, as bytes_in_words looks for the largest one that fits.
constexpr std::array<Unit, 8> kUnits{{{"TiB", 1ull << 40},
                                      {"TB", 1'000'000'000'000},
                                      {"GiB", 1ull << 30},
                                      {"GB", 1'000'000'000},
                                      {"MiB", 1ull << 20},
                                      {"MB", 1'000'000},
                                      {"KiB", 1ull << 10},
                                      {"KB", 1'000}}};

Error wrong_log_setting(std::string what, std::string hint = {}) {
  return make_error(Errc::invalid_argument, std::move(what), {}, std::move(hint));
}

Result<PrefixField> field_named(std::string_view name) {
  const auto found = std::find(kFieldNames.begin(), kFieldNames.end(), name);
  if (found != kFieldNames.end()) return static_cast<PrefixField>(found - kFieldNames.begin());
  const std::string_view meant = nearest(name, kFieldNames);
  return wrong_log_setting(
      fmt::format("the prefix names '{{{}}}', which is none of {{{}}}", name, fmt::join(kFieldNames, "}, {")),
      meant.empty() ? "{{ and }} stand for braces" : fmt::format("did you mean '{{{}}}'?", meant));
}

std::optional<RankRange> range_of(std::string_view piece) {
  const auto dash = piece.find('-');
  const auto first = parse_whole<std::uint64_t>(piece.substr(0, dash));
  const auto last = dash == piece.npos ? first : parse_whole<std::uint64_t>(piece.substr(dash + 1));
  if (!first || !last || *last < *first || *last > UINT32_MAX) return std::nullopt;
  return RankRange{static_cast<std::uint32_t>(*first), static_cast<std::uint32_t>(*last)};
}

}  // namespace

std::optional<ColorWhen> color_when(std::string_view word) {
  if (word == "auto") return ColorWhen::automatic;
  if (word == "always") return ColorWhen::always;
  if (word == "never") return ColorWhen::never;
  return std::nullopt;
}

std::optional<ColorBy> color_by(std::string_view word) {
  if (word == "host") return ColorBy::host;
  if (word == "rank") return ColorBy::rank;
  return std::nullopt;
}

Result<PrefixTemplate> parse_prefix(std::string_view text) {
  PrefixTemplate pieces;
  if (text == "none") return pieces;
  if (text.size() > kMaxPrefixBytes)
    return wrong_log_setting(
        fmt::format("the prefix has {} bytes, of {} that it may have", text.size(), kMaxPrefixBytes));
  if (text.find_first_of(std::string_view("\n\r\0", 3)) != text.npos)
    return wrong_log_setting("the prefix holds a line end or a zero byte",
                             "it stands before each line, on the same line");
  std::string words;
  while (!text.empty()) {
    const char c = text.front();
    const bool brace = c == '{' || c == '}';
    if (!brace || text.substr(1).starts_with(c)) {
      words += c;
      text.remove_prefix(brace ? 2 : 1);
      continue;
    }
    const auto close = text.find('}');
    if (c == '}' || close == text.npos)
      return wrong_log_setting(fmt::format("the prefix has a '{}' without its other half", c),
                               "{{ and }} stand for braces");
    const Result<PrefixField> field = field_named(text.substr(1, close - 1));
    if (!field) return field.error();
    if (!words.empty()) pieces.emplace_back(std::exchange(words, {}));
    pieces.emplace_back(*field);
    text.remove_prefix(close + 1);
  }
  if (!words.empty()) pieces.emplace_back(std::move(words));
  return pieces;
}

Result<std::vector<RankRange>> parse_ranks(std::string_view text) {
  std::vector<RankRange> ranges;
  while (true) {
    const auto comma = text.find(',');
    const std::string_view piece = text.substr(0, comma);
    const auto range = range_of(piece);
    if (!range)
      return wrong_log_setting(fmt::format("'{}' is no rank and no range of ranks", piece), "ranks look like 0,8-15");
    ranges.push_back(*range);
    if (comma == text.npos) return ranges;
    text.remove_prefix(comma + 1);
  }
}

std::string ranks_in_words(const std::vector<std::uint32_t>& ranks) {
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += last == i ? fmt::format("{}", ranks[i]) : fmt::format("{}-{}", ranks[i], ranks[last]);
    i = last + 1;
  }
  return text;
}

Result<void> check_ranks(const std::vector<RankRange>& ranks, std::uint32_t world_size) {
  for (const auto& [first, last] : ranks) {
    if (last < world_size) continue;
    return wrong_log_setting(
        fmt::format("rank {} does not exist: the job has {}", std::max(first, world_size),
                    world_size == 1 ? "rank 0 alone" : fmt::format("{} ranks, 0-{}", world_size, world_size - 1)));
  }
  return ok;
}

std::optional<RunsKept> parse_runs_kept(std::string_view text) {
  const std::string_view digits = text.substr(0, text.find_first_not_of("0123456789"));
  const std::string_view unit = text.substr(digits.size());
  const std::uint32_t value = parse_whole<std::uint32_t>(digits).value_or(0);
  if (value == 0) return std::nullopt;
  if (unit.empty()) return RunsKept{value, std::nullopt};
  constexpr std::uint32_t kMostDays = 36'500;
  if (unit == "d" && value <= kMostDays) return RunsKept{std::nullopt, std::chrono::hours(24) * std::int64_t{value}};
  if (unit == "h" && value <= kMostDays * 24) return RunsKept{std::nullopt, std::chrono::hours(value)};
  return std::nullopt;
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  constexpr std::uint64_t kMost = 1'000'000'000'000'000'000;
  const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = parse_whole<std::uint64_t>(text.substr(0, digits));
  std::string_view unit = text.substr(digits);
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  std::uint64_t factor = unit.empty() && digits == text.size() ? 1 : 0;
  for (const Unit& one : kUnits) {
    const bool short_name = unit.size() == 1 && one.name.size() == 2 && one.name.front() == unit.front();
    if (one.name == unit || short_name) factor = one.bytes;
  }
  if (!number || factor == 0 || *number > kMost / factor) return std::nullopt;
  return *number * factor;
}

std::optional<std::uint32_t> parse_updates(std::string_view text) {
  const auto number = parse_whole<std::uint64_t>(text);
  if (!number || *number > kMaxUpdatesPerSecond) return std::nullopt;
  return static_cast<std::uint32_t>(*number);
}

std::string bytes_in_words(std::uint64_t bytes) {
  for (const Unit& unit : kUnits)
    if (bytes >= unit.bytes && bytes % unit.bytes == 0) return fmt::format("{} {}", bytes / unit.bytes, unit.name);
  return fmt::format("{} bytes", bytes);
}

}  // namespace llmlaunch::launcher
