/// \file
/// The agent's shell: one thread, one poll. Tells `AgentState` what happened and carries out what it answers.
#pragma once

#include <poll.h>

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/agent/agent_state.hpp"
#include "launcher/agent/attach.hpp"
#include "launcher/agent/carrier.hpp"
#include "launcher/agent/file_cache.hpp"
#include "launcher/agent/head_probe.hpp"
#include "launcher/agent/job_cgroup.hpp"
#include "launcher/agent/outbound_log.hpp"
#include "launcher/agent/process.hpp"
#include "launcher/agent/rank_input.hpp"
#include "launcher/agent/setup_process.hpp"
#include "launcher/agent/setup_script.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

// Output waits in the ranks' pipes and not in the agent's memory when the way to the head is full.
inline constexpr std::size_t kMaxQueuedBytes = 256u << 10;

inline TimePoint now() {
  return std::chrono::steady_clock::now();
}

/// For the person at the head, by the connection's stderr; who is not there cannot be told.
void complain(const std::string& what);

class AgentLoop {
 public:
  /// `environment`: "NAME=value", what the ranks inherit. `own_directory`: where the agent's program lies.
  /// `cgroup`: where the watchman looks for the job's.
  AgentLoop(std::vector<std::string> environment, std::string own_directory, CgroupPath cgroup);

  /// Speaks on stdin and stdout until the job is over; returns the exit status. SIGCHLD, SIGTERM and SIGINT must be
  /// blocked, SIGPIPE ignored.
  int run();

 private:
  struct Rank {
    RankProcess process;
    std::string path;      // of its program
    bool started = false;  // there is a process
    bool exited = false;
    bool group_alive = false;
  };
  struct Setup {
    SetupProcess process;
    SetupReport report;
    TimePoint deadline;
    bool timed_out = false;
  };

  void apply(Actions actions);
  void check_host();
  void check_ranks();
  void probe_head();
  EnvList unset_defaults(const EnvList& defaults) const;
  Result<void> check_rank(const RankSpec& rank, const Go& go, std::string& path, std::vector<std::string>& env);
  void start_ranks(const Go& go);
  void read_start_reports();
  void abandon_start(Rank& rank);
  std::vector<std::string> argv() const;
  std::vector<std::string> library_directories() const;

  void send(const AgentMessage& message);
  void confirm(const Ack& state);
  // agent_setup.cpp
  void begin_setup();
  void read_setup();
  void check_setup_deadline();
  void end_setup(int status);
  const std::string* value_for(const RankSpec& rank, std::string_view name) const;
  std::vector<std::optional<unsigned>> gpus_of_ranks() const;
  Result<void> settle_conditions();
  // agent_input.cpp
  void open_inputs();
  void take_input(const Input& input);
  void close_input(std::size_t reader);
  void write_input(std::size_t reader);
  void write_inputs(std::span<const pollfd> ready);

  void read_head();
  void write_head();
  void fill_queue();
  static bool set_nonblocking();
  void cut();
  void bear(const Resume& resume);
  void take_visitor();
  void take_over(Attached attached);
  void read_signals();
  void check_children();
  void check_groups();
  void read_outputs(const std::vector<pollfd>& ready);
  void read_output(std::size_t index, Stream stream);
  std::vector<pollfd> poll_set() const;
  void carry(std::span<const pollfd> ready);
  void take_carried(const HeadMessage& message);
  Result<void> begin_carrying();
  int poll_timeout_ms() const;
  bool has_open_outputs() const;
  bool wants_output() const;
  UniqueFd& output_of(std::size_t index, Stream stream);

  std::vector<std::string> environment_;
  AgentState state_;
  FrameDecoder decoder_;
  FileCache cache_;
  JobCgroup cgroup_;
  UniqueFd signals_;
  HeadProbe probe_;
  Carrier carrier_;
  std::optional<Setup> setup_;              // while it runs
  EnvList host_env_;                        // Prepare::env, and what the agent adds for all ranks
  std::vector<RankConditions> conditions_;  // of each rank, once checked
  std::uint32_t omp_threads_ = 0;
  std::vector<Rank> ranks_;
  std::vector<std::size_t> readers_;  // which ranks take input_
  RankInput input_;
  OutboundLog log_;
  AttachPoint attach_point_;
  UniqueFd bearer_;  // of the connection, when another agent brought it
  Bytes queue_;      // frames on their way to the head, from `sent_` on
  std::size_t sent_ = 0;
  std::vector<std::byte> buffer_;
  std::size_t first_output_ = 0;  // whose turn it is, for fairness
  bool head_open_ = true;         // stdin has not ended
  bool head_reads_ = true;        // stdout is not broken
  bool nobody_left_ = false;
  bool carries_ = false;
  bool quitting_ = false;
  bool flush_ = false;
  int status_ = 0;
};

}  // namespace llmlaunch::launcher::agent
