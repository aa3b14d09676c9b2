/// \file
/// A head in a test: starts the real llmlaunch-agent over a socket pair, talks its protocol, and waits for events.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "tests/support/temporary_directory.hpp"

namespace llmlaunch::test {

namespace agent = launcher::agent;

/// What one rank has said and how it ended.
struct RankRecord {
  std::int64_t pid = 0;
  std::string out, err;
  bool out_ended = false, err_ended = false;
  bool exited = false;
  agent::Exited exit;
};

/// A FIFO that ranks open for writing ("exec 9>$LIFELINE") and every descendant inherits: its end of file proves that
/// all of them are gone.
class Lifeline {
 public:
  Lifeline();
  ~Lifeline();
  std::string path() const { return (directory_.path / "fifo").string(); }
  /// Waits until no process holds it. Only after some process has opened it.
  void wait_until_released();

 private:
  TemporaryDirectory directory_;
  int fd_ = -1;
};

class AgentDriver {
 public:
  /// Reads the marker line and Hello. `environment` is added to the agent's own.
  explicit AgentDriver(const std::string& program, const agent::EnvList& environment = {});
  ~AgentDriver();

  void send(const agent::HeadMessage& message);
  void send_bytes(ByteView bytes);
  /// Of all output so far.
  void send_ack();
  /// The next message; Pings are skipped. Fails the test after 60 s or at the end of the stream.
  agent::AgentMessage next();
  /// Waits for a Ping and takes what comes before it into the records.
  void next_ping();
  template <class T>
  T expect() {
    agent::AgentMessage message = next();
    if (!std::holds_alternative<T>(message)) unexpected(message);
    return std::get<T>(std::move(message));
  }

  /// A job of `ranks` ranks, numbered from 0, that runs argv, with RANK set.
  static agent::Prepare job(std::vector<std::string> argv, std::uint32_t ranks = 1);
  /// Prepare, Ready, Go and Started of all.
  void start(const agent::Prepare& prepare);

  /// Takes one message into the records. False: it was Done.
  bool step();
  void run_to_done();
  void run_until_said(std::uint32_t rank, const std::string& text);
  void run_until_exited(std::uint32_t rank);
  void run_until_input_taken(std::uint64_t bytes);
  void run_until_paused();

  /// The head dies: closes the channel.
  void hang_up();
  /// Reads to the end of the stream and reaps. Exit status, or 128 + signal.
  int wait_for_end();

  agent::Hello hello;
  pid_t pid = -1;  ///< of the process that was started (the guard)
  std::map<std::uint32_t, RankRecord> ranks;
  std::vector<agent::Failed> failures;
  std::vector<std::string> noise;
  std::uint64_t input_taken = 0;
  int pauses = 0;  ///< Paused that came
  std::uint64_t output_bytes = 0;
  std::uint64_t outputs = 0;  ///< messages
  std::uint64_t acked = 0;
  std::uint64_t largest_ahead = 0;  ///< most Output beyond the last Ack, ever
  bool auto_ack = true;
  bool done = false;

 private:
  [[noreturn]] static void unexpected(const agent::AgentMessage& message);
  bool read_more();
  agent::AgentMessage next_of_any_type();
  bool take(agent::AgentMessage message);

  int fd_ = -1;
  FrameDecoder decoder_{agent::kMaxAgentFrameBytes};
};

}  // namespace llmlaunch::test
