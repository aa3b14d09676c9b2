/// \file
/// Everything that a machine of a job whose machines are started one by one decides, when it is not machine 0: when it
/// calls again, what it does with a signal, when it leaves and how. Pure; its shell (member.cpp) brings events in and
/// carries actions out.
///
///     calling ─no connection→ pausing ─time→ calling;  calling ─welcome→ joined ─its agent ends→ parting
///     calling ─has to wait for its place→ waiting ─welcome→ joined;  waiting ─no connection→ pausing
///     calling, pausing ─signal, refusal, timeouts.rendezvous;  waiting ─signal, the job's end→ left
///     joined, parting  ─the job's end, machine 0 lost, second signal;  parting ─time→ left
///
/// SIGTSTP goes to machine 0, which lets all ranks stand and answers; then this process stops, and with SIGCONT the job
/// goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "launcher/call_messages.hpp"
#include "launcher/job_state.hpp"
#include "launcher/plan.hpp"

namespace llmlaunch::launcher::member {

/// Machine 0 may be started later; a local connection that is refused costs nothing.
inline constexpr std::chrono::milliseconds kFirstCallDelay{100};
inline constexpr std::chrono::milliseconds kMaxCallDelay{2'000};
/// When and how often it is said that machine 0 is waited for.
inline constexpr std::chrono::milliseconds kWaitSaidAfter{5'000};
inline constexpr std::chrono::milliseconds kWaitSaidEvery{30'000};

/// After SIGTSTP machine 0 has kPausePatience for the ranks to stand; one that stands itself does not answer.
inline constexpr std::chrono::milliseconds kStandLimit = kPausePatience + std::chrono::milliseconds{1'000};

// Actions, beside `Say`.
struct Call {};  ///< connect and say hello; answer: on_message, or on_no_wire
struct WakeAt {  ///< on_time then, and not at the time of an earlier one
  TimePoint at;
};
struct SendToHead {
  CallMessage message;
};
struct StartAgent {  ///< answer: on_agent_started or on_agent_failed
  std::string name;  ///< of this machine in the job
};
struct ToAgent {
  Bytes bytes;
};
struct CloseAgent {};  ///< behind what it was sent: it ends its ranks, and itself
struct StopSelf {};    ///< as SIGTSTP does by default; answer: on_continued, also where nothing stopped it
struct Leave {         ///< the last action: the connection is closed, and the agent behind what it was sent
  int status = 0;
  std::optional<Error> failure;
};
using Action = std::variant<Call, WakeAt, SendToHead, StartAgent, ToAgent, CloseAgent, Say, StopSelf, Leave>;
using Actions = std::vector<Action>;

/// Where frames of a stream begin that passes by in pieces.
class FrameEdge {
 public:
  void feed(ByteView bytes);
  /// No frame has begun that has not ended.
  bool between_frames() const { return length_bytes_ == 0 && left_ == 0; }

 private:
  std::uint64_t left_ = 0;        // of the frame, behind its length
  std::uint32_t length_ = 0;      // as far as it is known
  std::size_t length_bytes_ = 0;  // of it
};

class MemberState {
 public:
  /// `plan`: of this machine; must outlive this object.
  explicit MemberState(const LaunchPlan& plan);

  Actions start(TimePoint now);
  /// The first one answers our hello.
  Actions on_message(const CallMessage& message, TimePoint now);
  /// The connection was not made, was no good, or has ended.
  Actions on_no_wire(const Error& error, TimePoint now);
  Actions on_agent_started();
  Actions on_agent_failed(const Error& error, TimePoint now);
  /// It has no more to say. What it says before that goes to machine 0 as it is.
  Actions on_agent_ended(TimePoint now);
  /// SIGUSR1, SIGUSR2 and the plan's go to machine 0, for all ranks; the others stop the job, and a second one leaves
  /// it.
  Actions on_signal(int number, TimePoint now);
  /// The process stood since StopSelf, or nothing stopped it.
  Actions on_continued(TimePoint now);
  /// The connection is of no more use, if there is one: the next is made by Call.
  bool between_calls() const { return phase_ == Phase::pausing; }
  Actions on_time(TimePoint now);

 private:
  enum class Phase { calling, pausing, waiting, joined, parting, left };

  Actions call();
  Actions on_answer(const CallMessage& answer, TimePoint now);
  Actions wait(const CallWait& word);
  Actions on_place(const CallMessage& message, TimePoint now);
  Actions call_anew(const Error& error, TimePoint now);
  Actions welcome(const CallWelcome& welcome);
  /// "machine 2", or "this machine" as long as nobody knows which.
  std::string itself() const;
  Actions on_end(const CallEnd& end);
  Actions on_data(const CallData& data);
  Actions part(TimePoint now);
  Actions leave(int status, std::optional<Error> failure);
  Actions leave_at_once(int signal);
  Actions forward(int signal);
  Actions pause(TimePoint now);
  Actions stop_self(TimePoint now);
  bool is_forwarded(int signal) const;
  Error unanswered() const;

  const LaunchPlan& plan_;
  std::string where_;  // machine 0's address
  std::optional<std::uint32_t> place_;
  Phase phase_ = Phase::calling;
  TimePoint give_up_;
  TimePoint say_at_;
  TimePoint wake_at_ = TimePoint::max();
  std::chrono::milliseconds delay_ = kFirstCallDelay;
  std::string last_failure_;  // of a call
  FrameEdge edge_;            // of what the agent was sent
  bool agent_runs_ = false;
  bool hung_up_ = false;                     // machine 0 needs the agent no more
  std::optional<TimePoint> standing_since_;  // StopSelf was said
  bool pausing_ = false;                     // machine 0 was asked to let the ranks stand
  std::optional<TimePoint> stopping_since_;  // machine 0 was asked to stop the job
};

}  // namespace llmlaunch::launcher::member
