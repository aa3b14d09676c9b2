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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView file = std::as_bytes(std::span(data + 1, size - 1));
  if (data[0] % 4 == 0) {
    read_images(file);
  } else if (data[0] % 4 == 1) {
    read_labels(file);
  } else {
    const auto unpacked = unpack_gzip(file, kUnpackLimit, "file");
    if (!unpacked) {
      check_error(unpacked);
      return 0;
    }
    FUZZ_CHECK(unpacked->size() <= kUnpackLimit);
    data[0] % 4 == 2 ? read_images(*unpacked) : read_labels(*unpacked);
  }
  return 0;
}
