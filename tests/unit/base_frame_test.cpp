#include "rendezvous/base/frame.hpp"

#include "tests/support/catch.hpp"

namespace base_frame_test {

using namespace llmlaunch;

namespace {

Bytes bytes_of(std::initializer_list<int> values) {
  Bytes bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

}  // namespace

TEST_CASE("a frame is a little-endian length, a type and its fields") {
  FrameEncoder encoder(7);
  encoder.u8(1).u16(0x0302).u32(0x07060504).text("ab");
  const Bytes frame = std::move(encoder).finish();
  CHECK(frame == bytes_of({14, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 2, 0, 0, 0, 'a', 'b'}));
}

TEST_CASE("fields come back as they were written") {
  FrameEncoder encoder(1);
  encoder.u8(255).u16(65535).u32(4294967295U).u64(1ULL << 63).i64(-2).text("").raw(as_bytes("xyz"));
  const Bytes frame = std::move(encoder).finish();
  FieldReader reader(ByteView(frame).subspan(kFrameHeaderBytes));
  CHECK(reader.u8() == 255);
  CHECK(reader.u16() == 65535);
  CHECK(reader.u32() == 4294967295U);
  CHECK(reader.u64() == 1ULL << 63);
  CHECK(reader.i64() == -2);
  CHECK(reader.text().empty());
  CHECK(as_text(reader.raw(3)) == "xyz");
  CHECK(reader.done());
  CHECK(reader.remaining() == 0);
}

TEST_CASE("a field that is not there makes the reader fail and later fields empty") {
  const Bytes payload = bytes_of({3, 0, 0, 0, 'a', 'b'});
  FieldReader reader(payload);
  CHECK(reader.bytes().empty());
  CHECK(reader.failed());
  CHECK(reader.u8() == 0);
  CHECK_FALSE(reader.done());
}

TEST_CASE("a count that the rest cannot hold is refused before anything is reserved") {
  const Bytes payload = bytes_of({255, 255, 255, 255, 1, 2, 3, 4, 5});
  FieldReader lying(payload);
  CHECK(lying.count(5) == 0);
  CHECK(lying.failed());
  const Bytes honest = bytes_of({1, 0, 0, 0, 1, 2, 3, 4, 5});
  FieldReader reader(honest);
  CHECK(reader.count(5) == 1);
  CHECK_FALSE(reader.failed());
}

TEST_CASE("frames come out whole wherever the stream is cut") {
  FrameEncoder first(1);
  first.text("hello");
  Bytes stream = std::move(first).finish();
  const Bytes second = FrameEncoder(2).finish();
  stream.insert(stream.end(), second.begin(), second.end());
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    FrameDecoder decoder(64);
    std::vector<int> types;
    for (const ByteView piece : {ByteView(stream).first(cut), ByteView(stream).subspan(cut)}) {
      decoder.feed(piece);
      while (true) {
        const auto frame = decoder.next();
        REQUIRE(frame);
        if (!*frame) break;
        types.push_back((*frame)->type);
        if ((*frame)->type == 1) CHECK(FieldReader((*frame)->payload).text() == "hello");
      }
    }
    CHECK(types == std::vector<int>{1, 2});
    CHECK(decoder.buffered() == 0);
  }
}

TEST_CASE("a frame of length 0 ends the stream") {
  FrameDecoder decoder(64);
  decoder.feed(bytes_of({0, 0, 0, 0}));
  const auto frame = decoder.next();
  REQUIRE_FALSE(frame);
  CHECK(frame.error().code == Errc::protocol);
  CHECK(frame.error().what == "a frame of length 0");
  decoder.feed(FrameEncoder(1).finish());
  CHECK_FALSE(decoder.next());
}

TEST_CASE("a frame above the limit is refused by its length alone") {
  FrameDecoder decoder(64);
  decoder.feed(bytes_of({65, 0, 0, 0}));
  const auto frame = decoder.next();
  REQUIRE_FALSE(frame);
  CHECK(frame.error().code == Errc::too_large);
  CHECK(frame.error().what == "a frame of 65 bytes; the limit is 64");
}

TEST_CASE("the limit can be raised for a peer that has become trusted") {
  FrameEncoder encoder(1);
  encoder.raw(Bytes(99));
  const Bytes frame = std::move(encoder).finish();
  FrameDecoder decoder(64);
  decoder.allow_frames_of(100);
  decoder.feed(frame);
  const auto decoded = decoder.next();
  REQUIRE(decoded);
  REQUIRE(*decoded);
  CHECK((*decoded)->payload.size() == 99);
}

TEST_CASE("the rest of a stream can be taken out for another protocol") {
  Bytes stream = FrameEncoder(1).finish();
  stream.push_back(std::byte{'x'});
  FrameDecoder decoder(64);
  decoder.feed(stream);
  REQUIRE(decoder.next());
  CHECK(decoder.take_rest() == bytes_of({'x'}));
  CHECK(decoder.buffered() == 0);
}

}  // namespace base_frame_test
