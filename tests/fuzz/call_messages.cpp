// What machines that are started one by one send each other: whatever decodes must encode and decode again, and
// admission at machine 0 and the state of a machine that calls in must bear it.
#include "launcher/call_messages.hpp"

#include "launcher/call_admission.hpp"
#include "launcher/member_state.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

LaunchPlan plan_of_machine_1() {
  LaunchPlan plan;
  plan.hosts.resize(3);
  plan.per_machine.emplace().machine_rank = 1;
  return plan;
}

/// A machine that calls in, at work until it leaves.
class Caller {
 public:
  Caller() { look(state_.start(now_)); }
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

  LaunchPlan plan_ = plan_of_machine_1();
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
  Caller caller;
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
    if (const auto* hello = std::get_if<CallHello>(&*message)) (void)admission.admit(*hello).has_value();
    if (const auto* signal = std::get_if<CallSignal>(&*message)) (void)called_signal(signal->number, {40});
    caller.hear(*message);
  }
}
