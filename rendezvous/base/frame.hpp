/// \file
/// Frames: the unit of every byte stream of ours (rendezvous over TCP, agent over ssh). Bytes in, frames out; no
/// socket.
///
///     frame   = length type payload      length: u32, counts type and payload, so it is at least 1
///     type    = u8                       its meaning belongs to the protocol on top
///     integers are little-endian; bytes = u32 length + data; list = u32 count + items
///
/// A reader that meets a length of 0 or above its limit cannot find the next frame and must close the connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

inline ByteView as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline constexpr std::size_t kFrameHeaderBytes = 5;  // u32 length, u8 type

/// One decoded frame. `payload` points into the decoder and lives until the next call of `feed` or `next`.
struct FrameView {
  std::uint8_t type = 0;
  ByteView payload;
};

/// Bytes → frames | need more | error. Pieces may be split anywhere. After an error every further call gives it again.
class FrameDecoder {
 public:
  /// `max_frame_bytes` limits type + payload; a longer frame is `Errc::too_large`, an empty one `Errc::protocol`.
  explicit FrameDecoder(std::size_t max_frame_bytes) : max_frame_bytes_(max_frame_bytes) {}

  /// Appends received bytes. Takes a copy.
  void feed(ByteView bytes);

  /// The next whole frame, nothing when more bytes are needed, or the error that ends this stream.
  Result<std::optional<FrameView>> next();

  /// Changes the limit for frames not yet decoded, for a peer that has become trusted. Ends no error.
  void allow_frames_of(std::size_t max_frame_bytes) { max_frame_bytes_ = max_frame_bytes; }

  /// Bytes held back, waiting for the rest of their frame.
  std::size_t buffered() const { return buffer_.size() - consumed_; }

  /// Takes out what was fed and not decoded, for a stream that changes its protocol.
  Bytes take_rest();

 private:
  std::size_t max_frame_bytes_;
  Bytes buffer_;
  std::size_t consumed_ = 0;
  std::optional<Error> error_;
};

/// Builds one frame, field by field; `finish` sets the length.
class FrameEncoder {
 public:
  explicit FrameEncoder(std::uint8_t type);
  FrameEncoder& u8(std::uint8_t value);
  FrameEncoder& u16(std::uint16_t value);
  FrameEncoder& u32(std::uint32_t value);
  FrameEncoder& u64(std::uint64_t value);
  FrameEncoder& i64(std::int64_t value) { return u64(static_cast<std::uint64_t>(value)); }
  FrameEncoder& bytes(ByteView value);  ///< u32 length + data
  FrameEncoder& text(std::string_view value) { return bytes(as_bytes(value)); }
  FrameEncoder& raw(ByteView value);  ///< data of a width both sides know
  Bytes finish() &&;

 private:
  Bytes frame_;
};

/// Reads the fields of one payload. The first field that does not fit makes `failed()` true and this and all later
/// fields zero or empty, so that a message is read in one go and checked once, with `done()`.
class FieldReader {
 public:
  explicit FieldReader(ByteView payload) : rest_(payload) {}
  std::uint8_t u8();
  std::uint16_t u16();
  std::uint32_t u32();
  std::uint64_t u64();
  std::int64_t i64() { return static_cast<std::int64_t>(u64()); }
  ByteView bytes();
  std::string text() { return std::string(as_text(bytes())); }
  ByteView raw(std::size_t count);

  /// A list's count, checked: every item takes at least `min_item_bytes`, so a count beyond the rest is a lie.
  std::uint32_t count(std::size_t min_item_bytes);

  bool failed() const { return failed_; }
  std::size_t remaining() const { return rest_.size(); }
  /// True when every field was there. Bytes left over belong to a newer minor version and are ignored.
  bool done() const { return !failed_; }

 private:
  std::uint64_t integer(std::size_t width);
  ByteView rest_;
  bool failed_ = false;
};

}  // namespace llmlaunch
