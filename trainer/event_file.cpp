// TFRecords of tensorflow.Event by hand: four message types with few fields need no protobuf library. Called by
// reports.
#include "trainer/event_file.hpp"

#include <array>
#include <bit>

namespace llmlaunch::trainer {
namespace {

constexpr std::uint32_t kCastagnoli = 0x82f63b78;  // the polynomial, lowest bit first
constexpr std::uint32_t kMask = 0xa282ead8;

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? kCastagnoli : 0U);
    table[byte] = crc;
  }
  return table;
}

constexpr auto kCrcTable = make_crc_table();

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xffU);
  return bytes;
}

std::string masked_crc(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return little_endian<std::uint32_t>(std::rotr(crc, 15) + kMask);
}

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80U; value >>= 7U) bytes += static_cast<char>((value & 0x7fU) | 0x80U);
  return bytes + static_cast<char>(value);
}

std::string whole_field(unsigned number, std::uint64_t value) {
  return varint(number * 8U) + varint(value);
}
std::string double_field(unsigned number, double value) {
  return varint(number * 8U + 1U) + little_endian(std::bit_cast<std::uint64_t>(value));
}
std::string bytes_field(unsigned number, std::string_view value) {
  return varint(number * 8U + 2U) + varint(value.size()) + std::string(value);
}
std::string float_field(unsigned number, float value) {
  return varint(number * 8U + 5U) + little_endian(std::bit_cast<std::uint32_t>(value));
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const char c : bytes) crc = kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xffU] ^ (crc >> 8U);
  return ~crc;
}

std::string tf_record(std::string_view data) {
  const std::string length = little_endian<std::uint64_t>(data.size());
  return length + masked_crc(length) + std::string(data) + masked_crc(data);
}

std::string version_event(double wall_time) {
  return tf_record(double_field(1, wall_time) + bytes_field(3, "brain.Event:2"));
}

std::string start_event(double wall_time, std::uint64_t step) {
  return tf_record(double_field(1, wall_time) + whole_field(2, step) + bytes_field(7, whole_field(1, 1)));
}

std::string scalar_event(double wall_time, std::uint64_t step, std::string_view tag, double value) {
  const std::string scalar = bytes_field(1, tag) + float_field(2, static_cast<float>(value));
  return tf_record(double_field(1, wall_time) + whole_field(2, step) + bytes_field(5, bytes_field(1, scalar)));
}

}  // namespace llmlaunch::trainer
