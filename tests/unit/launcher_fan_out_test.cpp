// How many hosts may be on their way, driven with numbers for time.
#include "launcher/fan_out.hpp"

#include "tests/support/catch.hpp"

namespace launcher_fan_out_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kHosts = 10'000;

struct Bench {
  explicit Bench(std::optional<std::uint32_t> fixed = {}, std::size_t cores = 1) : fan(fixed, cores, kHosts) {}
  /// Hosts take places until there is none.
  std::size_t fill() {
    std::size_t taken = 0;
    for (; fan.has_place(); ++taken) fan.take(next++, now);
    return taken;
  }
  void tick(std::chrono::milliseconds passed = 100ms) {
    now += passed;
    fan.tick(now);
  }
  void ticks(int count) {
    for (; count > 0; --count) tick();
  }
  TimePoint now{};
  FanOut fan;
  std::size_t next = 0;
};

}  // namespace

TEST_CASE("the window starts at 16 hosts for each core, between 32 and 256") {
  CHECK(FanOut({}, 1, 1).window() == 32);
  CHECK(FanOut({}, 4, 1).window() == 64);
  CHECK(FanOut({}, 16, 1).window() == 256);
  CHECK(FanOut({}, 128, 1).window() == 256);
}

TEST_CASE("each host that was opened raises the window by one while the head keeps up") {
  Bench bench;
  CHECK(bench.fill() == 32);
  for (std::size_t host = 0; host < 32; ++host) bench.fan.opened(host);
  bench.tick();
  CHECK(bench.fan.window() == 64);
  CHECK(bench.fill() == 64);
}

TEST_CASE("the window has an upper limit") {
  Bench bench;
  for (std::size_t host = 0; host < kHosts; ++host) {
    bench.fan.take(host, bench.now);
    bench.fan.opened(host);
  }
  CHECK(bench.fan.window() == kMostPlaces);
}

TEST_CASE("a late tick halves the window, and it never falls below 8") {
  Bench bench({}, 4);
  bench.fill();
  bench.tick(250ms);
  CHECK(bench.fan.window() == 64);
  bench.tick(251ms);
  CHECK(bench.fan.window() == 32);
  for (int i = 0; i < 9; ++i) bench.tick(1100ms);
  CHECK(bench.fan.window() == 8);
}

TEST_CASE("threads of sessions that are behind are a head that does not keep up") {
  Bench bench({}, 4);
  bench.fill();
  bench.now += 100ms;
  bench.fan.tick(bench.now, 250ms);
  CHECK(bench.fan.window() == 64);
  for (int i = 0; i < 15; ++i) {
    bench.now += 100ms;
    bench.fan.tick(bench.now, 251ms);
  }
  CHECK(bench.fan.window() == 16);     // once a second
  CHECK_FALSE(bench.fan.has_place());  // and none of the hosts is taken for one that hangs
}

TEST_CASE("what is dropped within a second of a halving was caused before it") {
  Bench bench({}, 8);
  for (int i = 0; i < 10; ++i) bench.fan.dropped(bench.now);
  CHECK(bench.fan.window() == 64);
  bench.now += 999ms;
  bench.fan.dropped(bench.now);
  CHECK(bench.fan.window() == 64);
  bench.now += 1ms;
  bench.fan.dropped(bench.now);
  CHECK(bench.fan.window() == 32);
}

TEST_CASE("after a halving the window rises by one for each window of hosts") {
  Bench bench;
  bench.fan.dropped(bench.now);
  REQUIRE(bench.fan.window() == 16);
  for (std::size_t host = 0; host < 15; ++host) bench.fan.opened(host);
  CHECK(bench.fan.window() == 16);
  bench.fan.opened(15);
  CHECK(bench.fan.window() == 17);
  for (std::size_t host = 16; host < 32; ++host) bench.fan.opened(host);
  CHECK(bench.fan.window() == 17);
  bench.fan.opened(32);
  CHECK(bench.fan.window() == 18);
}

TEST_CASE("a fixed fanout neither rises nor falls") {
  Bench bench(3);
  CHECK(bench.fill() == 3);
  bench.fan.opened(0);
  bench.fan.dropped(bench.now);
  bench.tick(5s);
  CHECK(bench.fan.window() == 3);
  CHECK(bench.fill() == 1);
  CHECK(FanOut(100'000, 1, 1).window() == 100'000);
}

TEST_CASE("a host that stands still for more than a second gives its place away, once") {
  Bench bench(2);
  bench.fill();
  bench.ticks(10);
  CHECK_FALSE(bench.fan.has_place());
  bench.tick();
  CHECK(bench.fill() == 2);
  bench.fan.leave(0);
  bench.fan.opened(1);
  CHECK_FALSE(bench.fan.has_place());
}

TEST_CASE("a step that is new is progress, the same again is not") {
  Bench bench(1);
  bench.fill();
  bench.ticks(8);
  bench.fan.reached(0, OpenStep::connecting, bench.now);
  bench.ticks(10);
  CHECK_FALSE(bench.fan.has_place());
  bench.fan.reached(0, OpenStep::connecting, bench.now);
  bench.tick();
  CHECK(bench.fan.has_place());
}

TEST_CASE("while the head itself is late no host is taken for one that hangs") {
  Bench bench;
  bench.fill();
  for (int i = 0; i < 5; ++i) bench.tick(2s);
  CHECK_FALSE(bench.fan.has_place());
  bench.ticks(10);
  CHECK_FALSE(bench.fan.has_place());
  bench.tick();
  CHECK(bench.fan.has_place());
}

}  // namespace launcher_fan_out_test
