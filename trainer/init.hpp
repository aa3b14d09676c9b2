/// \file
/// BasicNet's initial weights. The distribution is PyTorch's default for both kinds of layers: weight and bias uniform
/// within ± 1 / √fan_in. The numbers are our own, by counter: the same on every rank and machine for a seed.
#pragma once

#include <cstdint>
#include <vector>

namespace llmlaunch::trainer {

/// kParameterValues values, in the order of `kParameters`. Value i is (2 u - 1) / √fan_in, in double and then rounded,
/// where u in [0, 1) is the upper 24 bits of `random_bits(seed, i)`.
std::vector<float> initial_parameters(std::uint64_t seed);

}  // namespace llmlaunch::trainer
