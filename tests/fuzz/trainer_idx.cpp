// MNIST's files: whatever the bytes, the readers end with data that fits its own description or with an error that
// names the file. The first byte chooses the reader.
#include <algorithm>

#include "tests/fuzz/fuzz.hpp"
#include "trainer/idx.hpp"

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

constexpr std::size_t kUnpackLimit = 1 << 20;

template <class T>
void check_error(const Result<T>& result) {
  FUZZ_CHECK(!result.error().what.empty());
  FUZZ_CHECK(result.error().where == "file");
}

void read_images(ByteView file) {
  const auto images = parse_idx_images(file, "file");
  if (!images) return check_error(images);
  FUZZ_CHECK(images->size() == file.size() - 16);
  FUZZ_CHECK(!images->empty() && images->size() % kImageValues == 0);
}

void read_labels(ByteView file) {
  const auto labels = parse_idx_labels(file, "file");
  if (!labels) return check_error(labels);
  FUZZ_CHECK(labels->size() == file.size() - 8);
  FUZZ_CHECK(!labels->empty() && std::all_of(labels->begin(), labels->end(), [](std::uint8_t l) { return l <= 9; }));
}

void read_qmnist_labels(ByteView file) {
  const auto labels = parse_qmnist_labels(file, "file");
  if (!labels) return check_error(labels);
  FUZZ_CHECK(labels->size() * kLabelNumbers * 4 == file.size() - 12);
  FUZZ_CHECK(!labels->empty() && std::all_of(labels->begin(), labels->end(), [](std::uint8_t l) { return l <= 9; }));
}

/// A file that is not read as a whole: its size is told in eight bytes before its first ones.
void check_images(ByteView input) {
  if (input.size() < 8) return;
  std::uint64_t file_bytes = 0;
  for (const std::byte byte : input.first(8)) file_bytes = file_bytes << 8U | std::to_integer<std::uint64_t>(byte);
  const ByteView begin = input.subspan(8, std::min(input.size() - 8, kImageHeaderBytes));
  if (begin.size() < kImageHeaderBytes) file_bytes = begin.size();
  const auto count = check_idx_images(begin, file_bytes, "file");
  if (!count) return check_error(count);
  FUZZ_CHECK(*count > 0 && *count <= kMaxImages && file_bytes == kImageHeaderBytes + *count * kImageValues);
}

void read_plain(unsigned reader, ByteView file) {
  switch (reader) {
    case 0: return read_images(file);
    case 1: return read_labels(file);
    case 4: return read_qmnist_labels(file);
    default: return check_images(file);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView file = std::as_bytes(std::span(data + 1, size - 1));
  // 2 and 3 are 0 and 1 of packed files, and so are 6 and 7 of 4 and 5.
  const unsigned reader = data[0] % 8;
  if ((reader & 2U) == 0) {
    read_plain(reader, file);
    return 0;
  }
  const auto unpacked = unpack_gzip(file, kUnpackLimit, "file");
  if (!unpacked) {
    check_error(unpacked);
    return 0;
  }
  FUZZ_CHECK(unpacked->size() <= kUnpackLimit);
  read_plain(reader - 2, *unpacked);
  return 0;
}
