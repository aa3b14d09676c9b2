// A store followed over the generations of a job: real servers, a real run directory, no ranks.
#include "launcher/store_watch.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <mutex>

#include "launcher/run_directories.hpp"
#include "rendezvous/base/own_addresses.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/rendezvous_fixture.hpp"
#include "tests/support/temporary_directory.hpp"

namespace launcher_store_watch_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::test::TemporaryDirectory;
using rendezvous::KeyChange;
using rendezvous::Keyspace;
using rendezvous::ServedRendezvous;

namespace {

const std::string kJob = "20261124-101530-4f2a0b1c";

/// A job whose generations come and go as the test says, and a watch of all its keys on a thread of its own.
struct WatchedJob {
  WatchedJob() : directory(*make_run_directory(top.str(), kJob)) {
    std::ofstream(directory.path + "/job.json")
        << R"({"job_id": ")" << kJob << R"(", "llmlaunch_version": "0.1.0", "ended_at": null})";
  }

  void serve(std::uint32_t generation, bool tcpstore = false) {
    rendezvous::ServerOptions options = ServedRendezvous::world_of(1);
    options.tcpstore = tcpstore;
    options.job_id = kJob;
    options.generation = Generation{generation};
    token = options.token;
    served = std::make_unique<ServedRendezvous>(std::move(options));
    ObserverPass pass;
    pass.job_id = kJob;
    pass.generation = Generation{generation};
    pass.head = own_host_name();
    pass.pid = ::getpid();
    pass.address = "127.0.0.1";
    pass.port = served->port();
    pass.token = token;
    placed = std::move(*PlacedPass::place(directory.path, pass));
  }
  void end_generation(const std::string& reason) {
    served->on_thread([&] { served->server().end_generation(reason); });
  }
  void set(const std::string& key) {
    auto view = StoreView::open(*find_running_job(top.str(), kJob));
    REQUIRE(view);
    REQUIRE(view->client().put(key, {}));
  }
  // What a network may do: the connections to the rendezvous end, of which this process has the clients' sides, too.
  void cut() const {
    int cut = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      const int descriptor = std::stoi(entry.path().filename());
      sockaddr_in peer{};
      socklen_t size = sizeof peer;
      if (::getpeername(descriptor, reinterpret_cast<sockaddr*>(&peer), &size) != 0 || peer.sin_family != AF_INET ||
          ntohs(peer.sin_port) != served->port())
        continue;
      REQUIRE(::shutdown(descriptor, SHUT_RDWR) == 0);
      ++cut;
    }
    REQUIRE(cut == 1);
  }
  std::future<Result<void>> follow() {
    watch.on_change = [this](Keyspace keyspace, const KeyChange& change) {
      note(std::string(rendezvous::keyspace_name(keyspace)) + " " + change.key);
      return change.key != "enough";
    };
    watch.on_news = [this](const std::string& news) { note(news); };
    RunningJob job = *find_running_job(top.str(), kJob);
    over = false;
    return std::async(std::launch::async, [this, job] {
      auto result = follow_store(job, watch);
      const std::scoped_lock lock(mutex);
      over = true;
      added.notify_all();
      return result;
    });
  }
  void note(std::string text) {
    const std::scoped_lock lock(mutex);
    lines.push_back(std::move(text));
    added.notify_all();
  }
  void wait_for(const std::string& text) {
    std::unique_lock lock(mutex);
    const auto said = [&] {
      for (const auto& line : lines)
        if (line.find(text) != std::string::npos) return true;
      return false;
    };
    added.wait(lock, [&] { return said() || over; });
    INFO(text);
    REQUIRE(said());
  }

  TemporaryDirectory top;
  RunDirectory directory;
  std::string token;
  std::unique_ptr<ServedRendezvous> served;
  PlacedPass placed;
  StoreWatch watch;
  std::mutex mutex;
  std::condition_variable added;
  std::vector<std::string> lines;
  bool over = false;  // the watch has ended
};

}  // namespace

TEST_CASE("a watch follows a job into its next generation, and ends well with the job") {
  WatchedJob job;
  job.serve(0);
  auto following = job.follow();
  job.wait_for("watching all keys of job " + kJob + ", generation 0");
  job.set("a");
  job.wait_for("native a");
  job.end_generation("rank 3 failed");
  job.wait_for("generation 0 has ended: rank 3 failed");
  job.serve(1);
  job.wait_for("watching all keys of job " + kJob + ", generation 1");
  job.set("b");
  job.wait_for("native b");
  job.placed.withdraw();
  job.served.reset();
  CHECK(following.get());
  CHECK(job.lines.back() == "job " + kJob + " has ended");
  CHECK(job.lines.size() == 6);
}

TEST_CASE("a watch ends when its reader wants no more, or has gone") {
  WatchedJob job;
  job.serve(0);
  auto following = job.follow();
  job.wait_for("watching");
  job.set("enough");
  CHECK(following.get());
  CHECK(job.lines.back() == "native enough");

  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  job.lines.clear();
  job.watch.reader = ends[1];
  auto piped = job.follow();
  job.wait_for("watching");
  ::close(ends[0]);
  CHECK(piped.get());

  // Also while it waits for the next generation.
  REQUIRE(::pipe(ends) == 0);
  job.lines.clear();
  ::close(job.watch.reader);
  job.watch.reader = ends[1];
  auto waiting = job.follow();
  job.wait_for("watching");
  job.end_generation("done");
  job.wait_for("has ended");
  ::close(ends[0]);
  CHECK(waiting.get());
  ::close(ends[1]);
}

TEST_CASE("a job whose head has died ends its watch with that") {
  WatchedJob job;
  job.serve(0);
  auto following = job.follow();
  job.wait_for("watching");
  job.directory.held.reset();  // nobody holds it any more
  job.served.reset();
  const auto result = following.get();
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Errc::unreachable);
  CHECK(result.error().what.find("job " + kJob + " ended without a word: its llmlaunch, process ") == 0);
}

TEST_CASE("a watch that loses its connection while the job goes on ends with that, and not as the job") {
  WatchedJob job;
  job.serve(0);
  auto following = job.follow();
  job.wait_for("watching");
  job.set("a");
  job.wait_for("native a");
  job.cut();
  const auto result = following.get();
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Errc::unreachable);
  CHECK(to_string(result.error()).find("rendezvous " + job.served->address() + ": connection lost: ") == 0);
  CHECK(result.error().what.find("; changes since then are lost") != std::string::npos);
  CHECK(result.error().hint == "the job goes on: watch again, and llmlaunch store list shows what there is");
  CHECK(job.lines.back() == "native a");

  job.lines.clear();
  auto again = job.follow();
  job.wait_for("watching");
  job.set("b");
  job.wait_for("native b");
  job.placed.withdraw();
  job.served.reset();
  CHECK(again.get());
}

TEST_CASE("who comes when the generation has ended waits for the next one") {
  WatchedJob job;
  job.serve(0);
  job.end_generation("rank 0 failed");
  auto following = job.follow();
  job.serve(1);
  job.wait_for("watching all keys of job " + kJob + ", generation 1");
  job.placed.withdraw();
  job.served.reset();
  CHECK(following.get());
}

TEST_CASE("a key is awaited in both stores, and found in either") {
  WatchedJob job;
  job.serve(0, true);
  auto view = StoreView::open(*find_running_job(job.top.str(), kJob));
  REQUIRE(view);
  const auto soon = [] { return std::chrono::steady_clock::now() + std::chrono::seconds(60); };
  for (const auto keyspace : {Keyspace::native, Keyspace::pytorch}) {
    const std::string key(rendezvous::keyspace_name(keyspace));
    auto later = std::async(std::launch::async, [&] { return view->await(key, {}, soon()); });
    job.served->log().wait_for(LogLevel::debug, "waiting for key '" + key + "' of job " + kJob);  // it was not there
    REQUIRE(view->client().put("other", {}, keyspace));
    REQUIRE(view->client().put(key, as_bytes("v"), keyspace));
    const auto found = later.get();
    REQUIRE(found);
    REQUIRE(found->has_value());
    CHECK((*found)->keyspace == keyspace);
    CHECK(as_text((*found)->value) == "v");
    const auto there = view->await(key, {}, soon());
    REQUIRE(there);
    REQUIRE(there->has_value());
    CHECK((*there)->keyspace == keyspace);
  }
  CHECK_FALSE((*view->await("no", {}, std::chrono::steady_clock::now())).has_value());
  CHECK_FALSE((*view->await("native", {false, true}, std::chrono::steady_clock::now())).has_value());
  CHECK(view->list("", {})->size() == 4);
}

TEST_CASE("where PyTorch's store is not served, llmlaunch's own is looked at, awaited and listed alone") {
  WatchedJob job;
  job.serve(0);
  auto view = StoreView::open(*find_running_job(job.top.str(), kJob));
  REQUIRE(view);
  REQUIRE(view->client().put("k", as_bytes("v")));
  const auto now = std::chrono::steady_clock::now();
  CHECK((*view->look("k", {})).has_value());
  CHECK_FALSE((*view->look("no", {})).has_value());
  CHECK_FALSE((*view->await("no", {}, now)).has_value());
  CHECK(view->list("", {})->size() == 1);
  CHECK(view->look("k", {false, true}).error().code == Errc::unsupported);
  CHECK(view->await("k", {false, true}, now).error().code == Errc::unsupported);
  CHECK(view->list("", {false, true}).error().code == Errc::unsupported);
}

TEST_CASE("only a store that is not served is absent, and only beside the other one") {
  const auto said = [](Errc code) { return make_error(code, "x"); };
  CHECK(is_absent_store(said(Errc::unsupported), Keyspace::pytorch, {}));
  CHECK_FALSE(is_absent_store(said(Errc::unsupported), Keyspace::pytorch, {false, true}));
  CHECK_FALSE(is_absent_store(said(Errc::unsupported), Keyspace::native, {}));
  CHECK_FALSE(is_absent_store(said(Errc::invalid_argument), Keyspace::pytorch, {}));  // a queue
}

TEST_CASE("a job that died or ended meanwhile is said so instead of a refused connection") {
  WatchedJob job;
  job.serve(0);
  const RunningJob found = *find_running_job(job.top.str(), kJob);
  job.served.reset();
  job.placed.withdraw();
  std::ofstream(job.directory.path + "/job.json")
      << R"({"job_id": ")" << kJob << R"(", "llmlaunch_version": "0.1.0", "ended_at": "now"})";
  CHECK(StoreView::open(found).error().what == "job " + kJob + " ended meanwhile");
  StoreWatch watch;
  std::string news;
  watch.on_news = [&news](const std::string& said) { news += said; };
  CHECK(follow_store(found, watch));
  CHECK(news == "job " + kJob + " has ended");
}

}  // namespace launcher_store_watch_test
