#include "rendezvous/base/log.hpp"

#include <thread>
#include <vector>

#include "tests/support/catch.hpp"

namespace base_log_test {

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

TEST_CASE("text of a file or a host cannot steer the terminal, and keeps its letters") {
  struct Row {
    std::string text;
    std::string shown;
  };
  const std::vector<Row> rows = {
      {"a\tb\nc", "a\tb\nc"},
      {"\x1b[2J\r\x07\x7f", "\\x1b[2J\\x0d\\x07\\x7f"},
      {std::string(1, '\0'), "\\x00"},
      {"gr\u00fcn \u2026 \u65e5 \U0001f600", "gr\u00fcn \u2026 \u65e5 \U0001f600"},
      {"\u00a0", "\u00a0"},
      {"\xc2\x9b"
       "2J",
       "\\xc2\\x9b2J"},  // C1's CSI, as UTF-8
      {"\x9b"
       "2J",
       "\\x9b2J"},                 // and as Latin-1
      {"gr\xfcn", "gr\\xfcn"},     // no UTF-8
      {"\xe2\x80", "\\xe2\\x80"},  // cut
      {"\xc0\x9b", "\\xc0\\x9b"},  // ESC, in more bytes than it takes
      {"\xe0\x80\x9b", "\\xe0\\x80\\x9b"},
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},           // half a surrogate pair
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},  // beyond Unicode
  };
  for (const Row& row : rows) CHECK(printable(row.text) == row.shown);
}

TEST_CASE("a log line reaches its sink printable") {
  Captured captured;
  log_info("gpu07 said: {}", "\x1b]0;title\x07 gr\u00fcn");
  REQUIRE(captured.lines.size() == 1);
  CHECK(captured.lines[0].second == "gpu07 said: \\x1b]0;title\\x07 gr\u00fcn");
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

}  // namespace base_log_test
