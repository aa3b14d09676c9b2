/// \file
/// `RemoteShell`: one host's byte channel to its agent. One body goes through ssh (launcher/ssh/), one starts the agent
/// on this machine over a socket pair (launcher/local_shell.cpp), and tests have one of their own. All calls belong to
/// the thread of the io_context; the object outlives its pending calls (hold it by shared_ptr).
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "launcher/plan.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// The agent's program, read once. `hash` is the SHA-256 of `bytes` in hex; the host's copy has it in its name.
struct AgentBinary {
  std::string path;
  std::string hash;
  Bytes bytes;
};
Result<AgentBinary> load_agent_binary(const std::string& path);

/// How far a host is, for the roll call and for messages.
enum class OpenStep { waiting, resolving, connecting, key_exchange, host_key, authenticating, starting, pushing, open };
inline constexpr std::size_t kOpenSteps = static_cast<std::size_t>(OpenStep::open) + 1;
/// When each step was reached, by OpenStep; unset: never. For `--timeline`.
using StepTimes = std::array<std::optional<std::chrono::steady_clock::time_point>, kOpenSteps>;

/// The connection was there and went away before sshd had answered with a key: its MaxStartups is the usual cause, and
/// another try may do.
inline bool dropped_early(const Error& error, OpenStep step) {
  const bool early = step == OpenStep::connecting || step == OpenStep::key_exchange;
  return early && (error.code == Errc::closed || error.code == std::errc::connection_reset ||
                   error.code == std::errc::broken_pipe);
}

class RemoteShell {
 public:
  virtual ~RemoteShell() = default;

  /// Connects, authenticates and starts the agent. Done when the agent's marker line was read, so that the next byte
  /// read is the first byte of the first frame. Each step has its own deadline; an error names host and step.
  virtual asio::awaitable<Result<void>> open() = 0;

  /// At least one byte, or 0 at the end of the stream. One reader at a time.
  virtual asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> buffer) = 0;

  /// All bytes. One writer at a time; may run while a read is pending.
  virtual asio::awaitable<Result<void>> write(ByteView bytes) = 0;

  /// Ends the channel at once; pending calls complete with `Errc::canceled`. The agent sees end of file. Idempotent.
  virtual void close() = 0;

  /// Which address of the head this host talks to ("10.0.0.1", "fd00::1"); known once `open` is done. Local:
  /// "127.0.0.1".
  virtual std::string head_address() const = 0;
  /// The host's own address as the head reaches it. Local: "127.0.0.1".
  virtual std::string host_address() const = 0;

  virtual OpenStep step() const = 0;
  /// Of this shell, up to now.
  const StepTimes& step_times() const { return step_times_; }

  /// Lines the host printed before the agent's marker (rc files, banners), and the agent's stderr, line by line.
  void on_noise(std::function<void(std::string_view line)> sink) { noise_ = std::move(sink); }

 protected:
  /// To be called by a body with each step that it reaches.
  void note_step(OpenStep step) { step_times_[static_cast<std::size_t>(step)] = std::chrono::steady_clock::now(); }

  std::function<void(std::string_view)> noise_;

 private:
  StepTimes step_times_;
};

/// The body for hosts that are this machine: forks the agent on a socket pair. An agent whose marker does not come
/// within `start_limit` is killed.
std::shared_ptr<RemoteShell> make_local_shell(asio::any_io_executor executor, const HostPlan& host,
                                              std::shared_ptr<const AgentBinary> agent,
                                              std::chrono::milliseconds start_limit);

}  // namespace llmlaunch::launcher
