// The agent's way to its head: frames out of the log into the pipe, frames of the head in, and what happens when the
// connection ends or another one is brought. Policy is in agent_state.cpp, the rest of the loop in agent_loop.cpp.
#include <fcntl.h>
#include <poll.h>

#include <cerrno>

#include "launcher/agent/agent_loop.hpp"
#include "launcher/agent/left_processes.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher::agent {
namespace {

// Ends our part of the connection: sshd closes it when nobody holds the other end, and the head hears of it at once.
// Where nothing can take their place they stay open, and a connection lasts a little longer than it must.
void let_go_of_head() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (!null || ::dup2(null.value(), fd) < 0) return;
}

// What ranks had started outlives an agent that was killed together with its watchman.
std::string end_what_is_left(const Resume& resume) {
  if (resume.job_id.empty() || resume.host.empty()) return {};
  const auto left =
      kill_orphans_with({std::string(env::kJobId) + "=" + resume.job_id, std::string(env::kHost) + "=" + resume.host});
  if (!left) return ". What the job may have left on the host is not known: " + to_string(left.error());
  if (left->empty())
    return std::string(". No process with the job's ") + env::kJobId + " is found on the host: it can be run again";
  const std::string others = left->size() == 1 ? "" : " and " + std::to_string(left->size() - 1) + " more of the job";
  return ". Not even SIGKILL ended process " + name_of(left->front()) + others + " on the host";
}

}  // namespace

bool AgentLoop::set_nonblocking() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO}) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return false;
  }
  return true;
}

void AgentLoop::send(const AgentMessage& message) {
  Bytes frame = encode(message);
  const Counted kind = counted(message);
  if (kind == Counted::event) return log_.add_event(std::move(frame));
  if (kind == Counted::carried) return log_.add_carried(std::move(frame));
  if (std::holds_alternative<Done>(message)) return log_.add_last(std::move(frame));
  if (kind == Counted::output) {
    const auto* output = std::get_if<Output>(&message);
    return log_.add_output(std::move(frame), output ? static_cast<std::uint32_t>(output->data.size()) : 0);
  }
  if (head_reads_) queue_.insert(queue_.end(), frame.begin(), frame.end());
}

void AgentLoop::confirm(const Ack& state) {
  if (auto confirmed = log_.confirm(state); !confirmed) apply(state_.on_head_error(confirmed.error(), now()));
}

// What the pipe to the head takes soon; the rest stays where a Stop or an Exited can overtake it.
void AgentLoop::fill_queue() {
  while (head_reads_ && queue_.size() - sent_ < kMaxQueuedBytes) {
    const ByteView frame = log_.next(state_.acked_bytes(), state_.prepare().window_bytes);
    if (frame.empty()) return;
    queue_.insert(queue_.end(), frame.begin(), frame.end());
  }
}

// The head's stream has ended. It may still read, what was said before its end or why this is the end of the job.
void AgentLoop::cut() {
  head_open_ = false;
  apply(state_.on_cut(now()));
  if (state_.head_lost() || state_.connected()) return;
  // It may come back, and then gets what was on its way from the log.
  head_reads_ = false;
  queue_.clear();
  sent_ = 0;
  let_go_of_head();
  bearer_.reset();
}

// This agent was started for its connection only: another one has the job.
void AgentLoop::bear(const Resume& resume) {
  Result<UniqueFd> given = hand_over(resume);
  if (!given) {
    Error error = given.error();
    if (error.code == Errc::not_found) error.hint += end_what_is_left(resume);
    return apply(state_.on_failed(error));
  }
  bearer_ = std::move(*given);
  let_go_of_head();
  head_open_ = head_reads_ = false;
  pollfd polls[2] = {{bearer_.value(), POLLIN, 0}, {signals_.value(), POLLIN, 0}};
  while (::poll(polls, 2, -1) < 0 && errno == EINTR) {
  }
  quitting_ = true;
}

void AgentLoop::take_visitor() {
  std::optional<Attached> attached = attach_point_.take();
  if (!attached) return;
  const char* refusal = nullptr;
  if (!state_.knows(attached->resume))
    refusal = "this agent has another head, or none any more";
  else if (!log_.rewind(attached->resume.state))
    refusal = "the head asks for what it cannot have";
  if (refusal == nullptr) return take_over(std::move(*attached));
  const Bytes frame = encode(AgentMessage(Failed{static_cast<std::int32_t>(Errc::refused), -1, refusal, {}}));
  // A pipe that is empty takes it; who does not read it sees the end of the stream.
  [[maybe_unused]] const ssize_t written = ::write(attached->out.value(), frame.data(), frame.size());
}

void AgentLoop::take_over(Attached attached) {
  queue_.clear();
  sent_ = 0;
  decoder_ = FrameDecoder(kMaxHeadFrameBytes);
  head_open_ = head_reads_ = true;
  if (::dup2(attached.in.value(), STDIN_FILENO) < 0 || ::dup2(attached.out.value(), STDOUT_FILENO) < 0 ||
      ::dup2(attached.err.value(), STDERR_FILENO) < 0 || !set_nonblocking())
    return cut();
  bearer_ = std::move(attached.bearer);
  input_.tell_again();
  apply(state_.on_resumed(attached.resume.state, now()));
}

void AgentLoop::read_head() {
  const ssize_t got = ::read(STDIN_FILENO, buffer_.data(), buffer_.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) return cut();
  state_.on_head_bytes(now());
  if (state_.head_lost()) return;  // after an error there is no next frame to find
  decoder_.feed(ByteView(buffer_).first(static_cast<std::size_t>(got)));
  while (!quitting_ && !state_.head_lost()) {
    const auto frame = decoder_.next();
    if (!frame) return apply(state_.on_head_error(frame.error(), now()));
    if (!*frame) return;
    auto message = decode_head_message(**frame);
    if (message)
      apply(state_.on_message(std::move(*message), now()));
    else
      apply(state_.on_head_error(message.error(), now()));
  }
}

void AgentLoop::write_head() {
  fill_queue();
  while (head_reads_ && sent_ < queue_.size()) {
    const ssize_t put = ::write(STDOUT_FILENO, queue_.data() + sent_, queue_.size() - sent_);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) break;
    if (put < 0) {
      head_reads_ = false;
      return cut();
    }
    sent_ += static_cast<std::size_t>(put);
    fill_queue();
  }
  if (!head_reads_ || sent_ == queue_.size()) {
    queue_.clear();
    sent_ = 0;
  } else if (sent_ >= kMaxQueuedBytes) {
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(sent_));
    sent_ = 0;
  }
}

}  // namespace llmlaunch::launcher::agent
