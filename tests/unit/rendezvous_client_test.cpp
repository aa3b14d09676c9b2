// Clients against a real server over loopback, ranks as threads. Whole messages are compared.
#include "rendezvous/client.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>

#include "rendezvous/connection.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/raw_peer.hpp"
#include "tests/support/rendezvous_fixture.hpp"

namespace rendezvous_client_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

// Runs one thread per rank and waits for all. Catch2's macros belong to the main thread: ranks return what they saw.
template <class Body>
auto run_ranks(std::uint32_t world_size, Body body) {
  using Seen = decltype(body(0U));
  std::vector<std::future<Seen>> ranks;
  for (std::uint32_t rank = 0; rank < world_size; ++rank) {
    ranks.push_back(std::async(std::launch::async, body, rank));
  }
  std::vector<Seen> seen;
  for (auto& rank : ranks) seen.push_back(rank.get());
  return seen;
}

std::string text_of(const Result<void>& result) {
  return result ? "ok" : to_string(result.error());
}
template <class T>
std::string text_of(const Result<T>& result) {
  return result ? "ok" : to_string(result.error());
}

UniqueId counted_id() {
  UniqueId id;
  for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::byte>(255 - i);
  return id;
}

}  // namespace

TEST_CASE("ranks join, get rank 0's unique id bit for bit, add, pass barriers and leave") {
  constexpr std::uint32_t kRanks = 8;
  ServedRendezvous served(ServedRendezvous::world_of(kRanks));
  const auto seen = run_ranks(kRanks, [&](std::uint32_t rank) -> std::string {
    auto joined = Client::join(served.client(rank));
    if (!joined) return to_string(joined.error());
    Client& client = **joined;
    if (rank == 0) {
      if (auto published = client.publish_unique_id(0, counted_id()); !published) return to_string(published.error());
    }
    const auto id = client.unique_id(0);
    if (!id || *id != counted_id()) return "wrong id";
    for (int i = 0; i < 50; ++i) {
      if (auto sum = client.add("counter", 1); !sum) return to_string(sum.error());
    }
    if (auto passed = client.barrier("added"); !passed) return to_string(passed.error());
    const auto sum = client.get("counter");
    if (!sum) return to_string(sum.error());
    if (auto passed = client.barrier("added"); !passed) return to_string(passed.error());
    return std::string(as_text(*sum));
  });
  CHECK(seen == std::vector<std::string>(kRanks, "400"));
  served.log().wait_for(LogLevel::debug, "rendezvous: all ranks have joined");
  CHECK(served.on_thread([&] { return served.server().joined(); }) == kRanks);
}

TEST_CASE("ids for several roots come from different ranks and are the same everywhere, in order") {
  constexpr std::uint32_t kRanks = 6;
  ServedRendezvous served(ServedRendezvous::world_of(kRanks));
  const auto seen = run_ranks(kRanks, [&](std::uint32_t rank) -> std::string {
    auto joined = Client::join(served.client(rank));
    if (!joined) return to_string(joined.error());
    const auto ids = (*joined)->share_unique_ids(4, [rank]() -> Result<UniqueId> {
      UniqueId id{};
      id[0] = static_cast<std::byte>('a' + rank);
      return id;
    });
    if (!ids) return to_string(ids.error());
    std::string makers;
    for (const UniqueId& id : *ids) makers += static_cast<char>(id[0]);
    if (auto passed = (*joined)->barrier("end"); !passed) return to_string(passed.error());
    return makers;
  });
  CHECK(seen == std::vector<std::string>(kRanks, "abde"));
}

TEST_CASE("ids for several roots: a count that cannot be, and a rank that makes none, are named") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  ClientOptions options = served.client(0);
  options.timeout = milliseconds(50);
  auto client = Client::join(options);
  REQUIRE(client);
  const auto make = []() -> Result<UniqueId> { return counted_id(); };
  CHECK(text_of((*client)->share_unique_ids(0, make)) ==
        "0 unique ids of a world of 2 ranks: from 1 to as many as there are ranks");
  CHECK(text_of((*client)->share_unique_ids(3, make)) ==
        "3 unique ids of a world of 2 ranks: from 1 to as many as there are ranks");
  CHECK(text_of((*client)->share_unique_ids(2, make)) ==
        "rendezvous " + served.address() +
            ": unique id 1 was not published within 50 ms; rank 1 (gpu02) has not joined; rank 1 makes it");
}

TEST_CASE("get and wait before set are answered by the set") {
  ServedRendezvous served(ServedRendezvous::world_of(3));
  const auto seen = run_ranks(3, [&](std::uint32_t rank) -> std::string {
    auto client = Client::join(served.client(rank));
    if (!client) return to_string(client.error());
    if (rank == 1) {
      if (auto set = (*client)->set("a", as_bytes("1")); !set) return to_string(set.error());
      if (auto set = (*client)->set("b", {}); !set) return to_string(set.error());
    }
    if (rank == 2) {
      if (auto ready = (*client)->wait({"a", "b"}, seconds(60)); !ready) return to_string(ready.error());
    }
    const auto value = (*client)->get("a");
    const auto empty = (*client)->get("b");
    if (auto done = (*client)->barrier("end"); !done) return to_string(done.error());
    return value && empty && empty->empty() ? std::string(as_text(*value)) : "no value";
  });
  CHECK(seen == std::vector<std::string>(3, "1"));
}

TEST_CASE("threads of one rank share a client") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto joined = Client::join(served.client(0));
  REQUIRE(joined);
  Client& client = **joined;
  const auto seen = run_ranks(8, [&](std::uint32_t thread) -> std::string {
    const std::string mine = "key" + std::to_string(thread);
    const std::string next = "key" + std::to_string((thread + 1) % 8);
    if (auto set = client.set(mine, as_bytes(mine)); !set) return to_string(set.error());
    const auto value = client.get(next);
    return value ? std::string(as_text(*value)) : to_string(value.error());
  });
  for (std::size_t i = 0; i < 8; ++i) CHECK(seen[i] == "key" + std::to_string((i + 1) % 8));
}

TEST_CASE("the largest key and value arrive; larger ones are refused and the client goes on") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto joined = Client::join(served.client(0));
  REQUIRE(joined);
  Client& client = **joined;
  const std::string key(kMaxKeyBytes, 'k');
  const Bytes value(kMaxValueBytes, std::byte{7});
  REQUIRE(client.set(key, value));
  CHECK(*client.get(key) == value);
  CHECK(text_of(client.set(key + "k", {})) == "key '" + std::string(64, 'k') + "…' has 8193 bytes; the limit is 8192");
  CHECK(text_of(client.set("v", Bytes(kMaxValueBytes + 1))) ==
        "the value of key 'v' has 8388609 bytes; the limit is "
        "8388608");
  CHECK(text_of(client.get("")) == "an empty key");
  CHECK(text_of(client.wait(std::vector<std::string>(kMaxWaitKeys + 1, "k"), seconds(1))) ==
        "waiting for 4097 keys of 20485 bytes; the limits are 4096 and 8388608");
  CHECK(client.set("after", {}));
}

TEST_CASE("what the server refuses, it says with its address") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  auto first = Client::join(served.client(0));
  REQUIRE(first);
  const std::string where = "rendezvous " + served.address() + ": ";
  const auto refusal = [&](std::uint32_t rank, const std::function<void(ClientOptions&)>& change) {
    ClientOptions options = served.client(rank);
    change(options);
    const auto client = Client::join(options);
    REQUIRE_FALSE(client);
    return client.error();
  };
  const Error twice = refusal(0, [](ClientOptions& o) { o.host = "gpu02"; });
  CHECK(twice.code == Errc::duplicate_rank);
  const std::string pid = std::to_string(::getpid());
  CHECK(to_string(twice) == where + "gpu02, pid " + pid + ", joins as rank 0, but gpu01, pid " + pid + ", already has");
  const Error stale = refusal(1, [](ClientOptions& o) { o.generation = Generation{1}; });
  CHECK(stale.code == Errc::stale_generation);
  CHECK(to_string(stale) == where + "rank 1 (gpu02) belongs to generation 1, which has ended; this is generation 2");
  const Error world = refusal(1, [](ClientOptions& o) { o.world_size = 4; });
  CHECK(world.code == Errc::wrong_world);
  CHECK(to_string(world) == where + "rank 1 (gpu02) expects a world of 4 ranks, this job has 2");
  const Error job = refusal(1, [](ClientOptions& o) { o.job_id = "old"; });
  CHECK(to_string(job) == where + "rank 1 (gpu02) belongs to job 'old', this rendezvous serves job 'job'");
  const Error token = refusal(1, [](ClientOptions& o) { o.token = make_token(); });
  CHECK(token.code == Errc::unauthenticated);
  CHECK(to_string(token) == where +
                                "the server does not hold the token of this job\n   hint: another job or another "
                                "user's program may serve port " +
                                std::to_string(served.port()));
  const Error no_token = refusal(1, [](ClientOptions& o) { o.token.clear(); });
  CHECK(no_token.code == Errc::invalid_argument);
  CHECK((*first)->set("still", as_bytes("here")));
  served.on_thread([&] { served.server().end_generation("rank 0 exited with 3"); });
  const Error late = refusal(1, [](ClientOptions&) {});
  CHECK(late.code == Errc::stale_generation);
  CHECK(to_string(late) == where + "rank 1 (gpu02) comes too late: generation 2 has ended: rank 0 exited with 3");
}

TEST_CASE("a program of another protocol version is told both versions, and the job goes on") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  RawPeer newer(served.port());
  newer.send(encode(Preamble{2}));
  const auto answer = newer.next();
  REQUIRE(answer);
  CHECK(*answer == Message(Failure{0, Errc::version_mismatch,
                                   "the client speaks version 2 of the rendezvous protocol, the server version 1",
                                   "use the same llmlaunch on the head and in the program"}));
  CHECK_FALSE(newer.next());
  CHECK(Client::join(served.client(0)));
}

TEST_CASE("at the join deadline every waiter, whatever it waits for, gets the missing ranks with their hosts") {
  ServerOptions options = ServedRendezvous::world_of(4);
  options.join_timeout = seconds(2);
  ServedRendezvous served(options);
  std::vector<std::unique_ptr<Client>> here;
  for (const std::uint32_t rank : {0U, 2U}) {
    auto client = Client::join(served.client(rank));
    REQUIRE(client);
    here.push_back(std::move(*client));
  }
  std::vector<std::future<std::string>> waiting;
  for (const auto& each : here) {
    Client* client = each.get();
    waiting.push_back(std::async(std::launch::async, [client] { return text_of(client->barrier("start")); }));
    waiting.push_back(std::async(std::launch::async, [client] { return text_of(client->unique_id(0)); }));
    waiting.push_back(std::async(std::launch::async, [client] { return text_of(client->get("k")); }));
    waiting.push_back(std::async(std::launch::async, [client] { return text_of(client->wait({"k"}, seconds(60))); }));
  }
  for (auto& each : waiting) {
    CHECK(each.get() == "rendezvous " + served.address() + ": ranks 1 (gpu02), 3 (gpu04) have not joined within 2 s");
  }
}

TEST_CASE("different NCCL versions name both hosts") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  auto options = served.client(0);
  options.nccl_version = 22807;
  auto first = Client::join(options);
  REQUIRE(first);
  options = served.client(1);
  options.nccl_version = 22703;
  const auto second = Client::join(options);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Errc::version_mismatch);
  CHECK(to_string(second.error()) ==
        "rendezvous " + served.address() +
            ": rank 1 (gpu02) has NCCL 2.27.3, but rank 0 (gpu01) has NCCL 2.28.7\n"
            "   hint: all ranks must load the same version of NCCL: compare libnccl.so.2 on both hosts");
  served.log().wait_for(LogLevel::warning,
                        "rendezvous: rank 1 (gpu02) has NCCL 2.27.3, but rank 0 (gpu01) has NCCL 2.28.7\n   hint: ");
}

TEST_CASE("waits run out with the names of what is missing") {
  ServerOptions options = ServedRendezvous::world_of(3);
  options.join_timeout = seconds(2);
  ServedRendezvous served(options);
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  const std::string where = "rendezvous " + served.address() + ": ";
  const auto value = (*client)->get("k", milliseconds(20));
  REQUIRE_FALSE(value);
  CHECK(value.error().code == Errc::timed_out);
  CHECK(to_string(value.error()) ==
        where + "key 'k' was not set within 20 ms; ranks 1 (gpu02), 2 (gpu03) have not joined");
  const std::string missing = where + "ranks 1 (gpu02), 2 (gpu03) have not joined within 2 s";
  CHECK(text_of((*client)->barrier("start")) == missing);
  CHECK(text_of((*client)->unique_id(0)) == missing);
  CHECK(served.log().wait_for(LogLevel::warning, "have not joined") ==
        "rendezvous: ranks 1 (gpu02), 2 (gpu03) have not joined within 2 s");
}

TEST_CASE("a deadline that nobody waits for any more takes no later one with it") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  for (int i = 0; i < 5; ++i) {
    const std::string key = "early" + std::to_string(i);
    auto early = std::async(std::launch::async, [&] { return text_of((*client)->get(key, seconds(1))); });
    served.pass(milliseconds(10));  // so that in some of them the key comes while it is waited for
    REQUIRE((*client)->set(key, as_bytes("v")));
    CHECK(early.get() == "ok");
  }
  CHECK(text_of((*client)->get("late", milliseconds(1200))) ==
        "rendezvous " + served.address() + ": key 'late' was not set within 1.2 s");
}

TEST_CASE("the end of the generation reaches all waiters, once") {
  constexpr std::uint32_t kRanks = 4;
  ServedRendezvous served(ServedRendezvous::world_of(kRanks));
  std::atomic<int> told = 0;
  const auto seen = run_ranks(kRanks, [&](std::uint32_t rank) -> std::string {
    auto joined = Client::join(served.client(rank));
    if (!joined) return to_string(joined.error());
    Client& client = **joined;
    std::promise<std::string> end;
    client.on_end([&](const Error& reason) {
      ++told;
      end.set_value(to_string(reason));
    });
    // The last rank to add ends the generation, while the others wait for what never comes.
    const auto arrived = client.add("arrived", 1);
    if (!arrived) return to_string(arrived.error());
    if (*arrived == kRanks) served.on_thread([&] { served.server().end_generation("rank 1 exited with 3"); });
    const auto waited = rank % 2 == 0 ? text_of(client.get("never")) : text_of(client.unique_id(0));
    const std::string heard = end.get_future().get();
    if (!client.ended()) return "not ended";
    if (text_of(client.set("late", {})) != heard) return "a late request was served";
    std::string again;
    client.on_end([&](const Error& reason) { again = to_string(reason); });
    if (again != heard) return "a late callback was not called";
    return waited == heard ? heard : waited + " / " + heard;
  });
  const std::string text = "rendezvous " + served.address() + ": generation 2 has ended: rank 1 exited with 3";
  CHECK(seen == std::vector<std::string>(kRanks, text));
  CHECK(told == kRanks);
}

TEST_CASE("a killed client is noticed at once, and its barrier fails by name") {
  const ServerOptions world = ServedRendezvous::world_of(2);
  std::array<int, 2> ready{}, told{};
  REQUIRE(::pipe(ready.data()) == 0);
  REQUIRE(::pipe(told.data()) == 0);
  // Forked before this process has threads: the child starts some of its own, which not every runtime allows later.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ClientOptions options;
    if (::read(told[0], &options.port, sizeof(options.port)) != sizeof(options.port)) ::_exit(1);
    options.address = "127.0.0.1";
    options.job_id = world.job_id;
    options.generation = world.generation;
    options.rank = Rank{1};
    options.world_size = 2;
    options.token = world.token;
    options.host = world.hosts[1];
    const auto client = Client::join(options);
    const char letter = client ? 'j' : 'n';
    if (::write(ready[1], &letter, 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  ServedRendezvous served(world);
  const std::uint16_t port = served.port();
  REQUIRE(::write(told[1], &port, sizeof(port)) == sizeof(port));
  char letter = 0;
  REQUIRE(::read(ready[0], &letter, 1) == 1);
  REQUIRE(letter == 'j');
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  auto waiting = std::async(std::launch::async, [&] { return text_of((*client)->barrier("start")); });
  REQUIRE(::kill(child, SIGKILL) == 0);
  CHECK(waiting.get() ==
        "rendezvous " + served.address() + ": barrier 'start' cannot complete: rank 1 (gpu02) lost the connection");
  served.log().wait_for(LogLevel::debug, "rendezvous: rank 1 went without a word: ");
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  for (const int end : {ready[0], ready[1], told[0], told[1]}) ::close(end);
}

TEST_CASE("a lost server fails waiting calls and tells the callback") {
  auto served = std::make_unique<ServedRendezvous>(ServedRendezvous::world_of(1));
  auto client = Client::join(served->client(0));
  REQUIRE(client);
  std::promise<std::string> told;
  (*client)->on_end([&](const Error& reason) { told.set_value(to_string(reason)); });
  const std::string text = "rendezvous " + served->address() + ": connection lost: the connection was closed";
  auto waiting = std::async(std::launch::async, [&] { return text_of((*client)->get("never")); });
  served.reset();
  CHECK(told.get_future().get() == text);
  CHECK(waiting.get() == text);
  CHECK((*client)->ended());
}

TEST_CASE("no server: the client tries until the deadline and says what to open") {
  std::uint16_t port = 0;
  {
    ServedRendezvous served(ServedRendezvous::world_of(1));
    port = served.port();
  }
  ClientOptions options;
  options.address = "127.0.0.1";
  options.port = port;
  options.token = make_token();
  options.generation = Generation{2};
  options.rank = Rank{5};
  options.world_size = 8;
  options.host = "gpu02";
  options.timeout = milliseconds(200);
  const auto client = Client::join(options);
  REQUIRE_FALSE(client);
  CHECK(client.error().code == Errc::unreachable);
  const std::string number = std::to_string(port);
  CHECK(to_string(client.error()) ==
        "rank 5 (gpu02): no connection to rendezvous 127.0.0.1:" + number +
            " within 200 ms (generation 2): connect: Connection refused\n   hint: 127.0.0.1 must be an address of "
            "the machine where llmlaunch runs (main_process_ip), and TCP port " +
            number + " open there (main_process_port)");
}

TEST_CASE("a client that comes before its server gets in") {
  ServerOptions options = ServedRendezvous::world_of(1);
  ClientOptions early;
  {
    ServedRendezvous served(options);
    early = served.client(0);
    options.port = served.port();
  }
  auto joining = std::async(std::launch::async, [&] { return text_of(Client::join(early)); });
  ServedRendezvous served(options);
  CHECK(joining.get() == "ok");
}

TEST_CASE("another program behind the port is named as such, a silent one runs into the deadline") {
  asio::io_context context;
  asio::ip::tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
  ClientOptions options;
  options.address = "127.0.0.1";
  options.port = acceptor.local_endpoint().port();
  options.token = make_token();
  options.host = "gpu02";
  options.timeout = milliseconds(300);
  const auto silent = Client::join(options);  // the kernel accepts for the listener; nobody answers
  REQUIRE_FALSE(silent);
  CHECK(silent.error().code == Errc::timed_out);
  CHECK(to_string(silent.error()).find(" within 300 ms (generation 0): no answer\n") != std::string::npos);

  options.timeout = seconds(60);
  options.join_timeout = milliseconds(400);
  const auto in_vain = Client::join(options);
  REQUIRE_FALSE(in_vain);
  CHECK(to_string(in_vain.error()).find(" within 400 ms (generation 0): no answer\n") != std::string::npos);

  options.join_timeout.reset();
  auto joining = std::async(std::launch::async, [&] { return text_of(Client::join(options)); });
  std::vector<asio::ip::tcp::socket> sockets;
  sockets.push_back(acceptor.accept());  // the two silent clients', then this one's
  sockets.push_back(acceptor.accept());
  sockets.push_back(acceptor.accept());
  asio::write(sockets.back(), asio::buffer(std::string_view("HTTP/1.1 400 Bad Request\r\n\r\n")));
  CHECK(joining.get() == "rendezvous 127.0.0.1:" + std::to_string(options.port) +
                             ": the server does not answer as a rendezvous\n   hint: another program may serve port " +
                             std::to_string(options.port));
}

TEST_CASE("an unknown name is named") {
  ClientOptions options;
  options.address = "no-such-host.invalid";
  options.port = 1;
  options.token = make_token();
  options.host = "gpu02";
  options.timeout = milliseconds(200);  // where no name service answers, the client tries again
  const auto client = Client::join(options);
  REQUIRE_FALSE(client);
  CHECK((client.error().code == Errc::unreachable || client.error().code == Errc::timed_out));
  CHECK(client.error().where == "rank 0 (gpu02)");
  CHECK(client.error().hint.find("no-such-host.invalid must be an address of the machine where llmlaunch runs") == 0);
  CHECK(client.error().what.find("looking up no-such-host.invalid: ") != std::string::npos);
}

}  // namespace rendezvous_client_test
