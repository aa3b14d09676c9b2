// The initial weights: PyTorch's default distribution, the same numbers everywhere.
#include "trainer/init.hpp"

#include <cmath>
#include <span>

#include "tests/support/catch.hpp"
#include "trainer/backend.hpp"
#include "trainer/random.hpp"

namespace trainer_init_test {

using namespace llmlaunch::trainer;

TEST_CASE("every tensor is uniform within one over the root of its layer's inputs") {
  const std::vector<float> values = initial_parameters(basic_net(), 3);
  REQUIRE(values.size() == basic_net().values);
  const double inputs[] = {9, 9, 288, 288, 9216, 9216, 128, 128};
  for (std::size_t p = 0; p < basic_net().parameters.size(); ++p) {
    const auto tensor = std::span(values).subspan(basic_net().parameters[p].first, basic_net().parameters[p].count);
    const double bound = 1 / std::sqrt(inputs[p]);
    double sum = 0, squares = 0, largest = 0;
    for (const float value : tensor) {
      sum += value;
      squares += static_cast<double>(value) * value;
      largest = std::max(largest, std::abs(static_cast<double>(value)));
    }
    const auto count = static_cast<double>(tensor.size());
    CAPTURE(basic_net().parameters[p].name);
    CHECK(largest <= bound);
    // Of a uniform distribution: five deviations of mean and mean square, and the ends are reached.
    CHECK(std::abs(sum / count) < 5 * bound / std::sqrt(3 * count));
    CHECK(std::abs(squares / count - bound * bound / 3) < 5 * bound * bound * std::sqrt(4 / (45 * count)));
    CHECK(largest > bound * (1 - 12 / count));
  }
}

TEST_CASE("a seed gives the same weights again, another seed others") {
  CHECK(initial_parameters(basic_net(), 1) == initial_parameters(basic_net(), 1));
  CHECK(initial_parameters(basic_net(), 1) != initial_parameters(basic_net(), 2));
}

TEST_CASE("the generator gives its published numbers") {
  // SplitMix64 with seed 0, from the page of its author.
  CHECK(mixed(0) == 0xe220a8397b1dcdafULL);
  CHECK(mixed(0x9e3779b97f4a7c15ULL) == 0x6e789e6aa1b965f4ULL);
  CHECK(unit_interval(0) == 0.0F);
  CHECK(unit_interval(~std::uint64_t{0}) < 1.0F);
}

}  // namespace trainer_init_test
