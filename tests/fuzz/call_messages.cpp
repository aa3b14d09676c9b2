// What a machine that calls in sends: whatever decodes must encode and decode again, and admission must bear it.
#include "launcher/call_messages.hpp"

#include "launcher/call_admission.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  CallHello own;
  own.version = "1";
  own.num_machines = 3;
  CallAdmission admission(own);
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
  }
}
