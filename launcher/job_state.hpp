/// \file
/// `JobState`: everything the head decides about a job, without a socket, process, clock or terminal. The shell
/// (launch.cpp) tells it what happened and when, and carries out the actions it answers with, in their order.
///
///     job    starting ─all hosts ready→ running ─all ranks ended→ (drained) finished
///            starting ─a host failed, once all have answered→ stopping (roll back: no rank was started)
///            starting, running ─signal, time limit, failed rank, lost host→ stopping → finished
///
///     host   waiting ─window→ opening ─→ hello ─Hello→ preparing ─Ready→ ready ─Go→ running ─Done→ done
///            opening ─dropped before the key exchange→ retrying ─delay→ opening
///            every state before running ─error→ failed;  running ─stream ends, silence, given up→ lost
///            every state before running ─roll back→ done (ready: after the agent's Done)
///            running ─connection ends→ running, cut ─made again→ running;  cut ─not in time, agent gone→ lost
///
/// A cut host's ranks run on, for as long as its agent waits for the head: what the head has to say to it is kept.
///
/// First failure, by the order in which the head hears of it (the hosts' clocks may differ): it stops the job, and it
/// alone makes the exit status and the headline; what comes after is counted. One thing may take its place: a rank that
/// was killed, heard of within kCauseWindow of a rank that exited, as the exit may be its peer's answer to it.
///
/// Under StartPolicy::each_host the job stays in `starting` until it is stopped, a host goes from ready to running at
/// once, and no failure of a host is another's (job_each_host.cpp).
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/fan_out.hpp"
#include "launcher/input_share.hpp"
#include "launcher/launch.hpp"
#include "launcher/plan.hpp"
#include "launcher/remote.hpp"
#include "launcher/roll_call.hpp"
#include "rendezvous/base/error.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher {

using TimePoint = std::chrono::steady_clock::time_point;
using HostIndex = std::size_t;  ///< of LaunchPlan::hosts

/// Output in flight over all hosts together, so that the head's memory does not grow with their number.
inline constexpr std::uint64_t kMaxWindowsBytes = 32u << 20;
/// Beyond the ranks' grace, for the way to the host and back and for the kernel to end killed processes.
inline constexpr std::chrono::milliseconds kStopMargin{5'000};
/// sshd drops connections at random above MaxStartups (10 by default); each try halves what is left.
inline constexpr int kMaxOpenAttempts = 6;
inline constexpr std::chrono::milliseconds kFirstRetryDelay{200};
/// A tick that comes this much late, or by half of `timeouts.head`, means that the head itself slept: silence is then
/// nobody's fault.
inline constexpr std::chrono::milliseconds kSleptThrough{2'000};
/// Between attempts to reach a host again whose connection was cut; doubled each time up to the second.
inline constexpr std::chrono::milliseconds kFirstReopenDelay{100};
inline constexpr std::chrono::milliseconds kMaxReopenDelay{2'000};
/// For hosts to stop their ranks before the head stops itself; one that is silent longer has other troubles.
inline constexpr std::chrono::milliseconds kPausePatience{2'000};
/// A batch system signals all machines of a job, each a moment after the other.
inline constexpr std::chrono::milliseconds kSameSignal{2'000};
/// Signals so close together are one wish to stop: coreutils' timeout signals its child and then its group, which the
/// child is in; a shell and the kernel both tell of a closed terminal; systemd may send SIGHUP right behind SIGTERM.
/// Nobody presses Ctrl-C twice as fast.
inline constexpr std::chrono::milliseconds kOneStop{100};
/// An agent names the setup line that takes too long; its word comes before the head gives the host up.
inline constexpr std::chrono::milliseconds kSetupMargin{2'000};
/// Lines that a host may print before it is ready; an agent sends no more than this.
inline constexpr std::size_t kMaxNoiseLines = 1'000;
/// When and how often it is said who keeps a job from starting.
inline constexpr std::chrono::milliseconds kRollCallAfter{5'000};
inline constexpr std::chrono::milliseconds kRollCallInterval{30'000};
/// A stopped job whose ranks have ended waits this long for a terminal that takes nothing; one that a signal has
/// stopped no longer than its grace.
inline constexpr std::chrono::milliseconds kTerminalPatience{30'000};
/// Whatever the grace: for a terminal that is only slow.
inline constexpr std::chrono::milliseconds kLeastTerminalPatience{1'000};
/// A killed rank's sockets end at once, so that a peer's "connection reset" and exit can be heard here before the news
/// of the kill: two hosts' ways to the head differ by less than this, a person or a timeout that follows by more.
inline constexpr std::chrono::milliseconds kCauseWindow{200};
/// Behind the limits that a shell has for each step of opening a host, should one of them not hold: so many times
/// `timeouts.connect` (a lookup, a key exchange, every key, a queue at ssh-agent) and `timeouts.start`. Never less than
/// the second number, as ssh_config's ConnectTimeout may be longer than ours.
inline constexpr int kOpeningSteps = 60;
inline constexpr std::chrono::milliseconds kMinOpeningLimit{900'000};
/// Kept of each stream of each rank for the headline.
inline constexpr std::size_t kTailBytes = 4096;
inline constexpr std::size_t kTailLines = 20;

/// How many bytes of output each host may have in flight.
std::uint64_t window_bytes(std::size_t hosts);

// Actions.
struct OpenHost {
  HostIndex host;
};
struct CloseHost {
  HostIndex host;
};
struct ReopenHost {  ///< answer: on_rejoined, on_not_rejoined, or on_open_failed
  HostIndex host;
};
struct SendPrepare {
  HostIndex host;
};
struct SendFile {
  HostIndex host;
  std::uint32_t index;  ///< of Prepare::files
};
struct SendGo {
  HostIndex host;
  std::uint16_t master_port;
};
struct SendMessage {  ///< Ack, Stop, Ping
  HostIndex host;
  agent::HeadMessage message;
};
struct WriteOutput {  ///< answer: on_taken, when terminal and files have it
  HostIndex host;
  Rank rank;
  agent::Stream stream;
  Bytes data;
};
struct Carry {  ///< of a rank's connection that the host carries; answer when it breaks the protocol: on_lost
  HostIndex host;
  agent::AgentMessage message;
};
struct EndOutput {
  Rank rank;
  agent::Stream stream;
};
struct EndGeneration {  ///< of the rendezvous: nobody waits for ranks that will not come
  std::string reason;
};
struct NoteEnded {  ///< for the rendezvous: the rank ended well, and will not come any more
  Rank rank;
};
struct Say {
  LogLevel level;
  std::string text;
};
struct StopSelf {       ///< as SIGTSTP does by default; answer: on_continued, when the process runs again
  std::string at = {};  ///< the machine whose llmlaunch is to stop; empty: this one
};
struct CallRoll {};         ///< to be said, where no terminal shows it: who keeps the job from starting or ending
struct AbandonTerminal {};  ///< what it does not take at once is not shown; files get everything
struct Finish {};           ///< nothing is left to be done; the last action
using Action =
    std::variant<OpenHost, CloseHost, ReopenHost, SendPrepare, SendFile, SendGo, SendMessage, WriteOutput, Carry,
                 EndOutput, EndGeneration, NoteEnded, Say, CallRoll, StopSelf, AbandonTerminal, Finish>;
using Actions = std::vector<Action>;

/// The last bytes of a stream.
class OutputTail {
 public:
  void append(ByteView bytes);
  /// The last whole lines; what `\r` overwrote and the cut first line are left out.
  std::vector<std::string> lines() const;

 private:
  std::string bytes_;
  bool cut_ = false;
};

class JobState {
 public:
  /// `pushed_files`: how many of them a host may ask for; `cores`: the head's.
  JobState(const LaunchPlan& plan, std::size_t pushed_files, std::string run_directory, TimePoint now,
           std::size_t cores = 1);

  Actions start(TimePoint now);
  Actions on_opened(HostIndex host, TimePoint now);
  /// `step`: how far the shell came. A connection dropped before any key was exchanged is tried again.
  Actions on_open_failed(HostIndex host, const Error& error, OpenStep step, TimePoint now);
  /// How far a host's shell is, now and then: one that does not get on keeps no place from another.
  void on_step(HostIndex host, OpenStep step, TimePoint now) { fan_out_.reached(host, step, now); }
  /// Any byte from the host: it lives.
  void on_bytes(HostIndex host, TimePoint now);
  Actions on_message(HostIndex host, agent::AgentMessage message, TimePoint now);
  /// The stream ended, broke, or carried what the protocol does not allow.
  Actions on_lost(HostIndex host, const Error& error, TimePoint now);
  /// The connection that was cut is made again: nothing was lost.
  Actions on_rejoined(HostIndex host, TimePoint now);
  /// The host can be reached, and its agent is gone.
  Actions on_not_rejoined(HostIndex host, const Error& error, TimePoint now);
  /// A piece of a file went to the host.
  void on_pushed(HostIndex host, TimePoint now);
  /// Terminal and files have taken these bytes of the host's output.
  Actions on_taken(HostIndex host, std::uint64_t bytes, TimePoint now);
  /// Something on the head itself that the job needs has failed, such as the rendezvous or a pushed file.
  Actions on_head_failed(const Error& error, TimePoint now);
  /// SIGTSTP pauses the job, SIGCONT takes that back while it is not done, SIGUSR1, SIGUSR2 and the plan's go to the
  /// ranks; all others stop the job.
  /// `at`: the machine where it came, "machine 1 (gpu07, pid 4711)"; empty: here. A second stop from the same machine
  /// takes the ranks' grace; one for each machine, as batch systems send them, does not. A pause lasts until all where
  /// SIGTSTP came have been continued; a signal for the ranks that comes to several machines at once reaches them once.
  Actions on_signal(int signal, TimePoint now, const std::string& at = {});
  /// The process stood still since StopSelf, or nothing stopped it.
  Actions on_continued(TimePoint now, const std::string& at = {});
  /// Bytes of llmlaunch's stdin, at most `input_allowance`; and its end.
  Actions on_input(Bytes data);
  Actions on_input_end();
  std::size_t input_allowance() const { return phase_ == JobPhase::running ? input_.allowance() : 0; }
  /// Deadlines, pings, retries. To be called some ten times a second. `behind`: see FanOut::tick.
  Actions on_tick(TimePoint now, std::chrono::milliseconds behind = std::chrono::milliseconds{0});

  bool finished() const { return finished_; }
  bool running() const { return phase_ == JobPhase::running; }
  bool stopping() const { return phase_ == JobPhase::stopping; }
  /// `step`: how far the host's shell is, for the time until it is open.
  HostStage stage(HostIndex host, OpenStep step) const;
  /// Why a host that is connecting is not there yet: what its last attempt ended by, or its connection. Empty before.
  const std::string& setback(HostIndex host) const;
  const std::string& run_directory() const { return run_directory_; }
  /// Exit status, headline and every rank's end; meant for after `Finish`.
  JobResult result() const;
  /// How long the end may wait for a terminal that takes nothing; without a limit when neither a signal nor the job's
  /// time limit asked for the end.
  std::optional<std::chrono::milliseconds> patience_with_terminal() const;

 private:
  enum class JobPhase { starting, running, stopping };
  enum class HostPhase { waiting, opening, retrying, hello, preparing, ready, running, done, failed, lost };
  /// A connection that ended while ranks ran.
  struct Cut {
    Error error;
    std::string last;        // why the last attempt failed
    std::string agent_hint;  // where it came as far as the agent's host, and that stands still
    TimePoint since;
    TimePoint back_by;
    TimePoint again_at;  // the next attempt
    bool attempting = false;
    int attempts = 0;
  };
  struct Host {
    std::string name;
    std::string hostname;  // as it calls itself
    std::vector<std::uint32_t> ranks;
    HostPhase phase = HostPhase::waiting;
    int attempts = 0;
    TimePoint opened_first;
    TimePoint opened_last;
    TimePoint retry_at;
    std::string setback;  // why it is tried again
    TimePoint ready_by;
    TimePoint last_heard;
    TimePoint ping_at;
    std::optional<TimePoint> done_by;  // stopping, or all ranks have ended
    std::size_t ranks_left = 0;        // started and not ended
    bool went = false;                 // Go was sent
    bool carries = false;              // its ranks come to the rendezvous through its session
    bool calls_in = false;             // it is waited for, and not connected to
    bool resumable = false;            // its agent waits for a head that comes back
    std::optional<Cut> cut;
    std::uint16_t free_port = 0;
    std::uint32_t omp_threads = 0;  // that its agent chose
    std::size_t noise_lines = 0;
    bool has_setup = false;
    bool pausing = false;         // asked to, and has not answered
    std::vector<bool> asked_for;  // by index of Prepare::files
    std::uint64_t received = 0;   // output bytes; taken ≤ received, acked ≤ taken
    std::uint64_t taken = 0;
    std::uint64_t acked = 0;
    std::optional<Error> failure;  // before the start; each_host: also why it was lost
    // Of each_host:
    TimePoint went_at;
    TimePoint ended_at;
    bool timed_out = false;
  };
  struct RankState {
    HostIndex host = 0;
    RankEnd end;
    bool started = false;
    bool ended = false;
    bool out_ended = false;
    bool err_ended = false;
    OutputTail out;
    OutputTail err;
  };
  /// Why the job ended other than by success; the first one wins, but for `is_rather_the_cause`.
  struct Cause {
    enum class Kind { rank, rank_start, host, start, signal, time_limit, head } kind;
    std::uint32_t rank = 0;
    HostIndex host = 0;
    int signal = 0;
    Error error;
    std::size_t running = 0;  // ranks that ran when it happened
    TimePoint heard{};
  };

  void open_next(Actions& actions, TimePoint now);
  void open(HostIndex host, Actions& actions, TimePoint now);
  void fail_host(HostIndex host, Error error, Actions& actions, TimePoint now);
  void settle(Actions& actions, TimePoint now);
  void go(Actions& actions);
  void stop(Cause cause, Actions& actions, TimePoint now);
  void hurry(Actions& actions, TimePoint now);
  void lose_host(HostIndex host, Error error, bool given_up, Actions& actions, TimePoint now);
  void close_host(HostIndex host, HostPhase phase, Actions& actions);
  void cut(HostIndex host, const Error& error, TimePoint back_by, Actions& actions, TimePoint now);
  void reopen_later(HostIndex host, const Error& error, OpenStep step, TimePoint now);
  void tick_cut(HostIndex host, TimePoint now, Actions& actions);
  void maybe_finish(Actions& actions);

  Actions on_hello(HostIndex host, const agent::Hello& hello, TimePoint now);
  Actions on_ready(HostIndex host, const agent::Ready& ready, TimePoint now);
  Actions on_agent_failed(HostIndex host, const agent::Failed& failed, TimePoint now);
  Actions on_exited(HostIndex host, const agent::Exited& exited, TimePoint now);
  Actions on_need_file(HostIndex host, std::uint32_t file, TimePoint now);
  Actions on_output(HostIndex host, agent::Output output, TimePoint now);
  Actions on_output_end(HostIndex host, const agent::OutputEnd& end, TimePoint now);
  Actions on_done(HostIndex host, TimePoint now);
  Actions on_noise(HostIndex host, const agent::Noise& noise, TimePoint now);
  Actions broken(HostIndex host, const std::string& what, TimePoint now);
  Actions on_stop_signal(int signal, TimePoint now, const std::string& at);
  Actions forward(int signal, TimePoint now, const std::string& at);
  Actions pause(TimePoint now, const std::string& at);
  void unpause(Actions& actions);
  void maybe_stop_self(TimePoint now, Actions& actions);
  void shift_deadlines(std::chrono::steady_clock::duration by);
  void say_that_it_stood(std::chrono::steady_clock::duration time, Actions& actions) const;
  bool is_forwarded(int signal) const;
  void say_omp_threads(Actions& actions) const;
  void rank_ended(std::uint32_t rank, TimePoint now);
  void tick_host(HostIndex host, TimePoint now, Actions& actions);

  // job_each_host.cpp: hosts that concern no other.
  bool each_host() const { return policy_ == StartPolicy::each_host; }
  void go_alone(HostIndex host, Actions& actions, TimePoint now);
  void stop_alone(HostIndex host, Actions& actions, TimePoint now);
  void tick_alone(HostIndex host, TimePoint now, Actions& actions);
  HostEnd end_of_host(HostIndex host) const;
  JobResult result_of_each() const;

  bool may_open() const;
  bool owns(HostIndex host, std::uint32_t rank) const;
  bool is_rather_the_cause(const Cause& later, TimePoint now) const;
  bool outputs_ended(const Host& host) const;
  bool& output_ended(std::uint32_t rank, agent::Stream stream);
  bool over(const Host& host) const;
  std::size_t ranks_running() const;

  // job_story.cpp: the words.
  std::string host_label(HostIndex host) const;
  std::string rank_label(std::uint32_t rank) const;
  std::string cause_in_short(const Cause& cause) const;
  Error headline() const;
  Error start_failures() const;
  Error start_failure(HostIndex host) const;
  std::string label_of(const std::vector<HostIndex>& hosts) const;
  std::string aftermath() const;
  std::string last_words(std::uint32_t rank) const;
  std::string last_words_from(HostIndex host) const;
  int status() const;

  StartPolicy policy_ = StartPolicy::gang;
  std::optional<std::chrono::milliseconds> host_timeout_;
  std::size_t at_once_ = 0;  // hosts connecting or running; 0: no limit
  bool needs_free_port_;     // for a store that rank 0 makes
  bool needs_head_;          // its ranks have nothing to meet at but the rendezvous
  Timeouts timeouts_;
  std::vector<int> forward_signals_;
  InputShare input_;
  std::optional<TimePoint> paused_at_;  // SIGTSTP came, and on_continued has not
  std::vector<std::string> pausers_;    // where it came
  bool stopped_self_ = false;
  /// The last signal of this number for the ranks, and the machines that it has come to since.
  struct Forwarded {
    TimePoint at{};
    std::vector<std::string> machines;
  };
  std::map<int, Forwarded> forwarded_;
  FanOut fan_out_;
  std::uint64_t window_ = 0;
  std::string run_directory_;
  LogSettings logs_;  // which files there are to look into
  std::vector<Host> hosts_;
  std::vector<RankState> ranks_;
  JobPhase phase_ = JobPhase::starting;
  std::optional<Cause> cause_;
  std::map<std::string, TimePoint> stopped_from_;  // machines where a stop signal came, and when; "": here
  std::vector<HostIndex> left_behind_;             // hosts that did not answer Stop
  std::size_t active_ = 0;                         // opened and not over
  HostIndex next_waiting_ = 0;                     // all hosts before it were opened
  HostIndex next_open_ = 0;                        // all hosts before it are over, and their output is taken
  TimePoint started_;
  TimePoint last_tick_;
  TimePoint last_taken_;
  TimePoint roll_call_at_;
  bool stop_watched_ = false;  // roll_call_at_ is that of the stop
  bool terminal_abandoned_ = false;
  bool hurried_ = false;  // nothing is waited for any more beyond kStopMargin
  bool finished_ = false;
};

/// "SIGSEGV", or "signal 40" for those without a name.
std::string signal_name(int signal);

}  // namespace llmlaunch::launcher
