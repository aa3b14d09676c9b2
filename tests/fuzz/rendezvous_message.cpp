// Rendezvous streams: whatever decodes must encode, and decode again to the same message.
#include "rendezvous/message.hpp"

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;

namespace {

void check_round_trip(const Message& message) {
  if (std::holds_alternative<Unknown>(message) || std::holds_alternative<Preamble>(message)) return;
  const auto [head, body] = encode_shared(message);
  Bytes joined = head;
  if (body) joined.insert(joined.end(), body->begin(), body->end());
  const Bytes bytes = encode(message);
  FUZZ_CHECK(joined == bytes);
  const auto again = decode({std::to_integer<std::uint8_t>(bytes[4]), ByteView(bytes).subspan(kFrameHeaderBytes)});
  FUZZ_CHECK(again.has_value());
  // Texts beyond kMaxReasonBytes are cut on the way out.
  const auto* failure = std::get_if<Failure>(&message);
  const auto* ended = std::get_if<Ended>(&message);
  if (failure != nullptr && (failure->what.size() > kMaxReasonBytes || failure->hint.size() > kMaxReasonBytes)) return;
  if (ended != nullptr && ended->reason.size() > kMaxReasonBytes) return;
  FUZZ_CHECK(*again == message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto side = (data[0] & 1) != 0 ? MessageDecoder::Side::server : MessageDecoder::Side::client;
  MessageDecoder decoder(side);
  decoder.feed(std::as_bytes(std::span(data + 1, size - 1)));
  while (true) {
    const auto message = decoder.next();
    if (!message) {
      FUZZ_CHECK(!decoder.next());
      return 0;
    }
    if (!*message) return 0;
    check_round_trip(**message);
  }
}
