// The part of `AgentLoop` that brings the head's stdin to the ranks: from the shared buffer (rank_input.hpp) into pipes
// that are never waited for.
#include <cerrno>

#include "launcher/agent/agent_loop.hpp"

namespace llmlaunch::launcher::agent {

void AgentLoop::open_inputs() {
  readers_.clear();
  for (std::size_t i = 0; i < ranks_.size(); ++i)
    if (conditions_[i].wants_input) readers_.push_back(i);
  input_ = RankInput(readers_.size());
}

void AgentLoop::take_input(const Input& input) {
  if (auto added = input_.add(input); !added)
    apply(state_.on_head_error(added.error(), std::chrono::steady_clock::now()));
}

void AgentLoop::close_input(std::size_t reader) {
  ranks_[readers_[reader]].process.in.reset();
  if (!input_.dropped(reader)) input_.drop(reader);
}

void AgentLoop::write_input(std::size_t reader) {
  const UniqueFd& pipe = ranks_[readers_[reader]].process.in;
  while (pipe && !input_.waiting(reader).empty()) {
    const ByteView bytes = input_.waiting(reader);
    const ssize_t put = ::write(pipe.value(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) return;
    if (put < 0) return close_input(reader);  // EPIPE: it has closed its stdin
    input_.took(reader, static_cast<std::size_t>(put));
  }
  if (pipe && input_.complete(reader)) close_input(reader);
}

// `ready`: from the first entry of a reader on; empty before there are any.
void AgentLoop::write_inputs(std::span<const pollfd> ready) {
  for (std::size_t reader = 0; reader < readers_.size(); ++reader) {
    const Rank& rank = ranks_[readers_[reader]];
    const bool broken = reader < ready.size() && (ready[reader].revents & (POLLERR | POLLNVAL)) != 0;
    if (!rank.started || rank.exited || broken)
      close_input(reader);
    else
      write_input(reader);
  }
  if (!state_.connected() || state_.head_lost()) return;
  if (const auto credit = input_.credit()) apply(state_.on_input_taken(*credit));
}

}  // namespace llmlaunch::launcher::agent
