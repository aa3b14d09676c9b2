// The generator of dropout's masks.
#include "trainer/philox.hpp"

#include <cmath>

#include "tests/support/catch.hpp"

namespace trainer_philox_test {

using namespace llmlaunch::trainer;

TEST_CASE("Philox gives its published numbers") {
  struct Known {
    PhiloxBlock counter;
    PhiloxKey key;
    PhiloxBlock result;
  };
  const Known vectors[] = {
      {{{0, 0, 0, 0}}, {0, 0}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{~0U, ~0U, ~0U, ~0U}}, {~0U, ~0U}, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       {0xa4093822, 0x299f31d0},
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const Known& known : vectors) {
    const PhiloxBlock result = philox(known.counter, known.key);
    for (int i = 0; i < 4; ++i) CHECK(result.word[i] == known.result.word[i]);
  }
}

TEST_CASE("every part of a mask's key makes another block") {
  const MaskKey key{.seed = 1, .sample = 2, .layer = 0};
  const auto first = [](const MaskKey& k, std::uint32_t block) { return mask_block(k, block).word[0]; };
  const std::uint32_t word = first(key, 0);
  CHECK(first(key, 0) == word);
  CHECK(first(key, 1) != word);
  CHECK(first({.seed = 3, .sample = 2, .layer = 0}, 0) != word);
  CHECK(first({.seed = 1 + (1ULL << 32U), .sample = 2, .layer = 0}, 0) != word);
  CHECK(first({.seed = 1, .sample = 3, .layer = 0}, 0) != word);
  CHECK(first({.seed = 1, .sample = 2 + (1ULL << 32U), .layer = 0}, 0) != word);
  CHECK(first({.seed = 1, .sample = 2, .layer = 1}, 0) != word);
}

TEST_CASE("a value is dropped with the probability asked for") {
  CHECK(is_dropped(0, 0.25F));
  CHECK(is_dropped(0x3fffffff, 0.25F));
  CHECK_FALSE(is_dropped(0x40000000, 0.25F));
  CHECK_FALSE(is_dropped(0xffffffff, 0.5F));
  CHECK_FALSE(is_dropped(0, 0.0F));
}

}  // namespace trainer_philox_test
