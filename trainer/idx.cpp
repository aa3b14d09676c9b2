// Checks and cuts MNIST's files. Called by dataset.cpp; touches no file.
#include "trainer/idx.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>
#include <utility>

#include "rendezvous/base/counted.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr std::uint32_t kImageMagic = 0x0803;   // bytes, three dimensions
constexpr std::uint32_t kLabelMagic = 0x0801;   // bytes, one dimension
constexpr std::uint32_t kNumberMagic = 0x0c02;  // words of four bytes, two dimensions
constexpr std::size_t kLabelHeader = 8;
constexpr std::size_t kNumberHeader = 12;
constexpr const char* kIdxHint = "fetch the file again; --data_dir wants IDX files of 28 x 28 images, plain or .gz";

Error damaged(const std::string& name, std::string what) {
  return make_error(Errc::invalid_config, std::move(what), name, kIdxHint);
}

/// The big-endian word at `at`; the caller has checked that it is there.
std::uint32_t word(ByteView file, std::size_t at) {
  std::uint32_t value = 0;
  for (const std::byte byte : file.subspan(at, 4)) value = value << 8U | std::to_integer<std::uint32_t>(byte);
  return value;
}

void append_word(Bytes& file, std::uint32_t value) {
  for (const unsigned shift : {24U, 16U, 8U, 0U}) file.push_back(static_cast<std::byte>(value >> shift));
}

void append(Bytes& file, std::span<const std::uint8_t> values) {
  const auto bytes = std::as_bytes(values);
  file.insert(file.end(), bytes.begin(), bytes.end());
}

/// Checks magic and count of a file that begins so; gives the count.
Result<std::uint64_t> check_header(ByteView file, const std::string& name, std::uint32_t magic,
                                   std::size_t header_bytes, const char* item) {
  if (file.size() < header_bytes) {
    return damaged(
        name, fmt::format("is truncated: {}, but the header alone has {}", counted(file.size(), "byte"), header_bytes));
  }
  if (word(file, 0) != magic) {
    return damaged(name,
                   fmt::format("begins with {:08x}; a file of {}s begins with {:08x}", word(file, 0), item, magic));
  }
  const std::uint64_t count = word(file, 4);
  if (count == 0) return damaged(name, fmt::format("holds no {}s: its header says 0", item));
  if (count > kMaxImages) {
    return damaged(name, fmt::format("claims {} {}s; the limit is {}", count, item, kMaxImages));
  }
  return count;
}

/// What follows the header must be `count` items, no more and no less.
Result<void> check_length(std::uint64_t file_bytes, const std::string& name, std::uint64_t count, const char* item,
                          std::size_t header_bytes, std::size_t item_bytes) {
  const std::uint64_t expected = header_bytes + count * item_bytes;
  if (file_bytes < expected) {
    return damaged(name, fmt::format("is truncated: {}, but {} need{} {}", counted(file_bytes, "byte"),
                                     counted(count, item), count == 1 ? "s" : "", expected));
  }
  if (file_bytes > expected) {
    return damaged(name,
                   fmt::format("has {} after its {}: {} bytes instead of {}", counted(file_bytes - expected, "byte"),
                               counted(count, item), file_bytes, expected));
  }
  return ok;
}

constexpr std::uint32_t kLastClass = 9;

Error wrong_label(const std::string& name, std::uint64_t index, std::uint32_t label) {
  return make_error(
      Errc::invalid_config, fmt::format("label {} is {}; labels are 0 to {}", index, label, kLastClass), name,
      "the networks here tell ten classes apart; sets with more (EMNIST's letters are 1 to 26) do not fit");
}

std::vector<std::uint8_t> contents(ByteView bytes) {
  std::vector<std::uint8_t> values(bytes.size());
  std::transform(bytes.begin(), bytes.end(), values.begin(),
                 [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); });
  return values;
}

/// An inflating stream that goes with its owner.
class Inflater {
 public:
  explicit Inflater(ByteView packed) {
    assert(packed.size() <= std::numeric_limits<uInt>::max());
    // zlib does not write through next_in.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
    stream_.avail_in = static_cast<uInt>(packed.size());
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    good_ = inflateInit2(&stream_, kGzipOnly) == Z_OK;
  }
  ~Inflater() {
    if (good_) inflateEnd(&stream_);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  bool good() const { return good_; }
  std::size_t unread() const { return stream_.avail_in; }
  const char* message() const { return stream_.msg == nullptr ? "no gzip data" : stream_.msg; }

  /// Fills `room` as far as the input goes; gives zlib's status and how many bytes came.
  std::pair<int, std::size_t> next(std::span<std::byte> room) {
    stream_.next_out = reinterpret_cast<Bytef*>(room.data());
    stream_.avail_out = static_cast<uInt>(room.size());
    const int status = inflate(&stream_, Z_NO_FLUSH);
    return {status, room.size() - stream_.avail_out};
  }

  /// Behind the end of a member: whether another one begins there, be it cut after its first byte. Then `next` unpacks
  /// that one.
  bool begin_member() {
    constexpr Bytef kFirst = 0x1f, kSecond = 0x8b;
    if (stream_.avail_in == 0 || stream_.next_in[0] != kFirst) return false;
    if (stream_.avail_in > 1 && stream_.next_in[1] != kSecond) return false;
    return inflateReset(&stream_) == Z_OK;
  }

 private:
  z_stream stream_{};
  bool good_ = false;
};

}  // namespace

Bytes write_idx_images(std::span<const std::uint8_t> pixels) {
  Bytes file;
  file.reserve(kImageHeaderBytes + pixels.size());
  const auto count = static_cast<std::uint32_t>(pixels.size() / kImageValues);
  for (const std::uint32_t value : {kImageMagic, count, std::uint32_t{kImageSide}, std::uint32_t{kImageSide}}) {
    append_word(file, value);
  }
  append(file, pixels);
  return file;
}

Bytes write_idx_labels(std::span<const std::uint8_t> labels) {
  Bytes file;
  file.reserve(kLabelHeader + labels.size());
  append_word(file, kLabelMagic);
  append_word(file, static_cast<std::uint32_t>(labels.size()));
  append(file, labels);
  return file;
}

Result<std::uint64_t> check_idx_images(ByteView begin, std::uint64_t file_bytes, const std::string& name) {
  const auto count = check_header(begin, name, kImageMagic, kImageHeaderBytes, "image");
  if (!count) return count;
  const std::uint32_t rows = word(begin, 8);
  const std::uint32_t columns = word(begin, 12);
  if (rows != kImageSide || columns != kImageSide) {
    return damaged(name, fmt::format("holds images of {} x {}; networks here take 28 x 28", rows, columns));
  }
  auto whole = check_length(file_bytes, name, *count, "image", kImageHeaderBytes, kImageValues);
  return whole ? count : whole.error();
}

Result<std::vector<std::uint8_t>> parse_idx_images(ByteView file, const std::string& name) {
  const auto count = check_idx_images(file.subspan(0, std::min(file.size(), kImageHeaderBytes)), file.size(), name);
  if (!count) return count.error();
  return contents(file.subspan(kImageHeaderBytes));
}

Result<std::vector<std::uint8_t>> parse_idx_labels(ByteView file, const std::string& name) {
  const auto count = check_header(file, name, kLabelMagic, kLabelHeader, "label");
  if (!count) return count.error();
  if (auto whole = check_length(file.size(), name, *count, "label", kLabelHeader, 1); !whole) return whole.error();
  std::vector<std::uint8_t> labels = contents(file.subspan(kLabelHeader));
  const auto wrong = std::find_if(labels.begin(), labels.end(), [](std::uint8_t label) { return label > kLastClass; });
  if (wrong != labels.end()) return wrong_label(name, static_cast<std::uint64_t>(wrong - labels.begin()), *wrong);
  return labels;
}

Result<std::vector<std::uint8_t>> parse_qmnist_labels(ByteView file, const std::string& name) {
  const auto count = check_header(file, name, kNumberMagic, kNumberHeader, "label");
  if (!count) return count.error();
  constexpr std::size_t kLabelBytes = kLabelNumbers * 4;
  if (word(file, 8) != kLabelNumbers) {
    return damaged(
        name, fmt::format("has {} for each label; QMNIST has {}", counted(word(file, 8), "number"), kLabelNumbers));
  }
  if (auto whole = check_length(file.size(), name, *count, "label", kNumberHeader, kLabelBytes); !whole) {
    return whole.error();
  }
  std::vector<std::uint8_t> labels(*count);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const std::uint32_t label = word(file, kNumberHeader + i * kLabelBytes);
    if (label > kLastClass) return wrong_label(name, i, label);
    labels[i] = static_cast<std::uint8_t>(label);
  }
  return labels;
}

Result<Bytes> unpack_gzip(ByteView packed, std::size_t limit, const std::string& name) {
  Inflater inflater(packed);
  if (!inflater.good()) return make_error(Errc::out_of_resources, "zlib cannot start: no memory", name);
  Bytes unpacked;
  std::array<std::byte, 65536> piece;
  for (;;) {
    const auto [status, count] = inflater.next(piece);
    if (count > limit - unpacked.size()) {
      return damaged(name, fmt::format("unpacks to more than the limit of {} bytes", limit));
    }
    unpacked.insert(unpacked.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(count));
    if (status == Z_STREAM_END) {
      if (inflater.begin_member()) continue;
      break;
    }
    if (status == Z_MEM_ERROR) return make_error(Errc::out_of_resources, "zlib has no memory to unpack", name);
    // zlib stops here when the input ends early.
    if (status == Z_BUF_ERROR || (status == Z_OK && count == 0 && inflater.unread() == 0)) {
      return damaged(name, fmt::format("is truncated: its gzip data ends after {}", counted(packed.size(), "byte")));
    }
    if (status != Z_OK) return damaged(name, fmt::format("cannot be unpacked: {}", inflater.message()));
  }
  // gzip, and Python's, pass over zeros that fill a block of a medium.
  const ByteView rest = packed.last(inflater.unread());
  if (std::any_of(rest.begin(), rest.end(), [](std::byte byte) { return byte != std::byte{}; }))
    return damaged(name, fmt::format("has {} after its gzip data", counted(inflater.unread(), "byte")));
  return unpacked;
}

}  // namespace llmlaunch::trainer
