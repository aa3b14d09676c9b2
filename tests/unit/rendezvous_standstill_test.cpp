#include "rendezvous/standstill.hpp"

#include "tests/support/catch.hpp"

namespace rendezvous_standstill_test {

using namespace llmlaunch;
using namespace std::chrono_literals;

TEST_CASE("a deadline that is a little late has passed") {
  for (const auto late : {0ms, 1ms, 999ms}) CHECK(time_again(10s, late) == 0ms);
}

TEST_CASE("a deadline that stood still has as much of its time again as it stood, and never more than all") {
  CHECK(time_again(10s, 1'000ms) == 1s);
  CHECK(time_again(10s, 4'500ms) == 4'500ms);
  CHECK(time_again(10s, 1h) == 10s);
  CHECK(time_again(50ms, 2s) == 50ms);
}

}  // namespace rendezvous_standstill_test
