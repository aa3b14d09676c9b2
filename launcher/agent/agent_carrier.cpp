// The part of `AgentLoop` that carries ranks' connections to the head: between the sockets of carrier.hpp and the
// messages of agent_state.hpp.
#include "launcher/agent/agent_loop.hpp"

namespace llmlaunch::launcher::agent {

Result<void> AgentLoop::begin_carrying() {
  const Prepare& prepare = state_.prepare();
  const auto port = carrier_.listen(kCarriedPerRank * prepare.ranks.size() + kCarriedSpare);
  if (!port) return port.error();
  carries_ = true;
  HeadReach reach;
  reach.carried_port = *port;
  if (!prepare.ways.addresses.empty()) reach.interface = interface_towards(prepare.ways.addresses.front());
  apply(state_.on_reached(std::move(reach)));
  return ok;
}

// Ranks that have lost their head hear so by the end of their connections.
void AgentLoop::carry(std::span<const pollfd> ready) {
  if (state_.head_lost() || quitting_) {
    carrier_.close();
    carries_ = false;
    apply(state_.on_carrying(false));
    return;
  }
  if (nobody_left_) carrier_.finish();
  apply(state_.on_carried(carrier_.turn(ready)));
  if (nobody_left_) apply(state_.on_carrying(carrier_.busy()));
  for (const std::string& refusal : carrier_.take_refusals()) complain(refusal);
}

void AgentLoop::take_carried(const HeadMessage& message) {
  if (!carries_) return;
  if (auto taken = carrier_.take(message); !taken) apply(state_.on_head_error(taken.error(), now()));
}

}  // namespace llmlaunch::launcher::agent
