// --loss_file: its lines, what a job that goes on keeps, and a disk that is full.
#include "trainer/loss_log.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace trainer_loss_log_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

std::string text_in(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

LossLog opened(const std::string& path) {
  auto log = LossLog::open(path, true);
  REQUIRE(log);
  return std::move(*log);
}

/// Files end at so many bytes, as on a disk that is full by then.
class FullAt {
 public:
  explicit FullAt(rlim_t bytes) : old_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullAt() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, old_);
  }

 private:
  rlimit before_{};
  void (*old_)(int);
};

}  // namespace

TEST_CASE("a loss that does not fit is said once and costs its line, none of the others, and the status at the end") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder.path / "losses").string();
  LossLog log = opened(path);
  std::vector<Error> said;
  log.tell_failure([&](const Error& error) { said.push_back(error); });
  REQUIRE(log.begin(0));
  log.write(1, 2.5);
  log.write(2, std::numeric_limits<double>::quiet_NaN());
  const std::string whole = "{\"step\": 1, \"loss\": 2.5}\n{\"step\": 2, \"loss\": null}\n";
  CHECK(text_in(path) == whole);
  {
    const FullAt full(whole.size() + 10);
    log.write(3, 1.5);
    log.write(4, 1.25);
    CHECK(text_in(path) == whole);  // no torn line
  }
  log.write(5, 1);
  CHECK(text_in(path) == whole + "{\"step\": 5, \"loss\": 1}\n");
  REQUIRE(said.size() == 1);
  CHECK(to_string(said[0]) == path + ": --loss_file: write: File too large");
  const auto finished = log.finish();
  REQUIRE_FALSE(finished);
  CHECK(finished.error().what == "2 of 5 lines of --loss_file could not be written");
  CHECK(finished.error().code == std::errc::file_too_large);
}

TEST_CASE("a job that goes on keeps its lines and no others, also where the disk is full by then") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder.path / "losses").string();
  std::ofstream(path) << "{\"step\": 1, \"loss\": 1}\n{\"step\": 2, \"loss\": 2}\n{\"step\": 3, \"lo";
  {
    LossLog log = opened(path);
    {
      const FullAt full(0);  // there is nothing to write: what is kept stays where it is
      REQUIRE(log.begin(2));
    }
    log.write(3, 3);
    CHECK(log.finish());
  }
  CHECK(text_in(path) == "{\"step\": 1, \"loss\": 1}\n{\"step\": 2, \"loss\": 2}\n{\"step\": 3, \"loss\": 3}\n");
  LossLog anew = opened(path);
  REQUIRE(anew.begin(0));
  CHECK(text_in(path).empty());
}

TEST_CASE("one job at a time writes the file, and a device is everybody's") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder.path / "losses").string();
  {
    const LossLog first = opened(path);
    const auto second = LossLog::open(path, true);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::locked);
    CHECK(to_string(second.error()) ==
          path + ": another job is writing this file\n   hint: wait for its end, or give this one another --loss_file");
  }
  const LossLog third = opened(path);
  const LossLog device = opened("/dev/null");
  CHECK(LossLog::open("/dev/null", true));
}

TEST_CASE("lines of a file that somebody has removed are missing ones") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder.path / "losses").string();
  LossLog log = opened(path);
  std::vector<Error> said;
  log.tell_failure([&](const Error& error) { said.push_back(error); });
  REQUIRE(log.begin(0));
  log.write(1, 1);
  CHECK(said.empty());
  std::filesystem::remove(path);
  log.write(2, 1);
  log.write(3, 1);
  REQUIRE(said.size() == 1);
  CHECK(to_string(said[0]) == path + ": --loss_file: was removed while it is written");
  const auto finished = log.finish();
  REQUIRE_FALSE(finished);
  CHECK(finished.error().what == "2 of 3 lines of --loss_file could not be written");
}

TEST_CASE("without a file nothing is written, and a place that takes none is an error at the start") {
  LossLog none = opened("");
  CHECK(none.begin(0));
  none.write(1, 1);
  CHECK(none.finish());
  const auto missing = LossLog::open("/nowhere/losses", true);
  REQUIRE_FALSE(missing);
  CHECK(to_string(missing.error()) == "/nowhere/losses: --loss_file: open: No such file or directory");
}

}  // namespace trainer_loss_log_test
