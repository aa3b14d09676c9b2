/// \file
/// `FakeRemoteShell`: a host in memory. Speaks the agent protocol through a `FakeAgent` whose answers a test replaces
/// one by one; everything happens on the io_context of the job under test, so a test needs no second thread and no
/// sleep.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/remote.hpp"

namespace llmlaunch::testing {

class FakeRemoteShell;

/// What a host does, and what it was told. By default a good one: ready when prepared, all ranks start with Go, and end
/// with SIGTERM when stopped.
struct FakeAgent {
  using Host = FakeRemoteShell;

  std::optional<Error> open_error;  ///< of the first `open_failures` tries
  int open_failures = 1 << 30;
  launcher::OpenStep open_step = launcher::OpenStep::connecting;
  std::vector<std::string> noise;

  std::function<void(Host&)> on_open;
  std::function<void(Host&, const launcher::agent::Prepare&)> on_prepare;
  std::function<void(Host&, const launcher::agent::FileChunk&)> on_chunk;
  std::function<void(Host&)> on_go;  ///< after all ranks have been reported as started
  std::function<void(Host&, const launcher::agent::Stop&)> on_stop;
  std::function<void(Host&, std::uint64_t)> on_ack;
  /// What the head says of connections that are carried.
  std::function<void(Host&, const launcher::agent::HeadMessage&)> on_carried;
  /// The head comes again over another connection. By default this agent is gone.
  std::function<void(Host&, const launcher::agent::Resume&)> on_resume;

  // What happened.
  int opened = 0;
  std::optional<launcher::agent::Prepare> prepare;
  std::optional<launcher::agent::Go> go;
  std::vector<launcher::agent::Stop> stops;
  std::uint64_t acked = 0;
  int byes = 0;
  bool closed = false;
  std::vector<std::uint32_t> running;
};

class FakeRemoteShell final : public launcher::RemoteShell, public std::enable_shared_from_this<FakeRemoteShell> {
 public:
  FakeRemoteShell(const asio::any_io_executor& executor, const std::string& address, std::shared_ptr<FakeAgent> agent);

  // The agent's side.
  void say(const launcher::agent::AgentMessage& message);
  void say_bytes(ByteView bytes);
  void output(std::uint32_t rank, launcher::agent::Stream stream, std::string_view text);
  /// The rank's end with all that belongs to it; Done when it was the last one.
  void exit(std::uint32_t rank, int value, bool signaled = false, bool stopped = false);
  void done();
  /// End of the stream, after what was said.
  void hang_up();
  FakeAgent& agent() { return *agent_; }

  // The head's side.
  asio::awaitable<Result<void>> open() override;

  asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> buffer) override;

  asio::awaitable<Result<void>> write(ByteView bytes) override;

  void close() override;
  std::string head_address() const override { return "192.0.2.254"; }
  std::string host_address() const override { return address_; }
  launcher::OpenStep step() const override { return step_; }

 private:
  void hear(const launcher::agent::HeadMessage& message);

  std::string address_;
  std::shared_ptr<FakeAgent> agent_;
  asio::steady_timer arrived_;
  FrameDecoder decoder_;
  std::deque<std::byte> incoming_;
  launcher::OpenStep step_ = launcher::OpenStep::waiting;
  bool ended_ = false;
  bool closed_ = false;
};

}  // namespace llmlaunch::testing
