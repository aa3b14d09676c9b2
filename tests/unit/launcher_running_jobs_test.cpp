// Which job a word means, and what is said of one that does not run, on a real file system with real locks.
#include "launcher/running_jobs.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "launcher/run_directories.hpp"
#include "rendezvous/base/own_addresses.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace launcher_running_jobs_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::test::TemporaryDirectory;
namespace fs = std::filesystem;

namespace {

const std::string kOne = "20261124-101530-4f2a0b1c";
const std::string kTwo = "20261124-101531-4f2a0b1d";

/// A run as its llmlaunch leaves it, which lives as long as the object.
struct FakeRun {
  FakeRun(const TemporaryDirectory& top, const std::string& id, const std::string& head = own_host_name())
      : directory(*make_run_directory(top.str(), id)) {
    pass.job_id = id;
    pass.head = head;
    pass.pid = 1;
    pass.address = "127.0.0.1";
    pass.port = 1;
    pass.token = std::string(64, '0');
    record("null");
  }
  void record(const std::string& ended) const {
    std::ofstream(directory.path + "/job.json")
        << R"({"job_id": ")" << pass.job_id << R"(", "llmlaunch_version": "0.1.0", "exit_status": 3, "ended_at": )"
        << ended << "}";
  }
  void serve() { placed = std::move(*PlacedPass::place(directory.path, pass)); }

  RunDirectory directory;
  ObserverPass pass;
  PlacedPass placed;
};

Error why(const TemporaryDirectory& top, const std::string& name) {
  const auto job = find_running_job(top.str(), name);
  REQUIRE_FALSE(job);
  return job.error();
}

}  // namespace

TEST_CASE("a job is meant by its id, by its path, and by latest") {
  const TemporaryDirectory top;
  FakeRun one(top, kOne), two(top, kTwo);
  one.serve();
  two.serve();
  fs::last_write_time(one.directory.path + "/rendezvous.json",
                      fs::last_write_time(two.directory.path + "/rendezvous.json") - std::chrono::seconds(1));
  CHECK(running_jobs(top.str()) == std::vector<std::string>{kTwo, kOne});
  CHECK(find_running_job(top.str(), kOne)->pass.job_id == kOne);
  CHECK(find_running_job(top.str(), "latest")->pass.job_id == kTwo);
  CHECK(find_running_job("/nowhere", one.directory.path)->directory == one.directory.path);
  CHECK(find_running_job("/nowhere", one.directory.path + "/")->pass.job_id == kOne);
  two.placed.withdraw();
  CHECK(find_running_job(top.str(), "latest")->pass.job_id == kOne);
}

TEST_CASE("another user's job is not the latest, and not named as one that runs") {
  if (::geteuid() != 0) return;  // who cannot give files away cannot make another's
  const TemporaryDirectory top;
  FakeRun ours(top, kOne), theirs(top, kTwo);
  ours.serve();
  theirs.serve();
  REQUIRE(::chown(theirs.directory.path.c_str(), 65534, static_cast<gid_t>(-1)) == 0);
  fs::last_write_time(ours.directory.path + "/rendezvous.json",
                      fs::last_write_time(theirs.directory.path + "/rendezvous.json") - std::chrono::seconds(1));
  CHECK(running_jobs(top.str()) == std::vector<std::string>{kOne});
  CHECK(find_running_job(top.str(), "latest")->pass.job_id == kOne);
  CHECK(why(top, kTwo).what == theirs.directory.path + " belongs to user 65534, and this is user 0");
  ours.placed.withdraw();
  CHECK(why(top, "latest").what == "no job runs below " + top.str());
}

TEST_CASE("a name that is no job's is answered with those that run") {
  const TemporaryDirectory top;
  const auto nowhere = find_running_job(top.str() + "/logs", "latest");
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().what == "no job can be looked for below " + top.str() + "/logs: No such file or directory");
  CHECK(why(top, "latest").what == "no job runs below " + top.str());
  CHECK(why(top, kOne).hint == "no job runs below " + top.str() + "; --log-dir names another place");
  FakeRun two(top, kTwo);
  two.serve();
  const Error error = why(top, kOne);
  CHECK(error.code == Errc::unreachable);
  CHECK(error.what == "there is no job " + kOne + " below " + top.str());
  CHECK(error.hint == "running below " + top.str() + ": " + kTwo);
  CHECK(why(top, "./" + kOne).what == "there is no run directory ./" + kOne);
  fs::create_directory(top.path / "else");
  CHECK(why(top, "else").what == top.str() + "/else is no run directory");
}

TEST_CASE("what has become of a job is said") {
  const TemporaryDirectory top;
  {
    FakeRun one(top, kOne);
    CHECK(run_state(one.directory.path) == RunState::no_pass);
    CHECK(why(top, kOne).what ==
          "job " + kOne + " serves no store now: it begins or ends at this moment, or is an exec");
    one.serve();
    CHECK(run_state(one.directory.path) == RunState::serves);
    one.record(R"("2026-11-24T10:15:30.000Z")");
    CHECK(run_state(one.directory.path) == RunState::ended);
    CHECK(why(top, kOne).what == "job " + kOne + " has ended with status 3 at 2026-11-24T10:15:30.000Z");
    one.record("null");
    // Killed: the pass stays, and nobody holds the directory.
    one.placed = PlacedPass();
    std::ofstream(one.directory.path + "/rendezvous.json") << observer_pass_text(one.pass);
    ::chmod((one.directory.path + "/rendezvous.json").c_str(), 0600);
  }
  CHECK(run_state(top.str() + "/" + kOne) == RunState::died);
  CHECK(why(top, kOne).what == "job " + kOne +
                                   " no longer runs: its llmlaunch ended without a word (SIGKILL, or the machine went "
                                   "down)");
  CHECK(running_jobs(top.str()).empty());
  CHECK(run_state(top.str()) == RunState::no_run);
}

TEST_CASE("a job of another machine is named with that machine") {
  const TemporaryDirectory top;
  FakeRun one(top, kOne, "gpu07");
  one.serve();
  const Error error = why(top, kOne);
  CHECK(error.what == "job " + kOne + " is run by llmlaunch on gpu07, and this is " + own_host_name());
  CHECK(error.hint == "look into it there: ssh gpu07 llmlaunch store …");
}

}  // namespace launcher_running_jobs_test
