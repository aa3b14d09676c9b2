// The communication thread: jobs in order, the first failure for ever after.
#include "trainer/worker.hpp"

#include <future>
#include <vector>

#include "tests/support/catch.hpp"

namespace trainer_worker_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

TEST_CASE("jobs run one after another, in the order they were started, on another thread") {
  std::vector<int> order;
  std::thread::id thread;
  Worker worker;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(worker.start([&order, &thread, i]() -> Result<void> {
      order.push_back(i);
      thread = std::this_thread::get_id();
      return ok;
    }));
  }
  REQUIRE(worker.wait());
  CHECK(order.size() == 100);
  CHECK(std::is_sorted(order.begin(), order.end()));
  CHECK(thread != std::this_thread::get_id());
}

TEST_CASE("starting a job does not wait for it") {
  std::promise<void> go;
  Worker worker;
  REQUIRE(worker.start([&]() -> Result<void> {
    go.get_future().wait();
    return ok;
  }));
  go.set_value();
  CHECK(worker.wait());
}

TEST_CASE("the first failure drops the jobs behind it and is the answer from then on") {
  std::promise<void> go;
  bool ran = false;
  Worker worker;
  REQUIRE(worker.start([&]() -> Result<void> {
    go.get_future().wait();
    return make_error(Errc::closed, "first");
  }));
  REQUIRE(worker.start([&]() -> Result<void> {
    ran = true;
    return make_error(Errc::closed, "second");
  }));
  go.set_value();
  const auto done = worker.wait();
  REQUIRE_FALSE(done);
  CHECK(done.error().what == "first");
  CHECK_FALSE(ran);
  const auto later = worker.start([]() -> Result<void> { return ok; });
  REQUIRE_FALSE(later);
  CHECK(later.error().what == "first");
  CHECK(worker.wait().error().what == "first");
}

TEST_CASE("waiting for nothing returns at once") {
  Worker worker;
  CHECK(worker.wait());
}

}  // namespace trainer_worker_test
