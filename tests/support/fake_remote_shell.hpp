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
  FakeRemoteShell(const asio::any_io_executor& executor, const std::string& address, std::shared_ptr<FakeAgent> agent)
      : address_(address),
        agent_(std::move(agent)),
        arrived_(executor),
        decoder_(launcher::agent::kMaxHeadFrameBytes) {}

  // The agent's side.
  void say(const launcher::agent::AgentMessage& message) { say_bytes(launcher::agent::encode(message)); }
  void say_bytes(ByteView bytes) {
    incoming_.insert(incoming_.end(), bytes.begin(), bytes.end());
    arrived_.cancel();
  }
  void output(std::uint32_t rank, launcher::agent::Stream stream, std::string_view text) {
    const ByteView bytes = as_bytes(text);
    say(launcher::agent::Output{rank, stream, Bytes(bytes.begin(), bytes.end())});
  }
  /// The rank's end with all that belongs to it; Done when it was the last one.
  void exit(std::uint32_t rank, int value, bool signaled = false, bool stopped = false) {
    std::erase(agent_->running, rank);
    say(launcher::agent::OutputEnd{rank, launcher::agent::Stream::out});
    say(launcher::agent::OutputEnd{rank, launcher::agent::Stream::err});
    say(launcher::agent::Exited{rank, signaled, value, false, stopped, 1});
    if (agent_->running.empty()) done();
  }
  void done() {
    say(launcher::agent::Done{});
    hang_up();
  }
  /// End of the stream, after what was said.
  void hang_up() {
    ended_ = true;
    arrived_.cancel();
  }
  FakeAgent& agent() { return *agent_; }

  // The head's side.
  asio::awaitable<Result<void>> open() override {
    step_ = agent_->open_step;
    note_step(step_);
    for (const std::string& line : agent_->noise) noise_(line);
    if (agent_->open_error && agent_->opened++ < agent_->open_failures) co_return *agent_->open_error;
    step_ = launcher::OpenStep::open;
    note_step(step_);
    if (agent_->on_open) agent_->on_open(*this);
    say(launcher::agent::Hello{launcher::agent::kProtocolVersion, "node", 1, 8});
    co_return ok;
  }

  asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> buffer) override {
    while (incoming_.empty() && !ended_ && !closed_) {
      arrived_.expires_at(std::chrono::steady_clock::time_point::max());
      co_await arrived_.async_wait(await_tuple);
    }
    if (closed_) co_return make_error(Errc::canceled, "closed");
    const std::size_t size = std::min(buffer.size(), incoming_.size());
    std::copy_n(incoming_.begin(), size, buffer.begin());
    incoming_.erase(incoming_.begin(), incoming_.begin() + static_cast<std::ptrdiff_t>(size));
    co_return size;
  }

  asio::awaitable<Result<void>> write(ByteView bytes) override {
    if (closed_ || ended_) co_return make_error(Errc::closed, "broken pipe");
    const auto self = shared_from_this();
    decoder_.feed(bytes);
    while (true) {
      const auto frame = decoder_.next();
      if (!frame) co_return frame.error();
      if (!*frame) co_return ok;
      Result<launcher::agent::HeadMessage> message = launcher::agent::decode_head_message(**frame);
      if (!message) co_return message.error();
      hear(*message);
    }
  }

  void close() override {
    closed_ = agent_->closed = true;
    arrived_.cancel();
  }
  std::string head_address() const override { return "192.0.2.254"; }
  std::string host_address() const override { return address_; }
  launcher::OpenStep step() const override { return step_; }

 private:
  void hear(const launcher::agent::HeadMessage& message) {
    using namespace launcher::agent;
    if (const auto* prepare = std::get_if<Prepare>(&message)) {
      agent_->prepare = *prepare;
      if (agent_->on_prepare)
        agent_->on_prepare(*this, *prepare);
      else
        say(Ready{45'000});
    } else if (const auto* chunk = std::get_if<FileChunk>(&message)) {
      if (agent_->on_chunk) agent_->on_chunk(*this, *chunk);
    } else if (const auto* go = std::get_if<Go>(&message)) {
      agent_->go = *go;
      for (const RankSpec& rank : agent_->prepare->ranks) {
        agent_->running.push_back(rank.rank);
        say(Started{rank.rank, 1000 + rank.rank});
      }
      if (agent_->on_go) agent_->on_go(*this);
    } else if (const auto* stop = std::get_if<Stop>(&message)) {
      agent_->stops.push_back(*stop);
      if (agent_->on_stop) return agent_->on_stop(*this, *stop);
      if (agent_->running.empty()) return done();
      for (const std::uint32_t rank : std::vector(agent_->running)) exit(rank, 15, true, true);
    } else if (const auto* ack = std::get_if<Ack>(&message)) {
      agent_->acked = ack->output_bytes;
      if (agent_->on_ack) agent_->on_ack(*this, ack->output_bytes);
    } else if (const auto* resume = std::get_if<Resume>(&message)) {
      if (agent_->on_resume) return agent_->on_resume(*this, *resume);
      say(Failed{static_cast<std::int32_t>(Errc::not_found), -1, "the agent is gone", {}});
    } else if (std::holds_alternative<Bye>(message)) {
      ++agent_->byes;
    }
  }

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
