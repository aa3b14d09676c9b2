/// \file
/// PyTorch's generator for CPU tensors, so that initial weights and the order of the images are PyTorch's, bit for bit:
/// what `torch.Generator().manual_seed(seed)` draws, in the order in which it draws it. Masks, drawn digits and all
/// else use the trainer's own numbers by counter (random.hpp, philox.hpp).
///
/// Source: the documented behaviour of torch.manual_seed, torch.randperm and Tensor.uniform_, checked against PyTorch's
/// own numbers by tests/fixtures/make_torch_numbers.py.
#pragma once

#include <cstdint>
#include <random>

namespace llmlaunch::trainer {

class TorchGenerator {
 public:
  /// mt19937 takes the low 32 bits of a seed; seeds that differ above them only give the same numbers, as in PyTorch.
  explicit TorchGenerator(std::uint64_t seed) : engine_(static_cast<std::uint32_t>(seed)) {}

  /// 32 bits.
  std::uint32_t bits() { return static_cast<std::uint32_t>(engine_()); }
  /// 64 bits: the first draw is the upper half.
  std::uint64_t bits64() {
    const std::uint64_t upper = bits();
    return upper << 32U | bits();
  }
  /// In [low, high): the low 24 bits of a draw as a number in [0, 1), scaled in double and then rounded.
  float uniform(float low, float high) {
    const double unit = static_cast<double>(bits() & 0xffffffU) * 0x1p-24;
    return static_cast<float>(unit * static_cast<double>(high - low) + static_cast<double>(low));
  }

 private:
  std::mt19937 engine_;
};

}  // namespace llmlaunch::trainer
