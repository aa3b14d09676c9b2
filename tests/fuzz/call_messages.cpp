// What machines that are started one by one send each other: whatever decodes must encode and decode again, and
// admission at machine 0 and the state of a machine that calls in must bear it.
#include "launcher/call_messages.hpp"

#include <optional>
#include <set>

#include "launcher/call_admission.hpp"
#include "launcher/member_state.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

LaunchPlan plan_of(std::optional<std::uint32_t> machine_rank) {
  LaunchPlan plan;
  plan.hosts.resize(3);
  plan.per_machine.emplace().machine_rank = machine_rank;
  return plan;
}

/// A machine that calls in, at work until it leaves.
class Caller {
 public:
  explicit Caller(std::optional<std::uint32_t> machine_rank) : plan_(plan_of(machine_rank)) {
    look(state_.start(now_));
  }
  void hear(const CallMessage& message) {
    look(state_.on_message(message, now_));
    now_ += std::chrono::seconds(1);
    look(state_.on_time(now_));
  }

 private:
  void look(const member::Actions& actions) {
    FUZZ_CHECK(!left_ || actions.empty());
    for (const member::Action& action : actions) {
      if (std::holds_alternative<member::StartAgent>(action)) look(state_.on_agent_started());
      if (const auto* how = std::get_if<member::Leave>(&action)) {
        left_ = true;
        FUZZ_CHECK(how->status >= 0 && how->status <= 255 && (how->status == 0) == !how->failure);
      }
    }
  }

  LaunchPlan plan_;
  member::MemberState state_{plan_};
  TimePoint now_{};
  bool left_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  CallHello own;
  own.version = "1";
  own.num_machines = 3;
  CallAdmission admission(own);
  CallAdmission::Caller next = 1;
  std::set<std::uint32_t> places;
  Caller placed(1);
  Caller unplaced(std::nullopt);
  FrameDecoder decoder(kMaxCallFrameBytes);
  decoder.feed(std::as_bytes(std::span(data, size)));
  while (true) {
    const auto frame = decoder.next();
    if (!frame || !*frame) return 0;
    const auto message = decode_call_message(**frame);
    if (!message) return 0;
    const Bytes bytes = encode(*message);
    const auto again =
        decode_call_message({std::to_integer<std::uint8_t>(bytes[4]), ByteView(bytes).subspan(kFrameHeaderBytes)});
    FUZZ_CHECK(again.has_value());
    FUZZ_CHECK(encode(*again) == bytes);
    if (const auto* hello = std::get_if<CallHello>(&*message)) {
      // Each place once, machine 0's never, and nobody waits when all are there.
      if (const auto admitted = admission.admit(next++, *hello, hello->command))
        for (const CallAdmission::Place& place : admitted->placed)
          FUZZ_CHECK(place.machine_rank > 0 && place.machine_rank < 3 && places.insert(place.machine_rank).second);
      FUZZ_CHECK(admission.here() <= 3 && (admission.here() < 3 || !admission.anybody_waits()));
    }
    if (const auto* end = std::get_if<CallEnd>(&*message)) admission.gone(end->status);
    if (const auto* signal = std::get_if<CallSignal>(&*message)) (void)called_signal(signal->number, {40});
    placed.hear(*message);
    unplaced.hear(*message);
  }
}
