// The weights before the first step. Called once per job, on every rank.
#include "trainer/init.hpp"

#include <array>
#include <cmath>

#include "trainer/backend.hpp"
#include "trainer/random.hpp"

namespace llmlaunch::trainer {
namespace {

// Inputs of one output: of a convolution, channels × 3 × 3. A layer's weight and bias have the same bound.
constexpr std::array<std::size_t, kParameters.size() / 2> kFanIn = {9, 288, 9216, 128};

}  // namespace

std::vector<float> initial_parameters(std::uint64_t seed) {
  std::vector<float> values(kParameterValues);
  for (std::size_t p = 0; p < kParameters.size(); ++p) {
    const double bound = 1 / std::sqrt(static_cast<double>(kFanIn[p / 2]));
    const Parameter& parameter = kParameters[p];
    for (std::size_t i = parameter.first; i < parameter.first + parameter.count; ++i) {
      const double unit = unit_interval(random_bits(seed, i));
      values[i] = static_cast<float>((2 * unit - 1) * bound);
    }
  }
  return values;
}

}  // namespace llmlaunch::trainer
