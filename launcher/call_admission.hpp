/// \file
/// Which machines that call in belong to the job: the same llmlaunch, the same world, the same program, each place
/// once. Pure; used by CallDesk.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/call_messages.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// What this process says of its machine, from its own plan.
CallHello call_hello(const LaunchPlan& plan, std::uint32_t machine_rank);

/// What becomes of a signal that a machine passes on.
enum class CalledSignal {
  taken,       ///< it stops the job, lets it stand or go on, or goes to the ranks
  not_ours,    ///< machine 0 was not told to forward it: its configuration counts
  impossible,  ///< no signal, or one that no program can have caught
};
CalledSignal called_signal(std::uint32_t number, const std::vector<int>& forward_signals);

class CallAdmission {
 public:
  /// `own`: what machine 0 would say.
  explicit CallAdmission(CallHello own);

  /// Takes the place for the caller, or says what is wrong, with both sides' values. Errors: `Errc::version_mismatch`,
  /// `Errc::invalid_config`, `Errc::duplicate_rank`.
  Result<void> admit(const CallHello& hello);

 private:
  CallHello own_;
  std::vector<std::optional<CallHello>> taken_;  // by machine_rank
};

/// "machine 1 (gpu07, pid 4711)"
std::string caller_name(const CallHello& hello);

}  // namespace llmlaunch::launcher
