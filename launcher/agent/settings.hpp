/// \file
/// How the ranks of a host are to run: limits, umask, cores, setup lines, stdin. The last part of a Prepare; checked by
/// the agent before any rank starts. Head and agent link it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::agent {

// Lines of shell that people write into a file; an agent keeps all of them, and their script, in memory.
inline constexpr std::size_t kMaxSetupLines = 256;
inline constexpr std::size_t kMaxSetupLineBytes = 64u << 10;
inline constexpr std::size_t kMaxLimits = 64;  // setrlimit knows 16
inline constexpr std::uint32_t kNoUmask = UINT32_MAX;
inline constexpr std::uint64_t kUnlimited = UINT64_MAX;

struct LimitSpec {
  std::string name;         ///< of limit_names.hpp
  std::uint64_t value = 0;  ///< the soft limit, in setrlimit's unit; kUnlimited
  bool operator==(const LimitSpec&) const = default;
};

/// Which cores a rank gets: all that the agent has, or a share that no other rank of the host has.
enum class CpuBind : std::uint8_t { none, core, numa, gpu };

struct RankSettings {
  std::vector<LimitSpec> limits;
  std::uint32_t umask = kNoUmask;
  CpuBind cpu_bind = CpuBind::none;
  bool choose_omp_threads = false;          ///< OMP_NUM_THREADS = cores per rank, when the host's environment has none
  std::vector<std::string> setup;           ///< shell lines, run once before the ranks
  std::uint32_t start_timeout_ms = 60'000;  ///< for all setup lines, and for the exec of a rank
  std::vector<std::uint32_t> stdin_ranks;   ///< get the head's stdin; the others /dev/null
  bool operator==(const RankSettings&) const = default;
};

void put(FrameEncoder& out, const RankSettings& settings);
/// Fields that do not fit make `in` fail, as everywhere; `Errc::too_large` for a count above its limit,
/// `Errc::protocol` for a value that means nothing.
Result<RankSettings> take_settings(FieldReader& in);

/// For messages of this protocol: the encoding of an empty text, and an error about a count above its limit.
inline constexpr std::size_t kMinTextBytes = 4;
Error too_many(const char* what, std::size_t count, std::size_t limit);

}  // namespace llmlaunch::launcher::agent
