/// \file
/// `Job`: the shell around `JobState` for one run. Owns the event loop, sessions, rendezvous, output writer; brings
/// events in and carries actions out.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launcher/event_log.hpp"
#include "launcher/host_messages.hpp"
#include "launcher/host_session.hpp"
#include "launcher/input_reader.hpp"
#include "launcher/job_state.hpp"
#include "launcher/launch.hpp"
#include "launcher/observer_pass.hpp"
#include "launcher/output_writer.hpp"
#include "launcher/plan.hpp"
#include "launcher/pushed_file.hpp"
#include "launcher/remote.hpp"
#include "launcher/roll_call.hpp"
#include "launcher/timeline.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/server.hpp"

namespace llmlaunch::launcher {

namespace ssh {
class SshContext;
}

class CallDesk;
class CarriedStreams;

class Job {
 public:
  /// `files`: the plan's program and its libraries, none when it has no program; `ssh` is there when a host is not this
  /// machine. `agent` and `ssh` may be null when `options.make_shell` is set.
  Job(const LaunchPlan& plan, const LaunchOptions& options, std::shared_ptr<const AgentBinary> agent,
      std::shared_ptr<ssh::SshContext> ssh, PushedFiles files, LogFiles log_files, EventLog events = {});
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// Everything, to the end.
  JobResult run();
  /// Afterwards, when the result is final and on disk: tells the machines that have called in, which end as this one.
  void dismiss(const JobResult& result);

 private:
  static TimePoint now() { return std::chrono::steady_clock::now(); }
  Result<void> start_rendezvous();
  void place_pass(const std::string& bind_address);
  void find_main_addresses();
  void note_addresses(const agent::Hello& hello);
  bool note_reach(HostIndex host, const agent::HeadReach& reach);
  void admit_ranks();
  HostAddress told_address(HostIndex host) const;
  void open_desk(rendezvous::ServerOptions& options);
  void watch_signals();
  asio::awaitable<void> take_signals();
  void catch_signal(int number);
  void leave_signals();
  void stop_self();
  void read_stdin();
  asio::awaitable<void> tick();
  void greet();
  void farewell(const JobResult& result);
  void say(LogLevel level, const std::string& text);
  void end_log_sink();
  OutputWriter::NoReaderFunction no_reader();
  bool each_host() const { return plan_.policy == StartPolicy::each_host; }

  // job_actions.cpp: events of the hosts' sessions in, the state's actions out.
  void apply(Actions actions);
  void carry_out(Action& action);
  void open(HostIndex host);
  void reopen(HostIndex host);
  void on_event(HostIndex host, SessionEvent event);
  void on_taken(const std::vector<std::pair<std::size_t, std::uint64_t>>& taken);
  void push_file(HostIndex host, std::uint32_t index);
  void begin_carrying(HostIndex host);
  void finish();
  std::shared_ptr<RemoteShell> make_shell(HostIndex host);
  std::shared_ptr<RemoteShell> shell_for(const HostPlan& host);

  // job_progress.cpp: what is shown and kept of the hosts' way.
  void look_around(TimePoint now);
  std::string reason_of(HostIndex host, OpenStep step) const;
  void show_roll_call(TimePoint now);
  void say_roll_call(TimePoint now);
  void note(HostIndex host, const SessionEvent& event, TimePoint now);
  void keep_event(HostIndex host, const agent::AgentMessage& message);
  void keep_timeline(JobResult& result);

  const LaunchPlan& plan_;
  const LaunchOptions& options_;
  std::shared_ptr<const AgentBinary> agent_;
  PushedFiles files_;
  asio::io_context io_{1};
  std::shared_ptr<ssh::SshContext> ssh_;  // has a timer of the loop, and threads that post to it: gone before it
  JobState state_;
  HeadSide head_;
  TimePoint began_;
  OutputWriter writer_;
  asio::signal_set signals_;
  std::set<int> caught_;
  asio::steady_timer ticker_;
  std::unique_ptr<InputReader> input_;
  std::unique_ptr<rendezvous::Server> server_;
  PlacedPass pass_;                 // of this generation, while it is served
  std::shared_ptr<CallDesk> desk_;  // of machines that call in
  std::vector<std::shared_ptr<HostSession>> sessions_;
  std::vector<InterfaceAddress> interfaces_;              // of this machine
  std::vector<std::string> main_addresses_;               // what main_process_ip comes to
  std::vector<std::vector<std::string>> offered_;         // to each host: the head's addresses
  std::vector<HostAddresses> reached_;                    // by each host
  std::vector<std::shared_ptr<CarriedStreams>> carried_;  // of each host; null: its ranks come directly
  std::vector<HostAddresses> addresses_;                  // for the ranks, once all are ready
  rendezvous::AddressList store_clients_;                 // as hosts tell of their addresses
  RollCall roll_call_;
  std::string live_line_;  // as the writer has it
  Timeline timeline_;
  EventLog events_;
  bool finished_ = false;
};

}  // namespace llmlaunch::launcher
