// Small grammars of values that people write for their ranks.
#include "launcher/process_settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>

#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher {
namespace {

/// RTMIN, RTMIN+3, RTMAX-1, as kill(1) writes them.
std::optional<int> real_time_signal(std::string_view name) {
  const bool from_least = name.starts_with("RTMIN");
  if (!from_least && !name.starts_with("RTMAX")) return std::nullopt;
  const int base = from_least ? SIGRTMIN : SIGRTMAX;
  std::string_view rest = name.substr(5);
  if (rest.empty()) return base;
  if (rest.front() != (from_least ? '+' : '-')) return std::nullopt;
  const auto distance = parse_whole<unsigned>(rest.substr(1));
  if (!distance || *distance > static_cast<unsigned>(SIGRTMAX - SIGRTMIN)) return std::nullopt;
  return from_least ? base + static_cast<int>(*distance) : base - static_cast<int>(*distance);
}

std::optional<int> signal_number(std::string_view text) {
  if (const auto number = parse_whole<int>(text)) return *number > 0 && *number <= SIGRTMAX ? number : std::nullopt;
  std::string name(text);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (int number = 1; number < SIGRTMIN; ++number) {
    const char* known = ::sigabbrev_np(number);
    if (known != nullptr && name == known) return number;
  }
  return real_time_signal(name);
}

/// Empty for a signal that a program can take and pass on.
std::string_view why_not_forwarded(int signal) {
  switch (signal) {
    case SIGKILL:
    case SIGSTOP: return "no program can catch it";
    case SIGTERM: return "it stops the job, and its ranks get it then: something must be left that does";
    case SIGTSTP:
    case SIGCONT:
    case SIGTTIN:
    case SIGTTOU: return "it is how a shell stops and continues the job as a whole";
    case SIGCHLD:
    case SIGPIPE: return "the kernel sends it to llmlaunch for reasons of llmlaunch's own";
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
    case SIGABRT: return "it tells of a defect of the program that gets it";
    default: return {};
  }
}

}  // namespace

std::optional<agent::CpuBind> parse_cpu_bind(std::string_view text) {
  constexpr std::array<std::string_view, 4> kWords{"none", "core", "numa", "gpu"};
  const auto found = std::find(kWords.begin(), kWords.end(), text);
  if (found == kWords.end()) return std::nullopt;
  return static_cast<agent::CpuBind>(found - kWords.begin());
}

std::optional<StdinTo> parse_stdin(std::string_view text) {
  if (text == "none") return StdinTo::none;
  if (text == "0") return StdinTo::rank_0;
  if (text == "all") return StdinTo::all;
  return std::nullopt;
}

std::optional<std::uint64_t> parse_limit(std::string_view text, bool is_size) {
  if (text == "unlimited") return agent::kUnlimited;
  unsigned shift = 0;
  if (is_size && text.size() > 1) {
    constexpr std::string_view kLetters = "KMGT";
    const auto unit = kLetters.find(text.back());
    if (unit != kLetters.npos) {
      shift = 10 * (static_cast<unsigned>(unit) + 1);
      text.remove_suffix(1);
    }
  }
  const auto number = parse_whole<std::uint64_t>(text);
  if (!number || *number > (agent::kUnlimited >> shift) - 1) return std::nullopt;
  return *number << shift;
}

std::optional<std::uint32_t> parse_umask(std::string_view text) {
  const auto mask = parse_whole<std::uint32_t>(text, 8);
  if (!mask || *mask > 0777 || text.size() > 4) return std::nullopt;
  return mask;
}

Result<int> parse_forwarded_signal(std::string_view text) {
  const auto number = signal_number(text);
  if (!number) {
    return make_error(Errc::invalid_argument, fmt::format("'{}' is no signal", text.substr(0, 40)), {},
                      "a name such as USR1, HUP or RTMIN+1; kill -l lists them");
  }
  const std::string_view why_not = why_not_forwarded(*number);
  if (why_not.empty()) return *number;
  return make_error(Errc::invalid_argument, fmt::format("'{}' cannot be forwarded: {}", text, why_not));
}

}  // namespace llmlaunch::launcher
