// The weights before the first step. Called once per job, on every rank.
#include "trainer/init.hpp"

#include <array>
#include <cmath>

#include "trainer/backend.hpp"
#include "trainer/torch_random.hpp"

namespace llmlaunch::trainer {
namespace {

// Inputs of one output: of a convolution, channels × 3 × 3. A layer's weight and bias have the same bound.
constexpr std::array<double, kParameters.size() / 2> kFanIn = {9, 288, 9216, 128};

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

std::vector<float> initial_parameters(std::uint64_t seed) {
  std::vector<float> values(kParameterValues);
  TorchGenerator generator(seed);
  for (std::size_t p = 0; p < kParameters.size(); ++p) {
    const double fan_in = kFanIn[p / 2];
    const auto bound = static_cast<float>(p % 2 == 0 ? weight_bound(fan_in) : bias_bound(fan_in));
    const Parameter& parameter = kParameters[p];
    for (std::size_t i = parameter.first; i < parameter.first + parameter.count; ++i) {
      values[i] = generator.uniform(-bound, bound);
    }
  }
  return values;
}

}  // namespace llmlaunch::trainer
