// Which numbers of ranks go on from which checkpoint.
#include "trainer/dealing.hpp"

#include "tests/support/catch.hpp"

namespace trainer_dealing_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

Dealing dealing_of(std::uint64_t images, std::uint32_t ranks, bool drop_last = false) {
  return {.accounting =
              {.images = images, .images_per_step = 32, .steps_per_epoch = 21, .data_seed = 3, .drop_last = drop_last},
          .ranks = ranks};
}

}  // namespace

TEST_CASE("places of an epoch's order: those that are twice, or left out, so that all ranks get equally many") {
  CHECK(dealing_of(641, 1).places() == 641);
  CHECK(dealing_of(641, 2).places() == 642);
  CHECK(dealing_of(641, 4, true).places() == 640);
  CHECK(dealing_of(3, 4, true).places() == 0);
}

TEST_CASE("another number of ranks goes on only where it deals the images alike") {
  CHECK(check_dealing(dealing_of(640, 1), dealing_of(640, 2), "c"));
  CHECK(check_dealing(dealing_of(641, 2), dealing_of(641, 2), "c"));
  const auto refused = check_dealing(dealing_of(641, 1), dealing_of(641, 2), "run/checkpoint-3");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::invalid_argument);
  CHECK(to_string(refused.error()) ==
        "run/checkpoint-3: 2 ranks deal 641 images as 642 and 1 rank dealt them as 641, so that images would be seen "
        "twice or never, and with other dropout\n"
        "   hint: with 32 images per step these numbers of ranks go on from it: 1");
  const auto dropped = check_dealing(dealing_of(641, 8, true), dealing_of(641, 1, true), "c");
  REQUIRE_FALSE(dropped);
  CHECK(dropped.error().hint == "with 32 images per step these numbers of ranks go on from it: 2, 4, 8, 16, 32");
}

TEST_CASE("where the number of ranks alone is another one, that which would do is named") {
  Dealing now = dealing_of(640, 4);
  now.accounting.images_per_step = 64;  // 16 of each rank
  now.accounting.steps_per_epoch = 10;
  const std::string hint = check_dealing(dealing_of(640, 2), now, "c").error().hint;
  CHECK_THAT(hint, Catch::StartsWith("go on with 2 ranks, or with the same data, --data_seed 3 and 32 images "));
  CHECK_THAT(check_dealing(dealing_of(641, 1), now, "c").error().hint, Catch::StartsWith("go on with the same data"));
  CHECK_THAT(check_dealing(dealing_of(640, 2, true), now, "c").error().hint, Catch::StartsWith("go on with the same "));
  now.accounting.images_per_step = 4 * 24;  // no number of ranks has 32 of them
  CHECK_THAT(check_dealing(dealing_of(640, 2), now, "c").error().hint, Catch::StartsWith("go on with the same data"));
}

TEST_CASE("other numbers than the ranks' are named first") {
  Dealing now = dealing_of(641, 2);
  now.accounting.data_seed = 9;
  const auto refused = check_dealing(dealing_of(641, 1), now, "c");
  REQUIRE_FALSE(refused);
  CHECK(
      refused.error().what ==
      "the seed of the images' order (--data_seed, else --seed) was 3 and is 9, so that images would be seen twice or "
      "never");
}

TEST_CASE("a step of very many images is no long search") {
  Dealing then = dealing_of(641, 1);
  Dealing now = dealing_of(641, 2);
  then.accounting.images_per_step = now.accounting.images_per_step = std::uint64_t{1} << 60U;
  CHECK_FALSE(check_dealing(then, now, "c"));
}

}  // namespace trainer_dealing_test
