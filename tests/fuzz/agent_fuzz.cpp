// Bytes of a peer as both sides of the agent protocol read them: whatever decodes must survive encode and decode, and
// the agent's decisions must hold for any order of messages and always come to an end.
#include <cstdlib>

#include "launcher/agent/agent_state.hpp"
#include "launcher/agent/carrier.hpp"
#include "launcher/agent/exec_spec.hpp"
#include "launcher/agent/rank_input.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

FrameView view_of(const Bytes& frame) {
  return {std::to_integer<std::uint8_t>(frame[4]), ByteView(frame).subspan(kFrameHeaderBytes)};
}

// The part of the shell: every question is answered with "yes", but for the exec of every second rank, which hangs.
struct Shell {
  AgentState state{TimePoint{}};
  RankInput input;
  Carrier carrier;  // that nobody has connected to: whatever the head says of connections, none ever was
  std::vector<bool> abandoned;
  TimePoint now{};
  bool quit = false;

  void apply(const Actions& actions) {
    for (const Action& action : actions) {
      if (std::holds_alternative<Quit>(action)) quit = true;
      if (std::holds_alternative<CheckHost>(action)) check();
      if (const auto* write = std::get_if<WriteChunk>(&action); write && write->chunk.last)
        apply(state.on_file_done(write->chunk.index));
      if (const auto* take = std::get_if<TakeInput>(&action)) take_input(take->input);
      if (std::holds_alternative<EndInput>(action)) input.end();
      if (const auto* carry = std::get_if<Carry>(&action)) {
        const auto taken = carrier.take(carry->message);
        require(!taken);
        apply(state.on_head_error(taken.error(), now));
      }
      if (const auto* abandon = std::get_if<AbandonStart>(&action)) abandoned[abandon->index] = true;
      if (!std::holds_alternative<StartRanks>(action)) continue;
      input = RankInput(state.prepare().ranks.size());
      abandoned.assign(state.prepare().ranks.size(), false);
      for (std::size_t i = 0; i < abandoned.size(); ++i) state.on_forked(i, "program", now);
      for (std::size_t i = 0; i < abandoned.size(); i += 2) apply(state.on_started(i, 1));
      for (std::size_t i = 0; i < abandoned.size() && state.output_allowance() > 0; i += 2)
        apply(state.on_output(i, Stream::out, Bytes(1)));
    }
  }
  void check() {
    if (auto checked = check_prepare(state.prepare()); !checked) return apply(state.on_failed(checked.error()));
    std::vector<std::uint32_t> missing;
    for (std::uint32_t i = 0; i < state.prepare().files.size(); i += 2) missing.push_back(i);
    apply(state.on_reached({}));
    apply(state.on_checked(std::move(missing), 1));
  }
  // The first reader reads nothing, the others read at once.
  void take_input(const Input& bytes) {
    if (auto added = input.add(bytes); !added) return apply(state.on_head_error(added.error(), now));
    for (std::size_t i = 1; i < state.prepare().ranks.size(); ++i) input.took(i, input.waiting(i).size());
    require(state.prepare().ranks.empty() || input.waiting(0).size() <= kInputWindowBytes);
    input.credit();
  }
  // The head is gone and all processes end: so must the agent.
  void end() {
    apply(state.on_head_gone(now));
    if (quit) return;
    for (std::size_t i = 0; i < abandoned.size(); ++i) {
      if (abandoned[i]) continue;
      if (i % 2 != 0) apply(state.on_started(i, 1));
      apply(state.on_main_exit(i, {}, now));
    }
    apply(state.on_nobody_left());
    if (!quit) apply(state.on_carrying(false));
    require(quit);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FrameDecoder decoder(kMaxHeadFrameBytes);
  decoder.feed(std::as_bytes(std::span(data, size)));
  Shell shell;
  while (true) {
    const auto frame = decoder.next();
    if (!frame || !*frame) break;
    if (const auto message = decode_agent_message(**frame)) {
      const Bytes once = encode(*message);
      const auto again = decode_agent_message(view_of(once));
      require(again && encode(*again) == once);
    }
    const auto message = decode_head_message(**frame);
    if (!message) {
      if (!shell.quit) shell.apply(shell.state.on_head_error(message.error(), shell.now));
      continue;
    }
    const Bytes once = encode(*message);
    const auto again = decode_head_message(view_of(once));
    require(again && encode(*again) == once);
    shell.now += std::chrono::milliseconds(100);
    if (shell.quit) continue;
    shell.apply(shell.state.on_message(*message, shell.now));
    if (!shell.quit) shell.apply(shell.state.on_tick(shell.now));
  }
  if (!shell.quit) shell.end();
  return 0;
}
