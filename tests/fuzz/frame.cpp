// Frames: the same frames must come out however the stream is cut, and a field reader must never leave its payload.
#include "rendezvous/base/frame.hpp"

#include <algorithm>

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;

namespace {

constexpr std::size_t kLimit = 4096;

struct Outcome {
  std::vector<Bytes> frames;
  bool failed = false;
  bool operator==(const Outcome&) const = default;
};

Outcome decode_in_pieces(ByteView stream, std::size_t piece) {
  FrameDecoder decoder(kLimit);
  Outcome outcome;
  while (!outcome.failed) {
    auto frame = decoder.next();
    if (!frame) {
      outcome.failed = true;
    } else if (*frame) {
      Bytes bytes{std::byte{(*frame)->type}};
      bytes.insert(bytes.end(), (*frame)->payload.begin(), (*frame)->payload.end());
      FUZZ_CHECK(bytes.size() <= kLimit);
      outcome.frames.push_back(std::move(bytes));
    } else if (stream.empty()) {
      break;
    } else {
      const std::size_t count = std::min(piece, stream.size());
      decoder.feed(stream.first(count));
      stream = stream.subspan(count);
    }
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView stream = std::as_bytes(std::span(data, size));
  FUZZ_CHECK(decode_in_pieces(stream, 1) == decode_in_pieces(stream, size + 1));

  FieldReader reader(stream);
  while (!reader.failed() && reader.remaining() > 0) {
    const std::size_t before = reader.remaining();
    switch (reader.u8() % 4) {
      case 0: reader.u64(); break;
      case 1: FUZZ_CHECK(reader.bytes().size() <= before); break;
      case 2: FUZZ_CHECK(reader.count(5) <= before / 5); break;
      case 3: reader.raw(3); break;
    }
    FUZZ_CHECK(reader.remaining() < before);
  }
  return 0;
}
