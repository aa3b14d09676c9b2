/// \file
/// A model's initial weights: those that `torch.manual_seed(seed)` and then the constructor of the same network give in
/// PyTorch, bit for bit, on every rank and machine.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/model.hpp"

namespace llmlaunch::trainer {

/// `model.values` values, in the order of its parameters, drawn in that order by `TorchGenerator(seed)`: each uniform
/// within ± 1 / √fan_in, which is the default of Conv2d and Linear for weight and bias.
std::vector<float> initial_parameters(const Model& model, std::uint64_t seed);

}  // namespace llmlaunch::trainer
