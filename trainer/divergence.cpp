// Words for numbers that are none. Called by the loops, the tests of the model and before a checkpoint.
#include "trainer/divergence.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

namespace llmlaunch::trainer {
namespace {

/// Without a branch for each value: a state has millions.
bool all_finite(const std::vector<float>& values) {
  unsigned good = 1;
  for (const float value : values) good &= std::isfinite(value) ? 1U : 0U;
  return good == 1;
}

std::string word_for_value(float value) {
  if (std::isnan(value)) return "nan";
  return value > 0 ? "inf" : "-inf";
}

std::optional<std::string> find_in(const Model& model, const std::vector<float>& values, const char* of) {
  if (all_finite(values)) return std::nullopt;
  for (const Parameter& parameter : model.parameters) {
    const auto own = std::span(values).subspan(parameter.first, parameter.count);
    const auto found = std::find_if(own.begin(), own.end(), [](float value) { return !std::isfinite(value); });
    if (found == own.end()) continue;
    return fmt::format("{}{} is not finite (its value {} is {})", of, parameter.name, found - own.begin(),
                       word_for_value(*found));
  }
  return std::nullopt;
}

}  // namespace

const char* word_for_loss(double loss) {
  return std::isnan(loss) ? "not a number" : "infinite";
}

Error divergence(std::string what, std::string where, DivergedJob job) {
  std::string hint = job.resumed
                         ? "the learning rate is the checkpoint's, whatever --learning_rate says: go on from an "
                           "earlier checkpoint, with --max_grad_norm 1"
                         : "a lower --learning_rate or --max_grad_norm 1 may help";
  if (!job.skips) hint += job.resumed ? " or --on_nan skip" : "; --on_nan skip leaves such steps out";
  return {std::make_error_code(std::errc::argument_out_of_domain), std::move(what), std::move(where), std::move(hint)};
}

std::optional<std::string> find_not_finite(const Model& model, const std::vector<float>& parameters) {
  return find_in(model, parameters, "");
}

std::optional<std::string> find_not_finite(const TrainingState& state) {
  if (auto found = find_not_finite(*state.model, state.parameters)) return found;
  if (auto found = find_in(*state.model, state.first_moment, "AdamW's exp_avg of ")) return found;
  return find_in(*state.model, state.second_moment, "AdamW's exp_avg_sq of ");
}

}  // namespace llmlaunch::trainer
