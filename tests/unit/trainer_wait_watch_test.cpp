// Who is late to a collective: what each rank asks of the store when, and the words. Several ranks share a store that
// is a map here, and the time is a number.
#include "trainer/wait_watch.hpp"

#include <map>

#include "tests/support/catch.hpp"

namespace trainer_wait_watch_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;
using namespace std::chrono_literals;

namespace {

using Watch = WaitWatch;
constexpr Watch::Time kStart{};
const Error kNoStore = make_error(Errc::timed_out, "the store does not answer");

std::vector<std::string> hosts(std::size_t ranks) {
  std::vector<std::string> names;
  for (std::size_t rank = 0; rank < ranks; ++rank) names.push_back("h" + std::to_string(rank));
  return names;
}

template <class Action>
bool is(const Watch::Action& action) {
  return std::holds_alternative<Action>(action);
}

struct Store {
  std::map<std::uint64_t, std::uint64_t> waits;  // the call of each rank
  std::map<std::uint64_t, std::string> answers;
  std::size_t requests = 0, bytes_read = 0;
  std::optional<Error> failure;

  bool take(std::size_t, Watch&, Watch::Rest, Watch::Time) { return false; }
  bool take(std::size_t rank, Watch& watch, const Watch::Note& note, Watch::Time now) {
    if (asked()) return watch.on_noted(note.call, *failure, now);
    waits[rank] = note.call;
    return watch.on_noted(note.call, ok, now);
  }
  bool take(std::size_t, Watch& watch, const Watch::Hear& hear, Watch::Time) {
    if (asked()) return watch.on_heard(*failure);
    const auto [entry, created] = answers.try_emplace(hear.call);
    bytes_read += entry->second.size();
    return watch.on_heard(Watch::Heard{.created = created, .answer = entry->second});
  }
  bool take(std::size_t, Watch& watch, Watch::Ask, Watch::Time) {
    if (asked()) return watch.on_asked(*failure);
    std::vector<Watch::Waiter> waiters;
    for (const auto& [rank, call] : waits) waiters.push_back({rank, call});
    bytes_read += 8 * waiters.size();
    return watch.on_asked(waiters);
  }
  bool take(std::size_t, Watch& watch, const Watch::Tell& tell, Watch::Time) {
    if (asked()) return watch.on_told(*failure);
    answers[tell.call] = tell.answer;
    return watch.on_told(ok);
  }
  bool take(std::size_t rank, Watch&, const Watch::Forget& forget, Watch::Time) {
    asked();
    waits.erase(rank);
    if (forget.answer) answers.erase(forget.call);
    return true;
  }

 private:
  bool asked() {
    ++requests;
    return failure.has_value();
  }
};

/// Ranks whose clocks agree.
struct Job {
  Store store;
  std::vector<std::unique_ptr<Watch>> ranks;
  Watch::Duration time{0};

  Job(std::size_t count, Watch::Duration limit) {
    for (std::size_t rank = 0; rank < count; ++rank) {
      ranks.push_back(std::make_unique<Watch>(static_cast<std::uint32_t>(rank), hosts(count), limit));
    }
  }
  Watch& operator[](std::size_t rank) { return *ranks[rank]; }
  Watch::Time now() const { return kStart + time; }
  void until(Watch::Duration end) {
    const Watch::Duration tick = ranks.front()->tick();
    for (; time + tick <= end; time += tick) {
      for (std::size_t rank = 0; rank < ranks.size(); ++rank) tick_of(rank, now() + tick);
    }
    time = end;
  }
  void tick_of(std::size_t rank, Watch::Time at) {
    Watch& watch = *ranks[rank];
    while (std::visit([&](const auto& action) { return store.take(rank, watch, action, at); }, watch.on_tick(at))) {
    }
  }
  void enter(std::initializer_list<std::size_t> who) {
    for (const std::size_t rank : who) ranks[rank]->on_enter(now());
  }
};

}  // namespace

TEST_CASE("a rank that does not come is named by all that wait, and only it") {
  Job job(3, 100s);
  job.enter({0, 2});
  job.until(99s);
  CHECK(job[0].on_leave() == "rank 1 on h1 had not come to it within 79 s");
  CHECK(job[2].on_leave() == "rank 1 on h1 had not come to it within 79 s");
  CHECK(job[1].on_leave().empty());
}

TEST_CASE("where all ranks wait that is said") {
  Job job(2, 100s);
  job.enter({0, 1});
  job.until(99s);
  CHECK(job[0].on_leave() == "all ranks wait in it");
  CHECK(job[1].on_leave() == "all ranks wait in it");
}

TEST_CASE("of many ranks that do not come four are named, and a long limit is a whole number of seconds") {
  Job job(8, 1800s);
  job.enter({3});
  job.until(1799s);
  CHECK(job[3].on_leave() == "ranks 0 on h0, 1 on h1, 2 on h2, 4 on h4 and 3 more had not come to it within 1739 s");
}

TEST_CASE("before the limit is near nobody is asked, and a wait that is not long costs nothing") {
  Job job(2, 1800s);
  job.enter({0, 1});
  job.until(29s);
  CHECK(job.store.requests == 0);
  job.until(1769s);
  CHECK(job.store.requests == 2);
  CHECK(job[0].on_leave().empty());
}

TEST_CASE("a rank that waits in the next call or in the last one is not late") {
  // What rank 0 waited for came to it before rank 1 stood still, and to rank 2 it did not.
  Job job(3, 100s);
  job.enter({0, 2});
  job[0].on_leave();
  job.enter({0});
  job.until(99s);
  CHECK(job[0].on_leave() == "rank 1 on h1 had not come to it within 79 s");
  CHECK(job[2].on_leave() == "rank 1 on h1 had not come to it within 79 s");
  // Nobody stands still: as ranks that differ in what they call.
  Job apart(2, 100s);
  apart.enter({0, 1});
  apart[0].on_leave();
  apart.enter({0});
  apart.until(99s);
  CHECK(apart[0].on_leave() == "all ranks wait, not all in the same collective");
  CHECK(apart[1].on_leave() == "all ranks wait, not all in the same collective");
}

TEST_CASE("a rank that has waited long before is late to the next call") {
  Job job(2, 100s);
  job.enter({0, 1});
  job.until(50s);
  CHECK(job.store.waits.size() == 2);
  job[0].on_leave();
  job[1].on_leave();
  job.until(60s);
  job.enter({0});
  job.until(159s);
  CHECK(job[0].on_leave() == "rank 1 on h1 had not come to it within 79 s");
}

TEST_CASE("a long wait that ends well is one note of each rank, and one removal") {
  Job job(64, 1800s);
  for (auto& rank : job.ranks) rank->on_enter(job.now());
  job.until(60s);
  CHECK(job.store.waits.size() == 64);
  for (auto& rank : job.ranks) rank->on_leave();
  job.until(65s);
  CHECK(job.store.requests == 64 + 64);
  CHECK(job.store.waits.empty());
}

TEST_CASE("what n ranks ask is n times a short request, and one of them reads who waits") {
  constexpr std::size_t kRanks = 512;
  Job job(kRanks, 100s);
  for (std::size_t rank = 1; rank < kRanks; ++rank) job[rank].on_enter(job.now());
  job.until(99s);
  const std::string answer = "rank 0 on h0 had not come to it within 79 s";
  for (std::size_t rank = 1; rank < kRanks; ++rank) REQUIRE(job[rank].on_leave() == answer);
  CHECK(job.store.requests < 4 * kRanks);
  CHECK(job.store.bytes_read < 8 * kRanks + kRanks * answer.size());
}

TEST_CASE("a note that fails is made again, and who waits is not named") {
  Job job(3, 100s);
  job.enter({0, 2});
  job.store.failure = kNoStore;
  job.until(15s);
  CHECK(job.store.requests == 2);  // and not one with every tick
  job.store.failure.reset();
  job.until(99s);
  CHECK(job[0].on_leave() == "rank 1 on h1 had not come to it within 79 s");
  // The next call's note comes to the store although its answer is lost, and the call ends: the key still goes.
  job[0].on_leave();
  job[2].on_leave();
  job.enter({0});
  job.until(105s);
  const auto at = job.now() + 5s;
  const auto note = std::get<Watch::Note>(job[0].on_tick(at));
  job.store.waits[0] = note.call;
  CHECK_FALSE(job[0].on_noted(note.call, kNoStore, at));
  job[0].on_leave();
  job.tick_of(0, at + 1s);
  CHECK(job.store.waits.empty());
}

TEST_CASE("whatever request fails is made again before the limit") {
  for (const Watch::Duration back : {91s, 93s, 96s}) {
    Job job(2, 100s);
    job.enter({0});
    job.until(89s);
    job.store.failure = kNoStore;
    job.until(back);
    job.store.failure.reset();
    job.until(99s);
    CHECK(job[0].on_leave() == "rank 1 on h1 had not come to it within 79 s");
  }
  // The answer is there, and cannot be written at first.
  Job job(2, 100s);
  job.enter({0});
  job.until(89s);
  REQUIRE(is<Watch::Hear>(job[0].on_tick(job.now() + 1s)));
  CHECK(job[0].on_heard(Watch::Heard{.created = true, .answer = {}}));
  CHECK(job[0].on_asked(std::vector<Watch::Waiter>{{0, 1}}));
  REQUIRE(is<Watch::Tell>(job[0].on_tick(job.now() + 1s)));
  CHECK_FALSE(job[0].on_told(kNoStore));
  REQUIRE(is<Watch::Tell>(job[0].on_tick(job.now() + 2s)));
  CHECK_FALSE(job[0].on_told(ok));
  CHECK(is<Watch::Rest>(job[0].on_tick(job.now() + 3s)));
  CHECK(job[0].on_leave() == "rank 1 on h1 had not come to it within 79 s");
}

TEST_CASE("a launcher that is too old is asked once") {
  Job job(2, 100s);
  job.store.failure = make_error(Errc::unsupported, "the launcher is older");
  job.enter({0});
  job.until(99s);
  CHECK(job.store.requests == 1);
  CHECK(job[0].is_useless());
  CHECK_FALSE(job[1].is_useless());
  CHECK(job[0].on_leave().empty());
}

TEST_CASE("a short limit that the backward pass has used up does not make a healthy rank late") {
  Job job(3, 10s);
  for (auto& rank : job.ranks) rank->on_start(job.now());
  job.until(6000ms);
  job.enter({0});
  job.until(6600ms);
  job.enter({1});
  job.until(9800ms);
  CHECK(job[0].on_leave() == "rank 2 on h2 had not come to it within 7.8 s");
  CHECK(job[1].on_leave() == "rank 2 on h2 had not come to it within 7.8 s");
  // One that comes shortly before it is asked.
  Job close(2, 10s);
  for (auto& rank : close.ranks) rank->on_start(close.now());
  close.until(6000ms);
  close.enter({0});
  close.until(8700ms);
  close.enter({1});
  close.until(9800ms);
  CHECK(close[0].on_leave() == "all ranks wait in it");
}

TEST_CASE("a call that ends while the store is asked says nothing of the next one, and leaves no key") {
  Job job(2, 100s);
  job.enter({0});
  job.until(89s);
  const Watch::Action hear = job[0].on_tick(job.now() + 1s);
  REQUIRE(is<Watch::Hear>(hear));
  CHECK(job[0].on_heard(Watch::Heard{.created = true, .answer = {}}));
  job.store.answers.emplace(std::get<Watch::Hear>(hear).call, "");
  REQUIRE(is<Watch::Ask>(job[0].on_tick(job.now() + 1s)));
  CHECK(job[0].on_leave().empty());
  job.enter({0});
  CHECK(job[0].on_asked(std::vector<Watch::Waiter>{{0, 1}}));
  CHECK(job[0].on_leave().empty());
  job.until(91s);
  CHECK(job.store.waits.empty());
  CHECK(job.store.answers.empty());
}

TEST_CASE("a note that comes to the store when its call is over is removed") {
  Job job(2, 100s);
  job.enter({0});
  const auto at = job.now() + 10s;
  const auto slow = std::get<Watch::Note>(job[0].on_tick(at));
  job[0].on_leave();
  job.store.take(0, job[0], slow, at + 1s);
  CHECK(job.store.waits.size() == 1);
  job.tick_of(0, at + 1s);
  CHECK(job.store.waits.empty());
}

TEST_CASE("ranks that the job does not have are nobody's") {
  Job job(2, 100s);
  job.enter({0});
  job.store.waits[7] = 1;
  job.until(99s);
  CHECK(job[0].on_leave() == "rank 1 on h1 had not come to it within 79 s");
}

}  // namespace trainer_wait_watch_test
