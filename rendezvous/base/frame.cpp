// Frames in and out. Knows nothing of what the types mean; see message.hpp and launcher/agent/protocol.hpp.
#include "rendezvous/base/frame.hpp"

#include <algorithm>
#include <cassert>
#include <limits>

namespace llmlaunch {
namespace {

constexpr std::size_t kLengthBytes = 4;
// What a decoder keeps for the next frame: one large frame must not hold its memory for the life of a connection.
constexpr std::size_t kKeptBytes = 256 * 1024;

template <class Integer>
void append_little_endian(Bytes& out, Integer value) {
  for (std::size_t i = 0; i < sizeof(value); ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

std::uint64_t read_little_endian(ByteView bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

}  // namespace

void FrameDecoder::feed(ByteView bytes) {
  if (error_) return;
  if (consumed_ > 0) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(consumed_));
    consumed_ = 0;
    if (buffer_.empty() && buffer_.capacity() > kKeptBytes) buffer_ = Bytes();
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

Result<std::optional<FrameView>> FrameDecoder::next() {
  if (error_) return *error_;
  const ByteView rest = ByteView(buffer_).subspan(consumed_);
  if (rest.size() < kLengthBytes) return std::optional<FrameView>();
  const auto length = static_cast<std::size_t>(read_little_endian(rest.first(kLengthBytes)));
  if (length == 0) {
    error_ = make_error(Errc::protocol, "a frame of length 0");
    return *error_;
  }
  if (length > max_frame_bytes_) {
    error_ = make_error(Errc::too_large, "a frame of " + std::to_string(length) + " bytes; the limit is " +
                                             std::to_string(max_frame_bytes_));
    return *error_;
  }
  if (rest.size() - kLengthBytes < length) return std::optional<FrameView>();
  consumed_ += kLengthBytes + length;
  return std::optional(
      FrameView{std::to_integer<std::uint8_t>(rest[kLengthBytes]), rest.subspan(kFrameHeaderBytes, length - 1)});
}

Bytes FrameDecoder::take_rest() {
  Bytes rest(buffer_.begin() + static_cast<std::ptrdiff_t>(consumed_), buffer_.end());
  buffer_.clear();
  consumed_ = 0;
  return rest;
}

FrameEncoder::FrameEncoder(std::uint8_t type) {
  constexpr std::size_t kUsualBytes = 64;  // most frames are smaller: they are allocated once
  frame_.reserve(kUsualBytes);
  frame_.resize(kLengthBytes);
  frame_.push_back(std::byte{type});
}

FrameEncoder& FrameEncoder::u8(std::uint8_t value) {
  frame_.push_back(std::byte{value});
  return *this;
}
FrameEncoder& FrameEncoder::u16(std::uint16_t value) {
  append_little_endian(frame_, value);
  return *this;
}
FrameEncoder& FrameEncoder::u32(std::uint32_t value) {
  append_little_endian(frame_, value);
  return *this;
}
FrameEncoder& FrameEncoder::u64(std::uint64_t value) {
  append_little_endian(frame_, value);
  return *this;
}
FrameEncoder& FrameEncoder::bytes(ByteView value) {
  assert(value.size() <= std::numeric_limits<std::uint32_t>::max());
  u32(static_cast<std::uint32_t>(value.size()));
  return raw(value);
}
FrameEncoder& FrameEncoder::raw(ByteView value) {
  frame_.insert(frame_.end(), value.begin(), value.end());
  return *this;
}

Bytes FrameEncoder::finish() && {
  const auto length = static_cast<std::uint32_t>(frame_.size() - kLengthBytes);
  for (std::size_t i = 0; i < kLengthBytes; ++i) frame_[i] = static_cast<std::byte>(length >> (8 * i));
  return std::move(frame_);
}

std::uint64_t FieldReader::integer(std::size_t width) {
  const ByteView field = raw(width);
  return failed_ ? 0 : read_little_endian(field);
}
std::uint8_t FieldReader::u8() {
  return static_cast<std::uint8_t>(integer(1));
}
std::uint16_t FieldReader::u16() {
  return static_cast<std::uint16_t>(integer(2));
}
std::uint32_t FieldReader::u32() {
  return static_cast<std::uint32_t>(integer(4));
}
std::uint64_t FieldReader::u64() {
  return integer(8);
}

ByteView FieldReader::bytes() {
  return raw(u32());
}

ByteView FieldReader::raw(std::size_t count) {
  if (failed_ || count > rest_.size()) {
    failed_ = true;
    return {};
  }
  const ByteView field = rest_.first(count);
  rest_ = rest_.subspan(count);
  return field;
}

std::uint32_t FieldReader::count(std::size_t min_item_bytes) {
  const std::uint32_t items = u32();
  if (items > rest_.size() / std::max<std::size_t>(min_item_bytes, 1)) {
    failed_ = true;
    return 0;
  }
  return items;
}

}  // namespace llmlaunch
