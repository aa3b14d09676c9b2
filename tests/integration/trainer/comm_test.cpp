// Gloo's communicator and store over a real rendezvous: several ranks as threads of this process, each with its own
// connections and memory, as separate processes would have.
#include <gloo/common/error.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <numeric>
#include <random>
#include <thread>

#include "rendezvous/base/log.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/file_size_limit.hpp"
#include "tests/support/gathering_comm.hpp"
#include "tests/support/rank_processes.hpp"
#include "trainer/gloo_address.hpp"
#include "trainer/gloo_comm.hpp"
#include "trainer/gloo_store.hpp"
#include "trainer/introduction.hpp"
#include "trainer/late_ranks.hpp"

namespace comm_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;
using namespace std::chrono_literals;

namespace {

rendezvous::ClientOptions client_options(const test::ServedRendezvous& served, std::size_t rank,
                                         std::size_t world_size) {
  rendezvous::ClientOptions options;
  options.address = "127.0.0.1";
  options.port = served.port();
  options.job_id = served.job_id();
  options.token = served.token();
  options.rank = Rank{static_cast<std::uint32_t>(rank)};
  options.world_size = static_cast<std::uint32_t>(world_size);
  options.host = "host" + std::to_string(rank / 2);
  return options;
}

std::vector<std::string> hosts_of(std::size_t world_size) {
  std::vector<std::string> hosts;
  for (std::size_t rank = 0; rank < world_size; ++rank) hosts.push_back("host" + std::to_string(rank / 2));
  return hosts;
}

using Client = std::unique_ptr<rendezvous::Client>;

/// Every rank runs `body` on a thread of its own; what each returns, by rank. No assertion may stand in `body`.
template <class Answer>
std::vector<Answer> on_ranks(const test::ServedRendezvous& served, std::size_t world_size,
                             const std::function<Answer(rendezvous::Client&)>& body) {
  std::vector<std::future<Answer>> running;
  for (std::size_t rank = 0; rank < world_size; ++rank) {
    running.push_back(std::async(std::launch::async, [&, rank] {
      auto client = rendezvous::Client::join(client_options(served, rank, world_size));
      if (!client) throw std::runtime_error(to_string(client.error()));
      return body(**client);
    }));
  }
  std::vector<Answer> answers;
  for (auto& one : running) answers.push_back(one.get());
  return answers;
}

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(to_string(result.error()));
  return std::move(*result);
}
void must(const Result<void>& result) {
  if (!result) throw std::runtime_error(to_string(result.error()));
}

/// Of one rank alone: all do without.
GlooOptions by_tcp() {
  GlooOptions options;
  options.share_memory = false;
  return options;
}

/// What is logged while this is there; read it when no rank runs any more.
class LogLines {
 public:
  LogLines() {
    set_log_sink([this](LogLevel, std::string_view line) { lines_.emplace_back(line); });
  }
  ~LogLines() { set_log_sink({}); }
  LogLines(const LogLines&) = delete;
  LogLines& operator=(const LogLines&) = delete;
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::vector<std::string> lines_;
};

/// A world of ranks that all say what this one says, or what `change` makes of it.
class EchoComm final : public GatheringComm {
 public:
  explicit EchoComm(std::uint32_t world_size, std::function<void(Introduction&)> change = {})
      : world_size_(world_size), change_(std::move(change)) {}
  std::uint32_t world_size() const override { return world_size_; }
  Result<std::vector<Bytes>> all_gather(ByteView mine) override {
    std::vector<Bytes> all(world_size_, Bytes(mine.begin(), mine.end()));
    if (gathers_++ == 0 && change_) {
      Introduction other;
      std::memcpy(&other, all.back().data(), sizeof other);
      change_(other);
      std::memcpy(all.back().data(), &other, sizeof other);
    }
    return all;
  }
  int gathers() const { return gathers_; }

 private:
  std::uint32_t world_size_;
  std::function<void(Introduction&)> change_;
  int gathers_ = 0;
};

std::string why_not(EchoComm& comm) {
  const auto memory = share_memory(comm, must(introduce(comm, "alpha", true)), test::kPatience);
  return memory && !memory->group ? memory->why_not : "no reason";
}

std::vector<char> chars(std::string_view text) {
  return {text.begin(), text.end()};
}

}  // namespace

TEST_CASE("every collective gives every rank the right numbers") {
  constexpr std::size_t kRanks = 4;
  // Any rank, the first or another, may keep all from sharing memory.
  const std::size_t tcp_rank = GENERATE(0U, 2U, 99U);
  const LogLines log;
  const std::string description = tcp_rank < kRanks ? "gloo on 127.0.0.1" : "shared memory, gloo on 127.0.0.1";
  const test::ServedRendezvous served(hosts_of(kRanks));
  const auto answers = on_ranks<std::string>(served, kRanks, [&](rendezvous::Client& client) -> std::string {
    const std::size_t own_rank = number(client.options().rank);
    const auto comm = must(make_gloo_comm(client, own_rank == tcp_rank ? by_tcp() : GlooOptions{}));
    if (comm->rank() != own_rank || comm->world_size() != kRanks) return "wrong world";
    if (comm->description() != description) return comm->description();
    const auto rank = static_cast<float>(comm->rank());

    // Two reductions in flight, finished by one wait; the second smaller than the number of ranks.
    std::vector<float> large(100'000);
    std::iota(large.begin(), large.end(), rank);
    std::vector<float> small = {rank * 4};
    must(comm->start_all_reduce_mean(large));
    must(comm->start_all_reduce_mean(small));
    must(comm->wait());
    for (std::size_t i = 0; i < large.size(); ++i) {
      if (large[i] != static_cast<float>(i) + 1.5F) return "wrong mean of large";
    }
    if (small[0] != 6) return "wrong mean of small";

    std::vector<float> sent(1'000, rank + 7);
    must(comm->broadcast(sent));
    if (sent != std::vector<float>(1'000, 7)) return "wrong broadcast";

    const std::string mine = "rank " + std::to_string(comm->rank());
    const auto all = must(comm->all_gather(as_bytes(mine)));
    for (std::size_t other = 0; other < kRanks; ++other) {
      if (as_text(all.at(other)) != "rank " + std::to_string(other)) return "wrong gather";
    }
    must(comm->barrier());
    must(comm->finish());
    return "right";
  });
  CHECK(answers == std::vector<std::string>(kRanks, "right"));
  CHECK(log.lines().empty());
}

TEST_CASE("an empty gather and a world of one are no special case for the caller") {
  const test::ServedRendezvous served(hosts_of(2));
  const auto sizes = on_ranks<std::size_t>(served, 2, [](rendezvous::Client& client) {
    const auto comm = must(make_gloo_comm(client, {}));
    const std::size_t count = must(comm->all_gather({})).size();
    must(comm->finish());
    return count;
  });
  CHECK(sizes == std::vector<std::size_t>{2, 2});
  LocalComm alone;
  std::vector<float> values = {3};
  CHECK(alone.start_all_reduce_mean(values));
  CHECK(alone.wait());
  CHECK(values[0] == 3);
  CHECK(as_text(alone.all_gather(as_bytes("x"))->at(0)) == "x");
}

TEST_CASE("two ranks get the same bits over TCP and through memory") {
  std::vector<std::vector<std::vector<float>>> answers;
  for (const bool share_memory : {true, false}) {
    const test::ServedRendezvous served(hosts_of(2));
    answers.push_back(on_ranks<std::vector<float>>(served, 2, [&](rendezvous::Client& client) {
      const auto comm = must(make_gloo_comm(client, share_memory ? GlooOptions{} : by_tcp()));
      std::mt19937 random(comm->rank());
      std::vector<float> values(150'000);
      for (float& value : values) value = static_cast<float>(random()) - 2e9F;
      must(comm->start_all_reduce_mean(values));
      must(comm->wait());
      must(comm->finish());
      return values;
    }));
  }
  CHECK(answers[0] == answers[1]);
  CHECK(answers[0][0] == answers[0][1]);
}

TEST_CASE("where memory is not to be had, after all have called, the ranks stay with TCP, and rank 0 says why") {
  const LogLines log;
  const test::ServedRendezvous served(hosts_of(3));
  const test::FileSizeLimit limit(4096);
  const auto answers = on_ranks<std::string>(served, 3, [&](rendezvous::Client& client) -> std::string {
    const auto comm = must(make_gloo_comm(client, {}));
    std::vector<float> values(1'000, static_cast<float>(comm->rank()));
    must(comm->start_all_reduce_mean(values));
    must(comm->wait());
    must(comm->finish());
    return values == std::vector<float>(1'000, 1) ? comm->description() : "wrong mean";
  });
  CHECK(answers == std::vector<std::string>(3, "gloo on 127.0.0.1"));
  CHECK(log.lines() == std::vector<std::string>{"gradients are averaged over TCP and not in shared memory: rank 0 on "
                                                "host0: fallocate of shared memory: File too large"});
}

TEST_CASE("no more ranks try to share memory than may") {
  EchoComm most(kMaxSharedMemoryRanks);
  CHECK(why_not(most) == "rank 0 on alpha: rank 1 has not called");  // an echo does not
  CHECK(most.gathers() == 3);
  EchoComm more(kMaxSharedMemoryRanks + 1);
  CHECK(why_not(more) == "there are 33 ranks, and 32 share it at most");
  CHECK(more.gathers() == 1);
}

TEST_CASE("ranks of several machines, or one of which is told not to, share no memory without a word and a try") {
  for (const auto& change : std::vector<std::function<void(Introduction&)>>{
           [](Introduction& other) { other.machine[0] ^= 1; }, [](Introduction& other) { other.shares_memory = 0; },
           [](Introduction& other) { ++other.shares_memory; }}) {
    EchoComm comm(2, change);
    CHECK(why_not(comm).empty());
    CHECK(comm.gathers() == 1);
  }
}

TEST_CASE("ranks that average other numbers of values are told of one another") {
  const test::ServedRendezvous served(hosts_of(3));
  const auto answers = on_ranks<std::string>(served, 3, [&](rendezvous::Client& client) -> std::string {
    const auto comm = must(make_gloo_comm(client, {}));
    std::vector<float> values(comm->rank() == 2 ? 11 : 10);
    must(comm->start_all_reduce_mean(values));
    return to_string(comm->wait().error());
  });
  CHECK(answers[0] ==
        "rank 0 on host0: all-reduce of 40 bytes: rank 2 on host1 has 44 bytes\n"
        "   hint: the ranks must run the same program on the same data with the same flags");
  CHECK_THAT(answers[2], Catch::StartsWith("rank 2 on host1: all-reduce of 44 bytes: rank 0 on host0 has 40 bytes"));
}

TEST_CASE("a rank that goes away is named, with its host, by those that wait for it") {
  constexpr std::size_t kRanks = 3;
  const bool share_memory = GENERATE(true, false);
  const test::ServedRendezvous served(hosts_of(kRanks));
  std::promise<void> gone;
  const std::shared_future<void> is_gone = gone.get_future().share();
  const auto answers = on_ranks<std::string>(served, kRanks, [&](rendezvous::Client& client) -> std::string {
    auto comm = must(make_gloo_comm(client, share_memory ? GlooOptions{} : by_tcp()));
    if (comm->rank() == 2) {
      comm.reset();
      gone.set_value();
      return "gone";
    }
    is_gone.wait();
    std::vector<float> values(100'000, 1);
    must(comm->start_all_reduce_mean(values));
    const auto done = comm->wait();
    if (done) return "no error";
    // From now on every call says the same.
    const auto again = comm->barrier();
    if (again || again.error().what != done.error().what) return "another error later";
    return (done.error().code == Errc::closed ? "closed: " : "other: ") + to_string(done.error());
  });
  CHECK(answers[2] == "gone");
  // Whoever fails first misses rank 2; the other may miss both by then.
  for (const std::size_t rank : {0U, 1U}) {
    CHECK_THAT(answers[rank], Catch::StartsWith("closed: rank " + std::to_string(rank) +
                                                " on host0: all-reduce of 400000 bytes: lost rank "));
  }
  CHECK_THAT(answers[0] + answers[1], Catch::Contains("lost rank 2 on host1"));
}

TEST_CASE("a rank that never answers ends the wait after the time limit, also at the end of the job") {
  struct Row {
    std::function<Result<void>(Comm&)> wait;
    const char* said;
  };
  const auto all_reduce = [](Comm& comm) {
    std::vector<float> values(10);
    must(comm.start_all_reduce_mean(values));
    return comm.wait();
  };
  for (const Row& row :
       {Row{all_reduce, "timed out: all-reduce of 40 bytes: not complete within 0.1 s"},
        Row{[](Comm& comm) { return comm.barrier(); }, "timed out: barrier: not complete within 0.1 s"},
        Row{[](Comm& comm) { return comm.finish(); },
            "timed out: the end of the job: not all ranks came within 0.1 s"}}) {
    const test::ServedRendezvous served(hosts_of(2));
    std::promise<void> over;
    const std::shared_future<void> is_over = over.get_future().share();
    const auto answers = on_ranks<std::string>(served, 2, [&](rendezvous::Client& client) -> std::string {
      GlooOptions options;
      options.timeout = 100ms;
      options.connect_timeout = test::kPatience;
      auto comm = make_gloo_comm(client, options);
      if (!comm) return to_string(comm.error());
      if ((*comm)->rank() == 1) {
        static_cast<void>(is_over.wait_for(test::kPatience));  // for ever only if the other had no communicator
        return "silent";
      }
      const auto done = row.wait(**comm);
      over.set_value();
      if (done) return "no error";
      return (done.error().code == Errc::timed_out ? "timed out: " : "other: ") + done.error().what;
    });
    CHECK(answers[0] == row.said);
  }
}

TEST_CASE("a rank that never answers is named, also where a step is waited for that a device would have queued") {
  constexpr std::size_t kRanks = 3;
  const auto wait = GENERATE(&Comm::wait, &Comm::join);
  const test::ServedRendezvous served(hosts_of(kRanks));
  std::promise<void> over;
  const std::shared_future<void> is_over = over.get_future().share();
  std::atomic<int> timed_out = 0;
  const auto answers = on_ranks<std::string>(served, kRanks, [&](rendezvous::Client& client) -> std::string {
    GlooOptions options;
    options.timeout = 1s;
    options.connect_timeout = test::kPatience;
    // Its limit is near when theirs is not.
    auto comm = must(name_late_ranks(must(make_gloo_comm(client, options)), client, client.options().host, 300ms));
    std::vector<float> values(10);
    std::string said = "silent";
    if (comm->rank() != 2) {
      must(comm->start_all_reduce_mean(values));
      const auto done = (*comm.*wait)();
      said = done ? "no error" : done.error().what;
      if (++timed_out == 2) over.set_value();
    }
    static_cast<void>(is_over.wait_for(test::kPatience));
    return said;
  });
  CHECK(answers[0] ==
        "all-reduce of 40 bytes: not complete within 1 s; rank 2 on host1 had not come to it within 0.23 s");
  CHECK(answers[1] == answers[0]);
}

TEST_CASE("a rank that never comes ends the connecting with the rendezvous's own words") {
  const test::ServedRendezvous served(hosts_of(2));
  auto client = must(rendezvous::Client::join(client_options(served, 0, 2)));
  GlooOptions options;
  options.connect_timeout = 100ms;
  const auto comm = make_gloo_comm(*client, options);
  REQUIRE_FALSE(comm);
  CHECK(comm.error().code == Errc::timed_out);
  CHECK_THAT(comm.error().where, Catch::StartsWith("rank 0 on host0"));
}

TEST_CASE("a thread that cannot be started while the ranks connect is not called a fault of the network") {
  const test::ServedRendezvous served(hosts_of(2));
  auto client = must(rendezvous::Client::join(client_options(served, 0, 2)));
  pthread_attr_t before, huge;
  REQUIRE(::pthread_getattr_default_np(&before) == 0);
  REQUIRE(::pthread_attr_init(&huge) == 0);
  REQUIRE(::pthread_attr_setstacksize(&huge, std::size_t{1} << 50U) == 0);  // more than there are addresses
  REQUIRE(::pthread_setattr_default_np(&huge) == 0);
  const auto comm = make_gloo_comm(*client, {});
  REQUIRE(::pthread_setattr_default_np(&before) == 0);
  ::pthread_attr_destroy(&huge);
  ::pthread_attr_destroy(&before);
  REQUIRE_FALSE(comm);
  CHECK(comm.error().code == Errc::out_of_resources);
  CHECK_THAT(to_string(comm.error()), Catch::StartsWith("rank 0 on host0: a thread to connect the ranks with cannot") &&
                                          Catch::Contains("ulimit -u"));
}

TEST_CASE("an interface that is not there is named") {
  const test::ServedRendezvous served(hosts_of(2));
  auto client = must(rendezvous::Client::join(client_options(served, 0, 2)));
  GlooOptions options;
  options.interface = "no-such-if0";
  const auto comm = make_gloo_comm(*client, options);
  REQUIRE_FALSE(comm);
  CHECK(comm.error().code == Errc::invalid_config);
  CHECK_THAT(to_string(comm.error()), Catch::StartsWith("rank 0 on host0: no network interface 'no-such-if0'") &&
                                          Catch::Contains("there are: ") && Catch::Contains("lo") &&
                                          Catch::Contains("GLOO_SOCKET_IFNAME"));
  CHECK(*address_of_interface("lo") == "127.0.0.1");
}

TEST_CASE("the end of the generation reaches a rank that waits for others to connect") {
  test::ServedRendezvous served(hosts_of(2));
  auto client = must(rendezvous::Client::join(client_options(served, 0, 2)));
  auto connecting = std::async(std::launch::async, [&] { return make_gloo_comm(*client, {}).error().code; });
  served.end_generation("rank 1 on host0 exited with status 3");
  CHECK(connecting.get() == Errc::generation_ended);
}

TEST_CASE("Gloo's store keeps, waits and keeps apart") {
  const test::ServedRendezvous served(hosts_of(2));
  auto client = must(rendezvous::Client::join(client_options(served, 0, 2)));
  GlooStore store(*client, "one", 100ms);
  GlooStore other(*client, "other", 100ms);
  const std::vector<char> value = {'a', '\0', '\xff'};
  store.set("key", value);
  CHECK(store.get("key") == value);
  store.wait({"key"});
  store.set("empty", {});
  CHECK(store.get("empty").empty());
  CHECK(as_text(must(client->get("one/key"))).size() == 3);
  try {
    other.wait({"key"}, 50ms);
    FAIL("the wait for a key of another prefix ended well");
  } catch (const GlooStoreError& e) {
    CHECK(e.error().code == Errc::timed_out);
  }
  CHECK_THROWS_AS(other.get("key"), GlooStoreError);

  // More keys than one request may name.
  std::vector<std::string> keys;
  for (std::size_t i = 0; i <= rendezvous::kMaxWaitKeys; ++i) keys.push_back(std::to_string(i));
  for (const std::string& key : keys) store.set(key, chars("v"));
  CHECK_NOTHROW(store.wait(keys, test::kPatience));
}

TEST_CASE("the address towards the rendezvous is the one that the kernel would use") {
  CHECK(*local_address_towards("127.0.0.1", 29400) == "127.0.0.1");
  const auto unknown = local_address_towards("no-such-host.invalid", 29400);
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().where == "no-such-host.invalid:29400");
}

}  // namespace comm_test
