// Which directories below log_dir are made and removed, on a real file system with real locks.
#include "launcher/run_directories.hpp"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "launcher/log_files.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace launcher_run_directories_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::test::TemporaryDirectory;
namespace fs = std::filesystem;

namespace {

const std::string kOne = "20261124-101530-4f2a0b1c";
const std::string kTwo = "20261124-101531-4f2a0b1d";

mode_t mode_of(const fs::path& file) {
  struct stat info {};
  REQUIRE(::stat(file.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

/// What another run does that keeps itself alone.
std::size_t prune_all(const fs::path& log_dir) {
  RunsKept one;
  one.count = 1;
  return prune_runs(log_dir.string(), kTwo, one, std::chrono::system_clock::now());
}

std::string record(const std::string& job_id, const std::string& ended = "null") {
  return R"({"job_id": ")" + job_id + R"(", "llmlaunch_version": "0.1.0", "ended_at": )" + ended + "}";
}

}  // namespace

TEST_CASE("the run directory is private and is made once") {
  const TemporaryDirectory top;
  const auto directory = make_run_directory((top.path / "a" / "b").string(), "job-1");
  REQUIRE(directory);
  CHECK(directory->path == (top.path / "a" / "b" / "job-1").string());
  CHECK(mode_of(directory->path) == 0700);
  const auto again = make_run_directory((top.path / "a" / "b").string(), "job-1");
  REQUIRE_FALSE(again);
  CHECK(again.error().what == "cannot create " + directory->path + ": File exists");
}

TEST_CASE("a log directory that cannot be made says so with a hint") {
  const auto directory = make_run_directory("/proc/no/logs", "job-1");
  REQUIRE_FALSE(directory);
  CHECK(directory.error().what.find("cannot create the log directory /proc/no/logs: ") == 0);
  CHECK(directory.error().hint.find("log_dir") != std::string::npos);
}

TEST_CASE("a run that begins is not removed by another one, whichever step it is at") {
  const TemporaryDirectory top;
  auto run = make_run_directory(top.path.string(), kOne);
  REQUIRE(run);
  REQUIRE(run->held);
  CHECK(prune_all(top.path) == 0);
  REQUIRE(replace_file(run->path + "/job.json", record(kOne)));
  CHECK(prune_all(top.path) == 0);
  REQUIRE(LogFiles::create(run->path, 1));
  CHECK(prune_all(top.path) == 0);
  CHECK(fs::exists(run->path));
  run->held.reset();  // as when it is killed
  CHECK(prune_all(top.path) == 1);
  CHECK_FALSE(fs::exists(run->path));
}

TEST_CASE("a run is over when its record says so, also while its directory is held") {
  const TemporaryDirectory top;
  const auto run = make_run_directory(top.path.string(), kOne);
  REQUIRE(run);
  REQUIRE(replace_file(run->path + "/job.json", record(kOne, R"("2026-11-24T10:15:31.000Z")")));
  CHECK(prune_all(top.path) == 1);
}

TEST_CASE("only a record of ours makes a directory ours, and an odd one stops nobody") {
  const std::vector<std::string> rows = {
      "",
      "{",
      "[]",
      "null",
      "5",
      R"({"job_id": 5, "llmlaunch_version": "0.1.0"})",
      R"({"job_id": null, "llmlaunch_version": "0.1.0"})",
      R"({"job_id": ["20261124-101530-4f2a0b1c"], "llmlaunch_version": "0.1.0"})",
      R"({"job_id": "20261124-101530-4f2a0b1c"})",
      R"({"llmlaunch_version": "0.1.0", "ended_at": "2026"})",
      R"({"job_id": "20261124-101530-4f2a0b1c", "llmlaunch_version": "0.1.0", "n": 1e999})",
      record(kTwo),
      record(kOne) + "x",
  };
  for (const std::string& text : rows) {
    INFO(text);
    CHECK(recorded_run(text, kOne) == RecordedRun::none);
    const TemporaryDirectory top;
    auto run = make_run_directory(top.path.string(), kOne);
    REQUIRE(run);
    run->held.reset();
    REQUIRE(replace_file(run->path + "/job.json", text));
    CHECK(prune_all(top.path) == 0);
    CHECK(fs::exists(run->path));
  }
}

TEST_CASE("a record tells whether its run has ended") {
  CHECK(recorded_run(record(kOne), kOne) == RecordedRun::begun);
  CHECK(recorded_run(record(kOne, "7"), kOne) == RecordedRun::begun);
  CHECK(recorded_run(record(kOne, R"("2026-11-24T10:15:31.000Z")"), kOne) == RecordedRun::ended);
}

}  // namespace launcher_run_directories_test
