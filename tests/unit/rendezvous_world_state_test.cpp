#include "rendezvous/world_state.hpp"

#include <fmt/format.h>

#include "tests/support/catch.hpp"
#include "tests/support/rendezvous_world.hpp"

namespace rendezvous_world_state_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_CASE("the world is complete when its last rank joins") {
  World world({"gpu01", "gpu02"});
  CHECK(world.enter(0) == Lines{"1: welcome"});
  CHECK(world.state.is_admitted(PeerId{1}));
  CHECK(world.enter(1) == Lines{"2: welcome", "complete"});
  CHECK(world.state.joined() == 2);
  CHECK_FALSE(world.state.next_deadline());
}

TEST_CASE("the server proves its token and the client checks it") {
  World world;
  const Nonce nonce{};
  world.state.on_connect(PeerId{1}, "10.0.0.9:5", nonce, world.now);
  world.state.on_message(PeerId{1}, Preamble{}, world.now);
  const auto actions = world.state.on_message(PeerId{1}, world.hello(0), world.now);
  const auto& challenge = std::get<Challenge>(std::get<Send>(actions.at(0)).message);
  CHECK(kToken.verify(challenge.proof, Token::Side::server, world.hello(0), challenge.nonce));
  CHECK_FALSE(kOther.verify(challenge.proof, Token::Side::server, world.hello(0), challenge.nonce));
}

TEST_CASE("a wrong token learns nothing about the job") {
  World world;
  Hello stranger = world.hello(0);
  stranger.job_id = "another";
  CHECK(world.enter(1, stranger, kOther) ==
        Lines{"1: failure 0 not authenticated: the client does not hold the token of the job served here | a rank of "
              "another job, or of an earlier run, may have this address",
              "1: close 10.0.0.9:5: the client does not hold the token of the job served here\n   hint: a rank of "
              "another job, or of an earlier run, may have this address"});
  CHECK(world.state.connections() == 0);
  CHECK(world.state.joined() == 0);
}

TEST_CASE("every hello that does not fit is refused with its reason") {
  struct Row {
    const char* name;
    std::function<void(Hello&)> change;
    std::string refusal;
  };
  const std::vector<Row> rows = {
      {"job", [](Hello& m) { m.job_id = "old"; },
       "job or world size differ: rank 1 (gpu01) belongs to job 'old', this rendezvous serves job 'job'"},
      {"older generation", [](Hello& m) { m.generation = Generation{1}; },
       "this generation has ended: rank 1 (gpu01) belongs to generation 1, which has ended; this is generation 2"},
      {"newer generation", [](Hello& m) { m.generation = Generation{3}; },
       "job or world size differ: rank 1 (gpu01) belongs to generation 3, this is generation 2"},
      {"world", [](Hello& m) { m.world_size = 8; },
       "job or world size differ: rank 1 (gpu01) expects a world of 8 ranks, this job has 4"},
      {"rank", [](Hello& m) { m.rank = Rank{4}; },
       "job or world size differ: rank 4 (gpu01) is no rank of this job: its ranks are 0-3"},
      {"nameless host", [](Hello& m) { m.rank = Rank{9}, m.host.clear(); },
       "job or world size differ: rank 9 (10.0.0.9:5) is no rank of this job: its ranks are 0-3"},
      {"twice", [](Hello& m) { m.rank = Rank{0}, m.host = "gpu02"; },
       "this rank has joined already: gpu02, pid 101, joins as rank 0, but gpu01, pid 100, already has"},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    World world;
    world.enter(0);
    Hello hello = world.hello(1);
    row.change(hello);
    const Lines lines = world.enter(2, hello);
    REQUIRE(lines.size() == 2);
    CHECK(lines[0] == "2: failure 0 " + row.refusal);
    CHECK(world.state.joined() == 1);
    CHECK(world.state.is_admitted(PeerId{1}));
  }
}

TEST_CASE("a client of another protocol version is told both versions") {
  World world;
  world.state.on_connect(PeerId{1}, "10.0.0.9:5", Nonce{}, world.now);
  CHECK(world.say(1, Preamble{2}).at(0) ==
        "1: failure 0 the two sides speak different versions: the client speaks version 2 of the rendezvous protocol, "
        "the server version 1 | use the same llmlaunch on the head and in the program");
}

TEST_CASE("messages out of turn cost the connection") {
  World world;
  world.state.on_connect(PeerId{1}, "10.0.0.9:5", Nonce{}, world.now);
  CHECK(world.say(1, Set{1, "k", {}}) ==
        Lines{"1: failure 0 the other side broke the protocol: a message out of turn in the handshake",
              "1: close 10.0.0.9:5: a message out of turn in the handshake"});
  CHECK(world.say(1, Set{1, "k", {}}).empty());
  world.enter_all();
  CHECK(world.say(1, Done{1}).at(1) ==
        "1: close 10.0.0.9:5: a message that only a server sends, or only a handshake holds");
  CHECK(world.say(2, Get{0, "k", 1}).at(1) == "2: close 10.0.0.9:5: a request with number 0");
  world.say(3, Get{5, "k", 1});
  CHECK(world.say(3, Get{5, "k", 1}).at(1) == "3: close 10.0.0.9:5: request 5 is open already");
}

TEST_CASE("bytes that are no messages cost the connection") {
  World world;
  world.enter_all();
  CHECK(shown(world.state.on_malformed(PeerId{4}, make_error(Errc::too_large, "a frame of 9 bytes"), world.now)) ==
        Lines{"4: failure 0 larger than the limit: a frame of 9 bytes", "4: close 10.0.0.9:5: a frame of 9 bytes",
              "lost rank 3"});
}

TEST_CASE("a handshake has a deadline") {
  World world;
  world.state.on_connect(PeerId{1}, "10.0.0.9:5", Nonce{}, world.now);
  CHECK(world.state.next_deadline() == world.now + kHandshakeTimeout);
  CHECK(world.after(kHandshakeTimeout - milliseconds(1)).empty());
  CHECK(world.after(milliseconds(1)) ==
        Lines{"1: failure 0 timed out: no handshake within 10 s", "1: close 10.0.0.9:5: no handshake within 10 s"});
  CHECK_FALSE(world.state.next_deadline());
}

TEST_CASE("when all connections are taken the oldest handshake makes room, and ranks stay") {
  World world;
  world.enter(0);
  const std::size_t limit = world.state.max_connections();
  for (std::uint64_t peer = 2; peer <= limit; ++peer) {
    CHECK(world.state.on_connect(PeerId{peer}, "10.6.6.6:1", Nonce{}, world.now).empty());
  }
  CHECK(world.state.connections() == limit);
  CHECK(shown(world.state.on_connect(PeerId{limit + 1}, "10.0.0.9:5", Nonce{}, world.now)).at(1) ==
        "2: close 10.6.6.6:1: the rendezvous serves 72 connections, its limit");
  CHECK(world.state.connections() == limit);
  CHECK(world.state.is_admitted(PeerId{1}));
}

TEST_CASE("at the join deadline every waiter gets the missing ranks with their hosts") {
  World world;
  CHECK_FALSE(world.state.next_deadline());  // nobody has joined: the program may not use the rendezvous at all
  world.enter(0);
  world.enter(1);
  world.say(1, Barrier{1, "start", 600'000});
  world.say(2, GetId{1, 0, 600'000});
  world.say(2, Get{2, "k", 600'000});
  CHECK(world.state.next_deadline() == world.now + seconds(30));
  const std::string text = "timed out: ranks 2-3 (gpu02) have not joined within 30 s";
  CHECK(world.after(seconds(30)) == Lines{"1: failure 1 " + text, "2: failure 1 " + text, "2: failure 2 " + text,
                                          "fail ranks 2-3 (gpu02) have not joined within 30 s"});
  CHECK(world.say(1, Get{3, "k", 1000}) == Lines{"1: failure 3 " + text});
  CHECK(world.enter(2).at(0) ==
        "3: failure 0 timed out: rank 2 (gpu02) cannot join: ranks 2-3 (gpu02) have not joined within 30 s");
  CHECK_FALSE(world.state.next_deadline());
}

TEST_CASE("who waits for a rank that ended before it joined is told at once") {
  const std::string ended =
      "the other side closed the connection: ranks 1 (gpu01), 3 (gpu02) have ended without having joined | ";
  const std::string hint = "all ranks join, or none: does each run the same program with the same arguments?";
  World world;
  world.enter(0);
  world.enter(2);
  world.look_in(9);
  world.say(9, Get{1, "k", 600'000});
  world.say(1, Watch{1, false, "k", Keyspace::native});
  CHECK(shown(world.state.on_rank_ended(Rank{1})).empty());  // nobody waits for more than a change
  CHECK(shown(world.state.on_rank_ended(Rank{3})).empty());
  CHECK(shown(world.state.on_rank_ended(Rank{2})).empty());
  CHECK(world.say(1, Set{2, "k", bytes_of("v")}) == Lines{"1: done 2", "9: value 1 v", "1: change 1 k=v"});
  CHECK(world.say(3, Barrier{1, "start", 600'000}).back() == "3: failure 1 " + ended + hint);
  CHECK(world.say(3, Get{2, "other", 1000}) == Lines{"3: failure 2 " + ended + hint});
}

TEST_CASE("who waited already when a rank ended before it joined is told, and a rank that joined is no such one") {
  World world({"gpu01", "gpu02"});
  world.enter(0);
  world.say(1, Barrier{1, "start", 600'000});
  CHECK(shown(world.state.on_rank_ended(Rank{1})) ==
        Lines{"1: failure 1 the other side closed the connection: rank 1 (gpu02) has ended without having joined | all "
              "ranks join, or none: does each run the same program with the same arguments?",
              "fail rank 1 (gpu02) has ended without having joined"});
  World whole({"gpu01", "gpu02"});
  whole.enter_all();
  whole.say(1, Get{1, "k", 600'000});
  CHECK(whole.say(2, Leave{}) == Lines{"2: close"});
  CHECK(shown(whole.state.on_rank_ended(Rank{1})).empty());
}

TEST_CASE("different NCCL versions are reported with both hosts, to all who wait") {
  World world;
  Hello first = world.hello(0);
  first.nccl_version = 22807;
  world.enter(1, first);
  world.enter(1);  // without NCCL: nothing to compare
  world.say(2, Barrier{1, "start", 600'000});
  Hello other = world.hello(2);
  other.nccl_version = 21903;
  const std::string text = "rank 2 (gpu02) has NCCL 2.19.3, but rank 0 (gpu01) has NCCL 2.28.7";
  const std::string hint = "all ranks must load the same version of NCCL: compare libnccl.so.2 on both hosts";
  CHECK(world.enter(3, other) == Lines{"3: failure 0 the two sides speak different versions: " + text + " | " + hint,
                                       "3: close 10.0.0.9:5: " + text + "\n   hint: " + hint,
                                       "2: failure 1 the two sides speak different versions: " + text + " | " + hint,
                                       "fail " + text});
}

TEST_CASE("unique ids: published, waited for, several, and never twice") {
  World world;
  world.enter_all();
  CHECK(world.say(2, GetId{1, 0, 1000}).empty());
  CHECK(world.say(3, GetId{7, 0, 1000}).empty());
  CHECK(world.say(1, PublishId{1, 0, id_of(42)}) == Lines{"1: done 1", "2: id 1 42", "3: id 7 42"});
  CHECK(world.say(4, GetId{1, 0, 1000}) == Lines{"4: id 1 42"});
  CHECK(world.say(2, PublishId{2, 1, id_of(43)}) == Lines{"2: done 2"});
  CHECK(world.say(1, GetId{2, 1, 1000}) == Lines{"1: id 2 43"});
  CHECK(world.say(1, PublishId{3, 0, id_of(42)}) == Lines{"1: done 3"});
  CHECK(world.say(1, PublishId{4, 0, id_of(44)}) == Lines{"1: failure 4 refused by the other side: unique id 0 of "
                                                          "generation 2 is published already, with other bytes"});
  CHECK(world.say(1, GetId{5, kMaxUniqueIds, 1}) ==
        Lines{"1: failure 5 larger than the limit: unique id 1024: the limit is 1024 per generation"});
  CHECK_FALSE(world.state.next_deadline());
}

TEST_CASE("the wait for a unique id ends by time, by cancel, and when rank 0 goes") {
  World world;
  world.enter_all();
  world.say(2, GetId{1, 0, 1500});
  CHECK(world.after(milliseconds(1500)) == Lines{"2: failure 1 timed out: unique id 0 was not published within 1.5 s"});
  world.say(2, GetId{2, 0, 1500});
  CHECK(world.say(2, Cancel{2}) == Lines{"2: failure 2 stopped on request: canceled by the client"});
  world.say(2, GetId{3, 0, 1500});
  const std::string text =
      "the other side closed the connection: rank 0 (gpu01) lost the connection before it published "
      "unique id 0";
  CHECK(world.lose(1) == Lines{"lost rank 0", "2: failure 3 " + text});
  CHECK(world.say(2, GetId{4, 0, 1500}) == Lines{"2: failure 4 " + text});
}

TEST_CASE("the store: get and wait before set, add wakes too") {
  World world;
  world.enter_all();
  CHECK(world.say(2, Get{1, "k", 1000}).empty());
  CHECK(world.say(3, Wait{1, 1000, {"k", "n", "k"}}).empty());
  CHECK(world.say(1, Set{1, "k", bytes_of("v")}) == Lines{"1: done 1", "2: value 1 v"});
  CHECK(world.say(1, Add{2, "n", 5}) == Lines{"1: number 2 5", "3: done 1"});
  CHECK(world.say(4, Get{1, "n", 1000}) == Lines{"4: value 1 5"});
  CHECK(world.say(4, Wait{2, 1000, {"k", "n"}}) == Lines{"4: done 2"});
  CHECK(world.say(4, Wait{3, 1000, {}}) == Lines{"4: done 3"});
  CHECK(world.say(4, Add{4, "k", 1}) ==
        Lines{"4: failure 4 invalid value: cannot add to key 'k': its value 'v' is not a number"});
  CHECK(world.say(4, Get{5, "", 1}) == Lines{"4: failure 5 invalid value: an empty key"});
  CHECK(world.say(4, Set{6, std::string(kMaxKeyBytes + 1, 'k'), {}}) ==
        Lines{"4: failure 6 larger than the limit: key '" + std::string(64, 'k') +
              "…' has 8193 bytes; the limit is 8192"});
  CHECK_FALSE(world.state.next_deadline());
}

TEST_CASE("waits for keys end by time and by cancel") {
  World world;
  world.enter_all();
  world.say(1, Get{1, "k", 250});
  CHECK(world.after(milliseconds(250)) == Lines{"1: failure 1 timed out: key 'k' was not set within 250 ms"});
  world.say(1, Wait{2, 1000, {"a"}});
  world.say(1, Wait{3, 2000, {"f", "e", "d", "c", "b", "a"}});
  CHECK(world.after(milliseconds(1000)) == Lines{"1: failure 2 timed out: key 'a' was not set within 1 s"});
  world.say(2, Set{1, "a", {}});
  CHECK(world.after(milliseconds(1000)) ==
        Lines{"1: failure 3 timed out: keys 'b', 'c', 'd', 'e' and 1 more were not set within 2 s"});
  world.say(1, Wait{4, 1000, {"z"}});
  CHECK(world.say(1, Cancel{4}) == Lines{"1: failure 4 stopped on request: canceled by the client"});
  CHECK(world.say(1, Cancel{4}).empty());
  CHECK(world.say(2, Set{2, "z", {}}) == Lines{"2: done 2"});
}

TEST_CASE("a wait that runs out while ranks are missing says so") {
  World world;
  world.enter(0);
  world.say(1, Get{1, "k", 1000});
  CHECK(world.after(seconds(1)) == Lines{"1: failure 1 timed out: key 'k' was not set within 1 s; ranks 1 (gpu01), "
                                         "2-3 (gpu02) have not joined"});
}

TEST_CASE("a barrier opens for all at once and can be used again") {
  World world;
  world.enter_all();
  for (int round = 0; round < 2; ++round) {
    CHECK(world.say(1, Barrier{1, "b", 1000}).empty());
    CHECK(world.say(3, Barrier{1, "b", 1000}).empty());
    CHECK(world.say(4, Barrier{1, "b", 1000}).empty());
    CHECK(world.say(4, Barrier{2, "b", 1000}) ==
          Lines{"4: failure 2 invalid value: rank 3 already waits in barrier 'b'"});
    CHECK(world.say(2, Barrier{1, "b", 1000}) == Lines{"2: done 1", "1: done 1", "3: done 1", "4: done 1"});
  }
  CHECK(world.say(1, Barrier{3, "", 1}) == Lines{"1: failure 3 invalid value: an empty barrier name"});
}

TEST_CASE("a barrier ends by time with the names of those who did not arrive") {
  World world;
  world.enter_all();
  world.say(1, Barrier{1, "b", 1000});
  world.say(3, Barrier{1, "b", 2000});
  CHECK(world.after(seconds(1)) == Lines{"1: failure 1 timed out: barrier 'b' was not complete within 1 s: ranks 1 "
                                         "(gpu01), 3 (gpu02) did not arrive"});
  CHECK(world.say(3, Cancel{1}) == Lines{"3: failure 1 stopped on request: canceled by the client"});
  CHECK_FALSE(world.state.next_deadline());
}

TEST_CASE("a barrier blames nobody who waited in it, whoever's time is up first") {
  const std::string late = "rank 2 (gpu02) did not arrive";
  const auto failure = [](int peer, int request, const std::string& within, const std::string& why) {
    return fmt::format("{}: failure {} timed out: barrier 'b' was not complete within {}: {}", peer, request, within,
                       why);
  };
  World world;
  world.enter_all();
  for (const std::uint64_t peer : {1u, 2u, 4u}) world.say(peer, Barrier{1, "b", 1000});
  CHECK(world.after(seconds(1)) ==
        Lines{failure(1, 1, "1 s", late), failure(2, 1, "1 s", late), failure(4, 1, "1 s", late)});
  CHECK_FALSE(world.state.next_deadline());

  world.say(1, Barrier{2, "b", 1000});
  world.say(2, Barrier{2, "b", 2000});
  world.say(4, Barrier{2, "b", 3000});
  CHECK(world.after(seconds(1)) == Lines{failure(1, 2, "1 s", late)});
  CHECK(world.after(seconds(1)) == Lines{failure(2, 2, "2 s", late)});
  world.say(3, Barrier{2, "b", 500});
  CHECK(world.after(milliseconds(500)) ==
        Lines{failure(3, 2, "500 ms", "ranks 0-1 (gpu01) had waited and gone when the last rank arrived")});
  CHECK(world.after(milliseconds(500)) ==
        Lines{failure(4, 2, "3 s", "ranks 0-1 (gpu01), 2 (gpu02) had waited and gone when the last rank arrived")});

  // What was is forgotten with the last who waited.
  world.say(2, Barrier{3, "b", 1000});
  CHECK(world.after(seconds(1)) == Lines{failure(2, 3, "1 s", "ranks 0 (gpu01), 2-3 (gpu02) did not arrive")});
}

TEST_CASE("a rank that gave up a barrier may come again, and then it opens") {
  World world({"gpu01", "gpu02"});
  world.enter_all();
  world.say(1, Barrier{1, "b", 1000});
  CHECK(world.after(seconds(1)).size() == 1);
  CHECK(world.say(2, Barrier{1, "b", 1000}).empty());
  CHECK(world.say(1, Barrier{2, "b", 1000}) == Lines{"1: done 2", "2: done 1"});
}

TEST_CASE("a thousand ranks whose time is up in one tick all hear of the one that is late") {
  constexpr std::uint32_t kRanks = 1000;
  std::vector<std::string> hosts;
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) hosts.push_back("host" + std::to_string(rank));
  World world(hosts);
  world.enter_all();
  for (std::uint32_t rank = 1; rank < kRanks; ++rank) world.say(rank + 1, Barrier{1, "b", 1000});
  const Lines told = world.after(seconds(1));
  REQUIRE(told.size() == kRanks - 1);
  for (const std::string& line : told) REQUIRE(line.ends_with(": rank 0 (host0) did not arrive"));
}

TEST_CASE("a rank that goes ends the barriers that need it") {
  World world;
  world.enter_all();
  world.say(1, Barrier{1, "b", 1000});
  const std::string gone = "the other side closed the connection: barrier 'b' cannot complete: ";
  CHECK(world.lose(3) == Lines{"lost rank 2", "1: failure 1 " + gone + "rank 2 (gpu02) lost the connection"});
  CHECK(world.say(2, Barrier{1, "b", 1000}) == Lines{"2: failure 1 " + gone + "rank 2 (gpu02) lost the connection"});
  World other;
  other.enter_all();
  other.say(1, Barrier{1, "b", 1000});
  CHECK(other.say(4, Leave{}) == Lines{"4: close", "1: failure 1 " + gone + "rank 3 (gpu02) has left"});
  CHECK(other.lose(4).empty());
}

TEST_CASE("a rank that left may come again; a lost one only as the same process") {
  World world;
  world.enter_all();
  world.say(1, Leave{});
  CHECK(world.enter(11, world.hello(0)) == Lines{"11: welcome"});
  world.lose(2);
  Hello impostor = world.hello(1);
  impostor.pid = 999;
  CHECK(world.enter(12, impostor).at(0) ==
        "12: failure 0 refused by the other side: rank 1 (gpu01), pid 999, comes in place of pid 101, which lost its "
        "connection; a lost rank is replaced in a new generation only");
  CHECK(world.enter(13, world.hello(1)) == Lines{"13: welcome"});
  CHECK(world.state.joined() == 4);
  world.say(11, Barrier{1, "b", 1000});
  world.say(13, Barrier{1, "b", 1000});
  world.say(3, Barrier{1, "b", 1000});
  CHECK(world.say(4, Barrier{1, "b", 1000}).size() == 4);
}

TEST_CASE("the end of the generation reaches every waiter and every rank, and refuses what comes later") {
  World world;
  world.enter(0);
  world.enter(1);
  world.state.on_connect(PeerId{9}, "10.6.6.6:1", Nonce{}, world.now);
  world.say(1, Barrier{1, "b", 1000});
  const std::string text = "the generation ended: generation 2 has ended: rank 1 exited with 3";
  CHECK(shown(world.state.end_generation("rank 1 exited with 3", world.now)) ==
        Lines{"1: failure 1 " + text, "1: ended 2 rank 1 exited with 3", "2: ended 2 rank 1 exited with 3"});
  CHECK(world.state.end_generation("again", world.now).empty());
  CHECK(world.say(2, Set{1, "k", {}}) == Lines{"2: failure 1 " + text});
  CHECK(world.enter(2).at(0) ==
        "3: failure 0 this generation has ended: rank 2 (gpu02) comes too late: generation 2 has "
        "ended: rank 1 exited with 3");
  CHECK(world.lose(1).empty());
  CHECK(world.say(2, Leave{}) == Lines{"2: close"});
}

TEST_CASE("a peer may not have endlessly many requests held back") {
  World world;
  world.enter_all();
  for (std::uint32_t request = 1; request <= kMaxOpenRequests; ++request) {
    REQUIRE(world.say(1, Get{request, "k", 1000}).empty());
  }
  CHECK(world.say(1, Get{9999, "k", 1000}) == Lines{"1: failure 9999 out of resources: rank 0 (gpu01) has 256 requests "
                                                    "with 256 bytes of keys waiting; the limits are "
                                                    "256 and 16777216"});
  CHECK(world.say(2, Get{1, "k", 1000}).empty());
  CHECK(world.say(2, Set{2, "k", {}}).size() == 1 + kMaxOpenRequests + 1);
}

TEST_CASE("a request of an unknown type is answered, a push of one is not") {
  World world;
  world.enter(0);
  CHECK(world.say(1, Unknown{40, 9}) ==
        Lines{"1: failure 9 not supported here: this rendezvous knows no request of type 40"});
  CHECK(world.say(1, Unknown{120, 0}).empty());
}

TEST_CASE("a world of one rank is complete at once and passes its barriers") {
  World world({"gpu01"});
  CHECK(world.enter(0) == Lines{"1: welcome", "complete"});
  CHECK(world.say(1, Barrier{1, "b", 1000}) == Lines{"1: done 1"});
  CHECK_FALSE(world.state.next_deadline());
}

}  // namespace rendezvous_world_state_test
