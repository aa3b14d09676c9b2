#include "rendezvous/base/whole_number.hpp"

#include <cstdint>

#include "tests/support/catch.hpp"

namespace base_whole_number_test {

using llmlaunch::parse_whole;

TEST_CASE("a whole number is all of its text, and fits its type") {
  CHECK(parse_whole<std::uint32_t>("0") == 0U);
  CHECK(parse_whole<std::uint32_t>("0042") == 42U);
  CHECK(parse_whole<std::uint32_t>("4294967295") == 4294967295U);
  CHECK(parse_whole<std::int64_t>("-7") == -7);
  CHECK(parse_whole<std::uint32_t>("755", 8) == 0755U);
  for (const char* none : {"", " 1", "1 ", "+1", "0x1", "1.0", "1e3", "4294967296", "-1", "one"}) {
    CAPTURE(none);
    CHECK_FALSE(parse_whole<std::uint32_t>(none));
  }
  CHECK_FALSE(parse_whole<std::uint16_t>("65536"));
  CHECK_FALSE(parse_whole<std::uint32_t>("8", 8));
}

}  // namespace base_whole_number_test
