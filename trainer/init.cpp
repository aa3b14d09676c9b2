// The weights before the first step. Called once per job, on every rank.
#include "trainer/init.hpp"

#include <cmath>

#include "trainer/torch_random.hpp"

namespace llmlaunch::trainer {
namespace {

/// A weight's bound as PyTorch computes it: kaiming_uniform_ with a = √5. It may differ from the bias's in the last
/// bit.
double weight_bound(double fan_in) {
  const double gain = std::sqrt(2.0 / (1.0 + std::sqrt(5.0) * std::sqrt(5.0)));
  return std::sqrt(3.0) * (gain / std::sqrt(fan_in));
}

double bias_bound(double fan_in) {
  return 1.0 / std::sqrt(fan_in);
}

}  // namespace

std::vector<float> initial_parameters(const Model& model, std::uint64_t seed) {
  std::vector<float> values(model.values);
  TorchGenerator generator(seed);
  const auto draw = [&](const Parameter& parameter, double bound_in_double) {
    const auto bound = static_cast<float>(bound_in_double);
    for (std::size_t i = parameter.first; i < parameter.first + parameter.count; ++i) {
      values[i] = generator.uniform(-bound, bound);
    }
  };
  for (const Stage& stage : model.stages) {
    if (!stage.has_parameters()) continue;
    const Parameter& weight = model.parameters[stage.weight];
    const auto fan_in = static_cast<double>(weight.count / weight.shape.front());
    draw(weight, weight_bound(fan_in));
    draw(model.parameters[stage.weight + 1], bias_bound(fan_in));
  }
  return values;
}

}  // namespace llmlaunch::trainer
