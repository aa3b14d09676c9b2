/// \file
/// How ranks run on their hosts, beside what they run: limits, umask, cores, stdin, signals, setup lines; and the words
/// for it that the configuration and the command line share. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/agent/settings.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// Who gets llmlaunch's own stdin; the others read end of file. Nobody is the default: a launcher that reads would take
/// the rest of a `while read host; do llmlaunch …; done < list`, as ssh does.
enum class StdinTo { none, rank_0, all };

struct ProcessSettings {
  std::vector<agent::LimitSpec> limits;
  std::optional<std::uint32_t> umask;
  std::optional<agent::CpuBind> cpu_bind;
  StdinTo stdin_to = StdinTo::none;
  std::vector<int>
      forward_signals;             ///< to the ranks instead of what llmlaunch does with them; USR1 and USR2 always are
  std::vector<std::string> setup;  ///< on every host, before the host's own
};

/// "none", "core", "numa", "gpu".
std::optional<agent::CpuBind> parse_cpu_bind(std::string_view text);
/// "none", "0", "all".
std::optional<StdinTo> parse_stdin(std::string_view text);
inline constexpr std::string_view kCpuBindWords = "one of none, core, numa, gpu";
inline constexpr std::string_view kStdinWords = "one of none, 0, all";

/// "65536", "64K", "2G" (powers of 1024, for sizes), "unlimited". `is_size`: LimitName::bytes.
std::optional<std::uint64_t> parse_limit(std::string_view text, bool is_size);
/// "027", "22": octal, at most 0777.
std::optional<std::uint32_t> parse_umask(std::string_view text);

/// "USR1", "SIGUSR1", "RTMIN+3", "10" → the number of a signal that can be forwarded. Errors say why it cannot:
/// `Errc::invalid_argument`.
Result<int> parse_forwarded_signal(std::string_view text);

}  // namespace llmlaunch::launcher
