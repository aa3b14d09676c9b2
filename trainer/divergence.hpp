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

/// What may help a job that ends so: not what it does already, and for one that goes on from a checkpoint, whose
/// learning rate it has, other words.
struct DivergedJob {
  bool resumed = false;
  bool skips = false;  ///< --on_nan skip
};

/// The error that ends a job with status 65.
Error divergence(std::string what, std::string where, DivergedJob job);

/// The first of a model's weights that is not finite: "fc1.weight is not finite (its value 7 is nan)".
std::optional<std::string> find_not_finite(const Model& model, const std::vector<float>& parameters);

/// The first of a state's weights and moments that is not finite, in the same words.
std::optional<std::string> find_not_finite(const TrainingState& state);

}  // namespace llmlaunch::trainer
