/// \file
/// Numbers that are none: how they are found in a state and told of. Pure.
#pragma once

#include <optional>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/checkpoint.hpp"

namespace llmlaunch::trainer {

/// "not a number" or "infinite".
const char* word_for_loss(double loss);

/// The error that ends a job with status 65. `resumed`: it goes on from a checkpoint, whose learning rate it has, so
/// that other words help.
Error divergence(std::string what, std::string where, bool resumed);

/// The first of a model's weights that is not finite: "fc1.weight is not finite (its value 7 is nan)".
std::optional<std::string> find_not_finite(const Model& model, const std::vector<float>& parameters);

/// The first of a state's weights and moments that is not finite, in the same words.
std::optional<std::string> find_not_finite(const TrainingState& state);

}  // namespace llmlaunch::trainer
