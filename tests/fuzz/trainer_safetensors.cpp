// Weights from a file: whatever the bytes, the reader ends with tensors that fit their shapes, or with an error that
// names the file. What it accepts is written again and read as the same.
#include <cstring>

#include "tests/fuzz/fuzz.hpp"
#include "trainer/safetensors.hpp"

using namespace llmlaunch;
using namespace llmlaunch::trainer;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parsed = parse_safetensors(std::as_bytes(std::span(data, size)), "file");
  if (!parsed) {
    FUZZ_CHECK(!parsed.error().what.empty());
    FUZZ_CHECK(parsed.error().where == "file");
    return 0;
  }
  std::vector<TensorView> views;
  for (const auto& [name, tensor] : parsed->tensors) {
    std::uint64_t values = 1;
    for (const std::uint64_t side : tensor.shape) values *= side;
    FUZZ_CHECK(values == tensor.values.size());
    views.push_back({name, tensor.shape, tensor.values});
  }
  const auto again = parse_safetensors(write_safetensors(views, parsed->metadata), "file");
  FUZZ_CHECK(again && again->tensors.size() == parsed->tensors.size() && again->metadata == parsed->metadata);
  for (const auto& [name, tensor] : parsed->tensors) {
    const auto found = again->tensors.find(name);
    FUZZ_CHECK(found != again->tensors.end() && found->second.shape == tensor.shape);
    FUZZ_CHECK(found->second.values.size() == tensor.values.size());
    // Bit for bit: a number may be none.
    FUZZ_CHECK(tensor.values.empty() || std::memcmp(found->second.values.data(), tensor.values.data(),
                                                    tensor.values.size() * sizeof(float)) == 0);
  }
  return 0;
}
