#include "rendezvous/base/log.hpp"

#include <thread>
#include <vector>

#include "tests/support/catch.hpp"

using namespace llmlaunch;

namespace {

struct Captured {
  Captured() {
    set_log_sink([this](LogLevel level, std::string_view line) { lines.emplace_back(level, line); });
  }
  ~Captured() {
    set_log_sink(nullptr);
    set_log_level(LogLevel::info);
  }
  std::vector<std::pair<LogLevel, std::string>> lines;
};

}  // namespace

TEST_CASE("lines more verbose than the level are not written") {
  Captured captured;
  set_log_level(LogLevel::warning);
  log_error("e {}", 1);
  log_warning("w {}", 2);
  log_info("i");
  log_debug("d");
  REQUIRE(captured.lines.size() == 2);
  CHECK(captured.lines[0] == std::pair(LogLevel::error, std::string("e 1")));
  CHECK(captured.lines[1] == std::pair(LogLevel::warning, std::string("w 2")));
}

TEST_CASE("lines of many threads all arrive, one at a time") {
  Captured captured;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      for (int line = 0; line < 100; ++line) log_info("line {}", line);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(captured.lines.size() == 400);
}
