/// \file
/// Who did not come to a collective that takes longer than its limit, decided without clock, thread and store: calls
/// and the time come in, requests to the job's store go out. `late_ranks` carries them out.
///
/// Each call that waits has a number, the same on all ranks, which need not be in the same one: a rank that has what it
/// waited for goes on to the next call, while another still waits in the last one for a rank that does not come. So it
/// is late who waits nowhere. Keys:
///
///     waits    one per rank that has waited long, which names the call; removed when that is over
///     answer   one per call, created empty by the first rank whose limit is near, which reads all that wait and writes
///              who does not; the others read that, and so the traffic of n ranks is that of n short requests
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

class WaitWatch {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::milliseconds;

  struct Rest {};
  /// Write down that this rank waits.
  struct Note {
    std::uint64_t call;
  };
  /// Create the answer, empty, or read it.
  struct Hear {
    std::uint64_t call;
  };
  /// Read who waits.
  struct Ask {};
  /// Write the answer.
  struct Tell {
    std::uint64_t call;
    std::string answer;
  };
  /// Remove that this rank waits, and the answer where it is this rank's: the call is over.
  struct Forget {
    std::uint64_t call;
    bool answer;
  };
  using Action = std::variant<Rest, Note, Hear, Ask, Tell, Forget>;

  /// What `Hear` found.
  struct Heard {
    bool created = false;
    std::string answer;  ///< not created: empty while the rank that created it still asks
  };
  /// What `Ask` found, of each rank that waits.
  struct Waiter {
    std::uint64_t rank, call;
  };

  /// `hosts`: of each rank. `limit`: of one collective.
  WaitWatch(std::uint32_t rank, std::vector<std::string> hosts, Duration limit);

  /// Between two ticks.
  Duration tick() const { return tick_; }
  /// The launcher is too old for it: there is nothing to do any more.
  bool is_useless() const { return is_useless_; }

  /// The limit of what the next call waits for runs from now. That all ranks do this equally often is not needed.
  void on_start(Time now);
  void on_enter(Time now);
  /// What is known of who did not come.
  std::string on_leave();

  /// One action, whose outcome is given below before the next tick.
  Action on_tick(Time now);

  // Outcomes. True: the next tick is due at once.
  bool on_noted(std::uint64_t call, const Result<void>& noted, Time now);
  bool on_heard(const Result<Heard>& heard);
  bool on_asked(const Result<std::vector<Waiter>>& waiters);
  bool on_told(const Result<void>& told);

 private:
  /// A call that the store knows of from this rank.
  struct Noted {
    std::uint64_t call;
    std::optional<Time> note_again;  // the request has failed, and may have come to the store all the same
    bool asks = false, is_answered = false;
    std::string answer;
  };

  Time note_at() const;
  bool is_over(std::uint64_t call) const { return !waits_since_ || call != call_; }
  bool fails(const Error& error);
  void know(const std::string& answer);
  std::string answer_to(const std::vector<Waiter>& waiters) const;
  std::string named(const std::vector<std::size_t>& ranks) const;

  const std::uint32_t rank_;
  const std::vector<std::string> hosts_;
  const Duration tick_, long_, half_, ask_after_;
  bool is_useless_ = false;
  std::uint64_t call_ = 0;
  std::optional<Time> waits_since_;  // in that call
  std::optional<Time> started_;      // what that call, or the next one, waits for
  std::optional<Noted> noted_;
  std::string late_;
};

}  // namespace llmlaunch::trainer
