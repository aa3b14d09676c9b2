// Rules about variable names and small texts that the configuration, the plan and the command line share.
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <utility>

#include "launcher/config.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher {

bool names_secret(std::string_view variable) {
  std::string upper(variable);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  if (upper == "PWD" || upper == "OLDPWD") return false;                              // directories
  if (const auto at = upper.find("TOKENIZER"); at != upper.npos) upper.erase(at, 5);  // TOKENIZERS_PARALLELISM
  // GIT_AUTHOR_NAME is no secret, AUTHORIZATION is one.
  if (const auto at = upper.find("AUTHOR"); at != upper.npos && upper.find("AUTHORI", at) != at) upper.erase(at, 6);
  if (upper.ends_with("PASS") || upper.ends_with("PWD")) return true;
  constexpr std::array<std::string_view, 8> kWords{"TOKEN",  "KEY",        "SECRET",     "PASSWORD",
                                                   "PASSWD", "PASSPHRASE", "CREDENTIAL", "AUTH"};
  return std::any_of(kWords.begin(), kWords.end(), [&](auto word) { return upper.find(word) != upper.npos; });
}

namespace {

bool is_name_char(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::string_view("-_.+").find(c) != std::string_view::npos;
}

// The end of a shell's word that begins at `at`: a quote runs to its fellow.
std::size_t end_of_shell_word(std::string_view line, std::size_t at) {
  for (; at < line.size() && std::string_view(" \t\n;|&<>()`").find(line[at]) == std::string_view::npos; ++at) {
    if (line[at] != '"' && line[at] != '\'') continue;
    const auto close = line.find(line[at], at + 1);
    if (close == line.npos) return line.size();
    at = close;
  }
  return at;
}

// A line for a shell: NAME=value and --name value, wherever they stand in it.
std::string line_without_secrets(const std::string& line) {
  std::string out;
  for (std::size_t at = 0; at < line.size();) {
    std::size_t end = at;
    while (end < line.size() && is_name_char(line[end])) ++end;
    out += line.substr(at, std::max<std::size_t>(end, at + 1) - at);
    const std::string_view name = std::string_view(line).substr(at, end - at);
    at = std::max<std::size_t>(end, at + 1);
    const char next = at + 1 < line.size() ? line[at + 1] : '\0';
    const bool flag = name.starts_with('-') && at < line.size() && line[at] == ' ' && next != '-';
    const bool value = flag || (at < line.size() && line[at] == '=');
    if (!value || next == '$' || !names_secret(name)) continue;  // a variable's name gives nothing away
    out += line[at];
    const std::size_t after = end_of_shell_word(line, at + 1);
    if (after > at + 1) out += kMask;
    at = after;
  }
  return out;
}

}  // namespace

std::vector<std::string> without_secrets(std::vector<std::string> argv) {
  const auto is_flag = [](std::string_view word) { return word.size() > 1 && word.front() == '-'; };
  bool value_follows = false;
  for (std::string& word : argv) {
    if (std::exchange(value_follows, false) && !is_flag(word)) {
      word = kMask;
      continue;
    }
    const std::size_t equals = word.find('=');
    const std::string_view name = std::string_view(word).substr(0, equals);
    const bool is_name = std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '+';
    });
    if (!is_name || !names_secret(name)) {
      if (word.find(' ') != word.npos) word = line_without_secrets(word);
      continue;
    }
    if (equals != word.npos)
      word.replace(equals + 1, word.npos, kMask);
    else
      value_follows = is_flag(word);
  }
  return argv;
}

bool set_by_llmlaunch(std::string_view variable) {
  constexpr std::array<std::string_view, 38> kNames{env::kRank,
                                                    env::kWorldSize,
                                                    env::kLocalRank,
                                                    env::kLocalWorldSize,
                                                    env::kGroupRank,
                                                    env::kGroupWorldSize,
                                                    env::kNodeRank,
                                                    env::kLocalSize,
                                                    env::kCrossRank,
                                                    env::kCrossSize,
                                                    env::kJobId,
                                                    env::kGeneration,
                                                    env::kHost,
                                                    env::kColumns,
                                                    env::kToken,
                                                    env::kJoinToken,
                                                    env::kRendezvous,
                                                    env::kMasterAddr,
                                                    env::kMasterPort,
                                                    env::kRendezvousTimeout,
                                                    env::kRoleRank,
                                                    env::kRoleWorldSize,
                                                    env::kElasticRunId,
                                                    env::kElasticRestartCount,
                                                    env::kElasticMaxRestarts,
                                                    env::kHorovodRank,
                                                    env::kHorovodSize,
                                                    env::kHorovodLocalRank,
                                                    env::kHorovodLocalSize,
                                                    env::kHorovodCrossRank,
                                                    env::kHorovodCrossSize,
                                                    env::kHorovodHostname,
                                                    env::kElasticUseAgentStore,
                                                    env::kOmpiRank,
                                                    env::kOmpiSize,
                                                    env::kOmpiLocalRank,
                                                    env::kOmpiLocalSize,
                                                    env::kOmpiNodeRank};
  return std::find(kNames.begin(), kNames.end(), variable) != kNames.end();
}

bool repeats_place(std::string_view variable) {
  return set_by_llmlaunch(variable) && (variable.starts_with("ROLE_") || variable.starts_with("HOROVOD_") ||
                                        variable.starts_with("OMPI_") || variable.starts_with("TORCHELASTIC_"));
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
