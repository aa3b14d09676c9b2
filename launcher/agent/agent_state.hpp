/// \file
/// `AgentState`: everything the agent decides, without a process, a pipe or a clock. The loop (agent_loop.cpp) tells it
/// what happened and when, and carries out the actions it answers with, in their order.
///
///     waiting ─Prepare→ checking ─ok→ receiving ─files there, head found→ ready ─Go→ running ─nobody left→ leaving ─Bye→ done
///        any of the first four ─failure→ failed;  every state ─Stop or head lost→ (running: stopping) → done
///        waiting ─Resume→ bearer: this connection is another agent's
///
/// A connection that ends while it runs is cut and not the head's end, if Prepare says how the head can come back: the
/// ranks run on until it does, or until it was silent for its time. Without that there is no leaving: Done is the end.
///
/// The start of a rank: it is forked, and within Prepare's `start_timeout_ms` its exec succeeds or fails; when it does
/// neither, the rank has failed. Signals of the head wait for the exec; a Stop does not.
///
/// The end of a rank: its main process is reaped → Exited, SIGTERM to what is left of its group, after the grace
/// SIGKILL. When all main processes are gone, the same for every descendant that is left, whatever group or session it
/// chose. A paused job (SIGSTOP to its groups) has no `head_timeout` while it is connected; the end of the connection
/// stops it like any other. The job is over when the agent has no child (as the subreaper it is the parent of every
/// orphan below it).
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <variant>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "rendezvous/base/error.hpp"

namespace llmlaunch::launcher::agent {

using TimePoint = std::chrono::steady_clock::time_point;

// Before Prepare says how patient to be with a silent head.
inline constexpr std::chrono::milliseconds kHandshakeTimeout{60'000};
// The longest time between two Pings of the agent.
inline constexpr std::chrono::milliseconds kMaxPingInterval{5'000};
// SIGKILL is repeated this often, for processes that were forked while it was sent.
inline constexpr std::chrono::milliseconds kKillInterval{50};
// Processes that outlive SIGKILL for this long hang in the kernel (a dead mount, a driver): the head is told.
inline constexpr std::chrono::milliseconds kKillPatience{10'000};
// Exit statuses of the agent, of sysexits.h.
inline constexpr int kExitDone = 0;
inline constexpr int kExitHeadLost = 69;

struct SendMessage {
  AgentMessage message;
};
struct CheckHost {};  ///< of prepare(); answers: on_reached if it has ways to the head, and on_checked or on_failed
struct WriteChunk {   ///< answer to the last one of a file: on_file_done, or on_failed
  FileChunk chunk;
};
struct StartRanks {  ///< answer, for each: on_start_failed, or on_forked and some time later on_started or
                     ///< on_start_failed
  Go go;
};
struct AbandonStart {  ///< of a rank that was forked: no answer is wanted any more, and its pipes are not needed
  std::size_t index;
};
struct SignalMain {  ///< the rank's main process; `index` counts prepare().ranks
  std::size_t index;
  int signal;
};
struct SignalGroup {
  std::size_t index;
  int signal;
};
struct SignalDescendants {  ///< every process below the agent
  int signal;
};
struct TakeInput {  ///< for the ranks' stdin; what breaks the protocol comes back by on_head_error
  Input input;
};
struct EndInput {};
struct CloseOutputs {};   ///< nobody is left who could write: what is open ends when it is empty
struct FindSurvivors {};  ///< answer: on_survivors
struct Listen {};         ///< for a head that comes back, as prepare() says
struct Attach {           ///< answer: on_failed, or none: the agent ends with the one that took the connection
  Resume resume;
};
struct Confirm {  ///< the head has these; answer when it cannot: on_head_error
  Ack state;
};
struct Carry {  ///< what the head says of a connection that is carried; what breaks the protocol: on_head_error
  HeadMessage message;
};
struct Quit {  ///< end the agent when what was sent has left it
  int status;
  bool flush;  ///< false: nobody reads any more
};
using Action = std::variant<SendMessage, CheckHost, WriteChunk, StartRanks, AbandonStart, SignalMain, SignalGroup,
                            SignalDescendants, TakeInput, EndInput, CloseOutputs, FindSurvivors, Listen, Attach,
                            Confirm, Carry, Quit>;
using Actions = std::vector<Action>;

/// How a main process ended.
struct MainExit {
  bool signaled = false;
  int value = 0;
  bool core_dumped = false;
  std::uint64_t wall_time_ns = 0;
};

class AgentState {
 public:
  explicit AgentState(TimePoint now) : last_heard_(now), ping_at_(now + kMaxPingInterval) {}

  /// Any byte from the head: it lives.
  void on_head_bytes(TimePoint now) { last_heard_ = now; }
  Actions on_message(HeadMessage message, TimePoint now);
  /// The head's bytes are no messages, or of another version: it is told, and treated as lost.
  Actions on_head_error(const Error& error, TimePoint now);
  /// End of file or a broken pipe. The head may come back, or this was its end.
  Actions on_cut(TimePoint now);
  /// The head will not come back: nothing of it was heard for its time.
  Actions on_head_gone(TimePoint now);
  /// Is this who this agent works for?
  bool knows(const Resume& resume) const;
  /// The head is back, over another connection, and has what `state` says.
  Actions on_resumed(const Ack& state, TimePoint now);
  /// The agent itself was asked to end (SIGTERM).
  Actions on_terminate(TimePoint now);

  Actions on_checked(std::vector<std::uint32_t> missing_files, std::uint16_t free_port, std::uint32_t omp_threads = 0);
  /// Setup lines have printed this line.
  Actions on_noise(std::string line);
  /// The head's addresses have been tried. Not waited for where prepare() has none.
  Actions on_reached(HeadReach reach);
  Actions on_failed(const Error& error);
  Actions on_file_done(std::uint32_t index);

  /// The rank is a process on its way to be `program`.
  void on_forked(std::size_t index, std::string program, TimePoint now);
  Actions on_started(std::size_t index, std::int64_t pid);
  Actions on_start_failed(std::size_t index, const Error& error);
  /// Ranks have taken input. While the head is connected.
  Actions on_input_taken(const InputTaken& taken);
  /// Connections of ranks have something for the head; empty: they may have taken something.
  Actions on_carried(std::vector<AgentMessage> messages);
  /// After on_nobody_left: what ranks had sent is still being read, and Done waits for it.
  Actions on_carrying(bool busy);
  Actions on_main_exit(std::size_t index, const MainExit& exit, TimePoint now);
  /// The rank's process group is empty. Its number may be another's from now on.
  void on_group_gone(std::size_t index) { ranks_[index].group_alive = false; }
  /// The agent has no child left.
  Actions on_nobody_left();
  /// Processes that SIGKILL did not end, as "pid (name)".
  Actions on_survivors(const std::vector<std::string>& processes);
  Actions on_output(std::size_t index, Stream stream, Bytes data);
  Actions on_output_end(std::size_t index, Stream stream);

  Actions on_tick(TimePoint now);
  /// When on_tick is due at the latest.
  TimePoint next_tick() const;

  const Prepare& prepare() const { return prepare_; }
  /// How many bytes of output may be taken from the ranks now. Without a head all of it, to be thrown away.
  std::size_t output_allowance() const;
  bool head_lost() const { return head_lost_; }
  bool connected() const { return connected_; }
  std::uint64_t acked_bytes() const { return acked_bytes_; }

 private:
  enum class Phase { waiting, bearer, checking, receiving, ready, running, leaving, failed, done };
  struct RankState {
    enum class Run { waiting, starting, running, exited, failed } run = Run::waiting;
    bool group_alive = false;
    bool stopped = false;  // signalled by Stop or for a lost head
    int open_outputs = 0;
    std::string program;               // while it is starting, as the next two
    TimePoint start_by;                // its exec has succeeded
    std::uint64_t held = 0;            // signals of the head, number n as bit n - 1
    std::optional<TimePoint> kill_at;  // of the group, after the main process has ended
  };

  Actions on_prepare(Prepare prepare);
  Actions maybe_ready();
  Actions on_chunk(FileChunk chunk);
  Actions on_go(Go go);
  Actions on_stop(const Stop& stop, TimePoint now);
  Actions on_ack(const Ack& ack, TimePoint now);
  Actions on_pause(bool paused, TimePoint now);
  Actions broken(const std::string& what, TimePoint now);
  bool resumable() const { return !prepare_.resume_name.empty(); }
  void begin_stop(int signal, std::chrono::milliseconds grace, TimePoint now, Actions& actions);
  void kill_all(TimePoint now, Actions& actions);
  void finish(Actions& actions);
  void kill_descendants(TimePoint now, Actions& actions);
  void maybe_done(Actions& actions);
  void abandon_start(std::size_t index, TimePoint now, Actions& actions);
  void lose_head(TimePoint now, Actions& actions);
  bool all_finished() const;
  std::chrono::milliseconds start_timeout() const;
  std::chrono::milliseconds grace() const { return std::chrono::milliseconds(prepare_.grace_ms); }
  std::optional<std::chrono::milliseconds> head_timeout() const;
  std::chrono::milliseconds ping_interval() const;

  Phase phase_ = Phase::waiting;
  Prepare prepare_;
  std::vector<RankState> ranks_;
  std::vector<bool> needed_;  // by index of Prepare::files: asked for and not whole
  std::optional<HeadReach> reach_;
  std::uint16_t free_port_ = 0;
  std::uint32_t omp_threads_ = 0;
  bool paused_ = false;  // the head stands still with its job: its silence means nothing
  std::uint64_t sent_bytes_ = 0;
  std::uint64_t acked_bytes_ = 0;
  TimePoint last_heard_;
  TimePoint ping_at_;
  std::optional<TimePoint> kill_all_at_;   // set: stopping
  std::optional<TimePoint> sweep_at_;      // set: all main processes have ended, descendants are left
  std::optional<TimePoint> survivors_at_;  // set: SIGKILL went to everything, and who is left then is named
  bool killing_ = false;
  bool nobody_left_ = false;
  bool head_lost_ = false;  // it gives no orders any more
  bool head_deaf_ = false;  // it does not read either
  bool connected_ = true;
  bool carrying_ = false;
  std::uint64_t orders_ = 0;       // received
  std::uint64_t orders_told_ = 0;  // to the head
};

}  // namespace llmlaunch::launcher::agent
