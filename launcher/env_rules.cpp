// Rules about variable names and small texts that the configuration, the plan and the command line share.
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include "launcher/config.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher {

bool names_secret(std::string_view variable) {
  std::string upper(variable);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  if (const auto at = upper.find("TOKENIZER"); at != upper.npos) upper.erase(at, 5);  // TOKENIZERS_PARALLELISM
  constexpr std::array<std::string_view, 7> kWords{"TOKEN",  "KEY",        "SECRET",    "PASSWORD",
                                                   "PASSWD", "PASSPHRASE", "CREDENTIAL"};
  return std::any_of(kWords.begin(), kWords.end(), [&](auto word) { return upper.find(word) != upper.npos; });
}

bool set_by_llmlaunch(std::string_view variable) {
  constexpr std::array<std::string_view, 17> kNames{
      env::kRank,     env::kWorldSize, env::kLocalRank,  env::kLocalWorldSize, env::kGroupRank, env::kGroupWorldSize,
      env::kNodeRank, env::kLocalSize, env::kCrossRank,  env::kCrossSize,      env::kJobId,     env::kGeneration,
      env::kHost,     env::kToken,     env::kRendezvous, env::kMasterAddr,     env::kMasterPort};
  return std::find(kNames.begin(), kNames.end(), variable) != kNames.end();
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  constexpr double kYearMs = 365.0 * 24 * 3600 * 1000;
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, failed] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (failed != std::errc{} || !std::isfinite(value) || std::signbit(value)) return std::nullopt;
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  const double factor = unit.empty() || unit == "s" ? 1000
                        : unit == "ms"              ? 1
                        : unit == "m"               ? 60'000
                        : unit == "h"               ? 3'600'000
                                                    : 0;
  if (factor == 0 || value * factor > kYearMs) return std::nullopt;
  return std::chrono::milliseconds(std::llround(value * factor));
}

}  // namespace llmlaunch::launcher
