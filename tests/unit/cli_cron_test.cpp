// What --cron keeps of what was said, and the mail that comes of it.
#include "cli/cron.hpp"

#include <algorithm>

#include "tests/support/catch.hpp"

namespace cli_cron_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;

namespace {

using Lines = std::vector<std::string>;

SaidLines said_numbers(int count) {
  SaidLines said;
  for (int i = 0; i < count; ++i) said.add(LogLevel::warning, "line " + std::to_string(i));
  return said;
}

Lines lines_in(const std::string& text) {
  Lines lines;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = text.find('\n', start);
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

}  // namespace

TEST_CASE("what is no warning is not kept, and the same line is kept once with its number") {
  SaidLines said;
  CHECK(said.lines().empty());
  said.add(LogLevel::info, "all is well");
  said.add(LogLevel::debug, "all is very well");
  said.add(LogLevel::warning, "gpu07 is slow");
  said.add(LogLevel::error, "gpu08 is gone");
  said.add(LogLevel::warning, "gpu07 is slow");
  said.add(LogLevel::warning, "gpu07 is slow");
  CHECK(said.lines() == Lines{"gpu07 is slow (3 times)", "gpu08 is gone"});
  CHECK(said.left_out() == 0);
}

TEST_CASE("of many lines the first and the last ones are kept, and how many went is known") {
  CHECK(said_numbers(64).lines().size() == 64);
  CHECK(said_numbers(64).left_out() == 0);
  const SaidLines said = said_numbers(1000);
  const Lines lines = said.lines();
  REQUIRE(lines.size() == 64);
  CHECK(said.left_out() == 936);
  CHECK(lines[0] == "line 0");
  CHECK(lines[31] == "line 31");
  CHECK(lines[32] == "line 968");
  CHECK(lines[63] == "line 999");
}

TEST_CASE("a line that was left out and comes again is the latest") {
  SaidLines said = said_numbers(100);
  said.add(LogLevel::warning, "line 50");  // was left out
  said.add(LogLevel::warning, "line 0");   // is there
  CHECK(said.lines().front() == "line 0 (2 times)");
  CHECK(said.lines().back() == "line 50");
}

TEST_CASE("a summary has the failure, the middle of neither part, and the count of all that is missing") {
  const Error failure = make_error(Errc::rank_failed, "exited with status 7", "rank 1", "line\nof\nits\nown");
  const Lines lines = lines_in(cron_summary(failure, 7, nullptr, "/logs/1", said_numbers(1000)));
  REQUIRE(lines.size() <= kMaxSummaryLines);
  CHECK(lines.front() == "llmlaunch: error: rank 1: exited with status 7");
  CHECK(std::count(lines.begin(), lines.end(), "line 5") == 1);
  CHECK(std::count(lines.begin(), lines.end(), "   … 989 lines left out") == 1);
  CHECK(std::count(lines.begin(), lines.end(), "line 999") == 1);
  CHECK(lines[lines.size() - 2] == "exit status: 7");
  CHECK(lines.back() == "logs:        /logs/1");
}

TEST_CASE("a line of any length and a failure of many lines are a mail of forty lines at most") {
  std::string tail = "the last lines:";
  for (int i = 0; i < 500; ++i) tail += "\n" + std::to_string(i);
  SaidLines said = said_numbers(70);
  said.add(LogLevel::warning, std::string(5000, 'x'));
  const Lines lines = lines_in(cron_summary(make_error(Errc::rank_failed, tail, {}, {}), 1, nullptr, "", said));
  CHECK(lines.size() == kMaxSummaryLines);
  for (const std::string& line : lines) CHECK(line.size() < 500);
  CHECK(lines.back() == "exit status: 1");
}

TEST_CASE("the sink keeps warnings as they would have been printed") {
  SaidLines said;
  keep_what_is_said(said);
  log_info("nothing of it");
  log_warning("{} is slow", "gpu07");
  set_log_sink(nullptr);
  CHECK(said.lines() == Lines{"llmlaunch: warning: gpu07 is slow"});
}

}  // namespace cli_cron_test
