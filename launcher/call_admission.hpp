/// \file
/// Which machines that call in belong to the job: the same llmlaunch, the same world, the same program, each place
/// once. Pure; used by CallDesk.
///
/// A machine that names its place has it at once. The others wait until all machines of the job have called in, and
/// then have the places that are left: in the order of their host names, numbers in these by their value, then of their
/// addresses, then of their process ids. So a job has the same order each time that it runs on the same machines, and
/// one that was started again, or whose connection was made again, before all were there has the place that it would
/// have had.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/call_messages.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// Of a list of machines, in messages: more is no news.
inline constexpr std::size_t kListedMachines = 8;

/// What this process says of its machine, from its own plan. No place: machine 0 is to say. `instance`: see CallHello.
CallHello call_hello(const LaunchPlan& plan, std::optional<std::uint32_t> machine_rank, std::uint64_t instance);

/// What becomes of a signal that a machine passes on.
enum class CalledSignal {
  taken,       ///< it stops the job, lets it stand or go on, or goes to the ranks
  not_ours,    ///< machine 0 was not told to forward it: its configuration counts
  impossible,  ///< no signal, or one that no program can have caught
};
CalledSignal called_signal(std::uint32_t number, const std::vector<int>& forward_signals);

class CallAdmission {
 public:
  /// A call, by a number that is the desk's own.
  using Caller = std::uint64_t;
  struct Place {
    Caller caller;
    std::uint32_t machine_rank;
  };
  struct Admitted {
    std::vector<Place> placed;       ///< who has a place now, of all that wait; maybe without this caller
    std::optional<Caller> replaced;  ///< an earlier call of the same process, which waits no more
  };

  /// `own`: what machine 0 would say.
  explicit CallAdmission(CallHello own);

  /// Takes a place for the caller or lets it wait for one; or says what is wrong, with both sides' values. Errors:
  /// `Errc::version_mismatch`, `Errc::invalid_config`, `Errc::duplicate_rank`.
  Result<Admitted> admit(Caller caller, const CallHello& hello, std::string address);
  /// The call has ended. A place that it has stays its own; when it waits for one, it does so no more.
  void gone(Caller caller);

  /// Machines that are there, machine 0 and those that wait for a place with them.
  std::uint32_t here() const;
  bool anybody_waits() const { return !waiting_.empty(); }
  /// "machine 0 (gpu01, pid 17), a machine (gpu02, pid 12) and 3 more": those that are there.
  std::string those_here() const;

 private:
  struct Waiting {
    Caller caller;
    CallHello hello;
    std::string address;
  };
  Result<void> check(const CallHello& hello) const;
  Result<void> check_place(const CallHello& hello) const;
  std::size_t free_places() const;
  std::vector<Place> give_out();

  CallHello own_;
  std::vector<std::optional<CallHello>> taken_;  // by machine_rank; the first is machine 0
  std::vector<Waiting> waiting_;
};

/// "machine 1 (gpu07, pid 4711)"; without a place "a machine (gpu07, pid 4711)".
std::string caller_name(const CallHello& hello);

}  // namespace llmlaunch::launcher
