// Which images of a job stay in their files, and which are held.
#include "trainer/data_source.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"
#include "trainer/digits.hpp"

namespace trainer_data_source_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

TEST_CASE("a rank of several leaves images in their files, but for those that a device wants as a whole") {
  const test::TemporaryDirectory folder;
  const Dataset train = draw_digits(5, 1), test = draw_digits(3, 2);
  REQUIRE(save_mnist(folder.str(), {{Split::train, &train}, {Split::test, &test}}));
  TrainOptions options;
  options.data_dir = folder.str();
  options.train_samples = 4;
  /// Whether training and test images are held.
  const auto held = [&](std::uint32_t world_size) {
    const auto data = load_data(options, world_size);
    REQUIRE(data);
    CHECK(data->train->count() == 4);
    CHECK(data->test->count() == 3);
    return std::pair(data->train->whole() != nullptr, data->test->whole() != nullptr);
  };
  CHECK(held(1) == std::pair(true, true));
  CHECK(held(2) == std::pair(false, false));
  options.cuda_graph = true;
  CHECK(held(2) == std::pair(true, false));
  options.eval_samples = 4;
  const auto refused = load_data(options, 2);
  REQUIRE_FALSE(refused);
  CHECK(to_string(refused.error()) == folder.str() + ": --eval_samples 4, but there are only 3 images");
}

}  // namespace trainer_data_source_test
