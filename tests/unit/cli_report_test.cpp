// How an error looks on stderr, and what llmlaunch exits with after it.
#include "cli/report.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iterator>

#include "cli/exit_status.hpp"
#include "launcher/config.hpp"
#include "rendezvous/base/signal_code.hpp"
#include "tests/support/catch.hpp"

namespace cli_report_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;

TEST_CASE("an error is one headline, its place in front and its hint below") {
  CHECK(format_error(make_error(Errc::usage, "no program given"), false) == "llmlaunch: error: no program given\n");
  CHECK(format_error(make_error(Errc::unreachable, "no answer within 10 s", "host gpu07", "is port 22 open?"), false) ==
        "llmlaunch: error: host gpu07: no answer within 10 s\n   hint: is port 22 open?\n");
  CHECK(format_error(make_error(Errc::timed_out, ""), false) == "llmlaunch: error: timed out\n");
  CHECK(format_error(system_error(ENOENT, "open", "x"), false) ==
        "llmlaunch: error: x: open: No such file or directory\n");
}

TEST_CASE("an error of a configuration shows the line, the caret and what was meant") {
  const auto config = launcher::parse_config("debug: true\nnum_machine: 8\n", "8x8.yaml");
  REQUIRE_FALSE(config.has_value());
  CHECK(format_error(config.error(), false) ==
        "llmlaunch: error: 8x8.yaml:2:1: unknown key 'num_machine'\n"
        "    2 | num_machine: 8\n"
        "      | ^ did you mean 'num_machines'?\n");
}

TEST_CASE("colours mark the words error and hint, and nothing else") {
  CHECK(format_error(make_error(Errc::usage, "what", "where", "do this"), true) ==
        "llmlaunch: \x1b[1;31merror:\x1b[0m where: what\n   \x1b[36mhint:\x1b[0m do this\n");
}

TEST_CASE("text of a file or a host cannot steer the terminal") {
  CHECK(format_error(make_error(Errc::usage, "\x1b]0;x", "\x1b[31m", "\r"), true) ==
        "llmlaunch: \x1b[1;31merror:\x1b[0m \\x1b[31m: \\x1b]0;x\n   \x1b[36mhint:\x1b[0m \\x0d\n");
}

TEST_CASE("colours need a terminal that wants them") {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(terminal >= 0);
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "xterm", 1);
  CHECK(wants_colour(terminal));
  CHECK_FALSE(wants_colour(pipe_ends[1]));
  CHECK_FALSE(wants_colour(-1));
  ::setenv("NO_COLOR", "1", 1);
  CHECK_FALSE(wants_colour(terminal));
  ::setenv("NO_COLOR", "", 1);
  CHECK(wants_colour(terminal));
  ::setenv("TERM", "dumb", 1);
  CHECK_FALSE(wants_colour(terminal));
  ::unsetenv("TERM");
  CHECK_FALSE(wants_colour(terminal));
  ::unsetenv("NO_COLOR");
  for (const int fd : {terminal, pipe_ends[0], pipe_ends[1]}) ::close(fd);
}

TEST_CASE("an error is reported whole, in one piece, to stderr") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const int before = ::dup(STDERR_FILENO);
  REQUIRE(::dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
  report_error(make_error(Errc::usage, "what", "where", "do this"));
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(ends[1]);
  char text[256];
  const ssize_t got = ::read(ends[0], text, sizeof text);
  ::close(ends[0]);
  REQUIRE(got > 0);
  CHECK(std::string(text, static_cast<std::size_t>(got)) == "llmlaunch: error: where: what\n   hint: do this\n");
}

TEST_CASE("every condition has its exit status") {
  struct Row {
    Errc condition;
    int status;
  };
  const Row rows[] = {
      {Errc::usage, 64},
      {Errc::invalid_config, 78},
      {Errc::locked, 75},
      {Errc::interrupted, 130},
      {Errc::timed_out, 69},
      {Errc::refused, 69},
      {Errc::unreachable, 69},
      {Errc::closed, 69},
      {Errc::unauthenticated, 69},
      {Errc::host_key_unknown, 69},
      {Errc::host_key_changed, 69},
      {Errc::host_key_other, 69},
      {Errc::host_key_revoked, 69},
      {Errc::no_workdir, 69},
      {Errc::no_program, 127},
      {Errc::not_executable, 126},
      {Errc::io, 74},
      {Errc::internal, 70},
      {Errc::not_found, 70},
      {Errc::out_of_resources, 69},
      {Errc::invalid_argument, 78},
      {Errc::too_large, 78},
      {Errc::protocol, 69},
      {Errc::version_mismatch, 69},
      {Errc::unsupported, 69},
      {Errc::canceled, 70},
      {Errc::duplicate_rank, 70},
      {Errc::stale_generation, 70},
      {Errc::wrong_world, 70},
      {Errc::generation_ended, 70},
      {Errc::rank_failed, 70},
  };
  CHECK(std::size(rows) == static_cast<std::size_t>(Errc::internal));  // the last one: none is missing
  for (const auto& row : rows) {
    INFO(error_category().message(static_cast<int>(row.condition)));
    CHECK(number(exit_status_of(make_error(row.condition, "x"))) == row.status);
  }
  CHECK(number(exit_status_of(system_error(ENOSPC, "write"))) == 74);
  CHECK(number(exit_status_of({signal_code(SIGHUP), "interrupted", {}, {}})) == 129);
  CHECK(number(exit_status_of({signal_code(SIGTERM), "interrupted", {}, {}})) == 143);
}

}  // namespace cli_report_test
