#include "tests/support/fake_remote_shell.hpp"

#include <algorithm>

namespace llmlaunch::testing {

FakeRemoteShell::FakeRemoteShell(const asio::any_io_executor& executor, const std::string& address,
                                 std::shared_ptr<FakeAgent> agent)
    : address_(address), agent_(std::move(agent)), arrived_(executor), decoder_(launcher::agent::kMaxHeadFrameBytes) {}

void FakeRemoteShell::say(const launcher::agent::AgentMessage& message) {
  say_bytes(launcher::agent::encode(message));
}

void FakeRemoteShell::say_bytes(ByteView bytes) {
  incoming_.insert(incoming_.end(), bytes.begin(), bytes.end());
  arrived_.cancel();
}

void FakeRemoteShell::output(std::uint32_t rank, launcher::agent::Stream stream, std::string_view text) {
  const ByteView bytes = as_bytes(text);
  say(launcher::agent::Output{rank, stream, Bytes(bytes.begin(), bytes.end())});
}

void FakeRemoteShell::exit(std::uint32_t rank, int value, bool signaled, bool stopped) {
  std::erase(agent_->running, rank);
  say(launcher::agent::OutputEnd{rank, launcher::agent::Stream::out});
  say(launcher::agent::OutputEnd{rank, launcher::agent::Stream::err});
  say(launcher::agent::Exited{rank, signaled, value, false, stopped, 1});
  if (agent_->running.empty()) done();
}

void FakeRemoteShell::done() {
  say(launcher::agent::Done{});
  hang_up();
}

void FakeRemoteShell::hang_up() {
  ended_ = true;
  arrived_.cancel();
}

asio::awaitable<Result<void>> FakeRemoteShell::open() {
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

asio::awaitable<Result<std::size_t>> FakeRemoteShell::read_some(std::span<std::byte> buffer) {
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

asio::awaitable<Result<void>> FakeRemoteShell::write(ByteView bytes) {
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

void FakeRemoteShell::close() {
  closed_ = agent_->closed = true;
  arrived_.cancel();
}

void FakeRemoteShell::hear(const launcher::agent::HeadMessage& message) {
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
  } else if (std::holds_alternative<CarriedData>(message) || std::holds_alternative<CarriedEnd>(message) ||
             std::holds_alternative<CarriedTaken>(message) || std::holds_alternative<CarriedReset>(message)) {
    if (agent_->on_carried) agent_->on_carried(*this, message);
  }
}

}  // namespace llmlaunch::testing
