// What the world answers about its store, who is woken and who hears of changes; no socket.
#include <fmt/format.h>

#include "rendezvous/world_state.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/rendezvous_world.hpp"

namespace rendezvous_world_store_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;

TEST_CASE("compare-and-set swaps what is expected, and says what is there instead") {
  World world;
  world.enter_all();
  CHECK(world.say(1, CompareSet{1, "k", bytes_of("a"), bytes_of("b")}) == Lines{"1: compared 1 kept"});
  CHECK(world.say(1, CompareSet{2, "k", std::nullopt, bytes_of("a")}) == Lines{"1: compared 2 swapped"});
  CHECK(world.say(2, CompareSet{1, "k", std::nullopt, bytes_of("c")}) == Lines{"2: compared 1 kept a"});
  CHECK(world.say(2, CompareSet{2, "k", bytes_of("x"), bytes_of("c")}) == Lines{"2: compared 2 kept a"});
  CHECK(world.say(2, CompareSet{3, "k", bytes_of("a"), bytes_of("")}) == Lines{"2: compared 3 swapped"});
  CHECK(world.say(2, CompareSet{4, "k", Bytes(), bytes_of("d")}) == Lines{"2: compared 4 swapped"});
  CHECK(world.say(1, Get{3, "k", 0}) == Lines{"1: value 3 d"});
  CHECK(
      world.say(1, CompareSet{4, "k", Bytes(kMaxValueBytes), bytes_of("d")}) ==
      Lines{
          "1: failure 4 larger than the limit: the expected and the new value of key 'k' have 8388609 bytes together; "
          "the limit is 8388608"});
  CHECK(world.say(1, CompareSet{5, "", std::nullopt, {}}) == Lines{"1: failure 5 invalid value: an empty key"});
}

TEST_CASE("append begins a missing key and gives the length") {
  World world;
  world.enter_all();
  CHECK(world.say(1, Append{1, "log", bytes_of("ab")}) == Lines{"1: number 1 2"});
  CHECK(world.say(2, Append{1, "log", bytes_of("cde")}) == Lines{"2: number 1 5"});
  CHECK(world.say(1, Get{2, "log", 0}) == Lines{"1: value 2 abcde"});
  CHECK(world.say(1, Append{3, "log", Bytes(kMaxValueBytes)}) ==
        Lines{"1: failure 3 larger than the limit: the value of key 'log' has 8388613 bytes; the limit is 8388608"});
  CHECK(world.say(1, Get{4, "log", 0}) == Lines{"1: value 4 abcde"});
}

TEST_CASE("an answer on its way does not change when its key is appended to") {
  World world;
  world.enter_all();
  world.say(1, Set{1, "k", bytes_of("a")});
  const Actions answer = world.state.on_message(PeerId{2}, Get{1, "k", 0}, world.now);
  world.say(1, Append{2, "k", bytes_of("b")});
  CHECK(shown(answer) == Lines{"2: value 1 a"});
  CHECK(world.say(2, Get{2, "k", 0}) == Lines{"2: value 2 ab"});
}

TEST_CASE("compare-and-set and append wake those who wait for the key, a kept value wakes nobody") {
  World world;
  world.enter_all();
  CHECK(world.say(2, Get{1, "k", 1000}).empty());
  CHECK(world.say(3, Wait{1, 1000, {"k", "l"}}).empty());
  CHECK(world.say(1, CompareSet{1, "k", bytes_of("?"), bytes_of("v")}) == Lines{"1: compared 1 kept"});
  CHECK(world.say(1, CompareSet{2, "k", std::nullopt, bytes_of("v")}) ==
        Lines{"1: compared 2 swapped", "2: value 1 v"});
  CHECK(world.say(1, Append{3, "l", bytes_of("w")}) == Lines{"1: number 3 1", "3: done 1"});
}

TEST_CASE("delete says whether there was anything, and a later get waits") {
  World world;
  world.enter_all();
  world.say(1, Set{1, "k", bytes_of("v")});
  CHECK(world.say(2, Delete{1, "k"}) == Lines{"2: number 1 1"});
  CHECK(world.say(2, Delete{2, "k"}) == Lines{"2: number 2 0"});
  CHECK(world.say(3, Get{1, "k", 500}).empty());
  CHECK(world.say(1, Set{2, "k", bytes_of("w")}) == Lines{"1: done 2", "3: value 1 w"});
  CHECK(world.say(1, Delete{3, ""}) == Lines{"1: failure 3 invalid value: an empty key"});
}

TEST_CASE("a wait for several keys ends when all exist at once: a deleted one is waited for again") {
  World world;
  world.enter_all();
  world.say(1, Set{1, "a", bytes_of("1")});
  CHECK(world.say(2, Wait{1, 1000, {"a", "b", "a"}}).empty());
  CHECK(world.say(1, Delete{2, "a"}) == Lines{"1: number 2 1"});
  CHECK(world.say(1, Set{3, "b", bytes_of("1")}) == Lines{"1: done 3"});
  CHECK(world.say(1, Set{4, "b", bytes_of("2")}) == Lines{"1: done 4"});
  CHECK(world.say(1, Set{5, "a", bytes_of("2")}) == Lines{"1: done 5", "2: done 1"});
  CHECK(world.say(2, Wait{2, 1000, {"a", "c"}}).empty());
  world.say(1, Delete{6, "a"});
  CHECK(world.after(seconds(1)) == Lines{"2: failure 2 timed out: keys 'a', 'c' were not set within 1 s"});
}

TEST_CASE("keys are listed by prefix in byte order, page by page") {
  World world;
  world.enter_all();
  std::uint32_t request = 1;
  for (const char* key : {"b/2", "a", "b/1", "b", "b/10", "c"}) world.say(1, Set{request++, key, bytes_of("v")});
  CHECK(world.say(2, List{1, "", "", 100}) == Lines{"2: keys 1 a b b/1 b/10 b/2 c"});
  CHECK(world.say(2, List{2, "b/", "", 100}) == Lines{"2: keys 2 b/1 b/10 b/2"});
  CHECK(world.say(2, List{3, "b/", "", 2}) == Lines{"2: keys 3 b/1 b/10 …"});
  CHECK(world.say(2, List{4, "b/", "b/10", 2}) == Lines{"2: keys 4 b/2"});
  CHECK(world.say(2, List{5, "b/", "zz", 2}) == Lines{"2: keys 5"});
  CHECK(world.say(2, List{6, "d", "", 2}) == Lines{"2: keys 6"});
  CHECK(world.say(2, List{7, "b/", "", 0}) == Lines{"2: keys 7 b/1 …"});  // a page always goes on
  const std::string long_prefix(kMaxKeyBytes + 1, 'p');
  CHECK(world.say(2, List{8, long_prefix, "", 2})[0].find("failure 8 larger than the limit: prefix 'ppp") !=
        std::string::npos);
}

TEST_CASE("a list never outgrows its page, whatever the keys are") {
  World world;
  world.enter_all();
  for (std::uint32_t i = 0; i < 200; ++i)
    world.say(1, Set{i + 1, fmt::format("{:04}", i) + std::string(kMaxKeyBytes - 4, 'k'), {}});
  std::size_t seen = 0;
  std::string after;
  for (bool more = true; more;) {
    const Actions actions = world.state.on_message(PeerId{2}, List{1, "", after, 100'000}, world.now);
    const auto& page = std::get<Keys>(std::get<Send>(actions.at(0)).message);
    REQUIRE_FALSE(page.keys.empty());
    CHECK(encode(page).size() <= kMaxListBytes + kMaxListKeys * sizeof(std::uint32_t) + 64);
    seen += page.keys.size();
    after = page.keys.back();
    more = page.more;
  }
  CHECK(seen == 200);
}

TEST_CASE("a watcher hears of every change in order, of nothing before, and of nothing after its cancel") {
  World world;
  world.enter_all();
  world.say(1, Set{1, "k", bytes_of("old")});
  CHECK(world.say(2, Watch{9, false, "k"}) == Lines{"2: done 9"});
  CHECK(world.say(1, Set{2, "k", bytes_of("a")}) == Lines{"1: done 2", "2: change 9 k=a"});
  CHECK(world.say(1, Set{3, "kk", bytes_of("a")}) == Lines{"1: done 3"});
  CHECK(world.say(1, Append{4, "k", bytes_of("b")}) == Lines{"1: number 4 2", "2: change 9 k=ab"});
  CHECK(world.say(1, CompareSet{5, "k", bytes_of("?"), bytes_of("c")}) == Lines{"1: compared 5 kept ab"});
  CHECK(world.say(1, CompareSet{6, "k", bytes_of("ab"), bytes_of("1")}) ==
        Lines{"1: compared 6 swapped", "2: change 9 k=1"});
  CHECK(world.say(2, Add{3, "k", 4}) == Lines{"2: number 3 5", "2: change 9 k=5"});
  CHECK(world.say(1, Delete{7, "k"}) == Lines{"1: number 7 1", "2: change 9 k deleted"});
  CHECK(world.say(1, Delete{8, "k"}) == Lines{"1: number 8 0"});
  CHECK_FALSE(world.state.next_deadline());  // a watch has no time
  CHECK(world.say(2, Cancel{9}) == Lines{"2: failure 9 stopped on request: canceled by the client"});
  CHECK(world.say(1, Set{9, "k", bytes_of("z")}) == Lines{"1: done 9"});
}

TEST_CASE("a watched prefix holds for all keys that begin with it, and each watch counts by itself") {
  World world;
  world.enter_all();
  CHECK(world.say(2, Watch{1, true, "a/"}) == Lines{"2: done 1"});
  CHECK(world.say(3, Watch{1, true, ""}) == Lines{"3: done 1"});
  CHECK(world.say(2, Watch{2, false, "a/b"}) == Lines{"2: done 2"});
  CHECK(world.say(1, Set{1, "a/b", bytes_of("x")}) ==
        Lines{"1: done 1", "2: change 1 a/b=x", "3: change 1 a/b=x", "2: change 2 a/b=x"});
  CHECK(world.say(1, Set{2, "a", bytes_of("x")}) == Lines{"1: done 2", "3: change 1 a=x"});
  CHECK(world.say(3, Leave{})[0] == "3: close");
  CHECK(world.say(1, Set{3, "a/c", bytes_of("x")}) == Lines{"1: done 3", "2: change 1 a/c=x"});
  CHECK(world.say(2, Watch{3, false, ""}) == Lines{"2: failure 3 invalid value: an empty key"});
}

TEST_CASE("watches end with their generation and are counted like requests that wait") {
  World world;
  world.enter_all();
  for (std::uint32_t request = 1; request <= kMaxOpenRequests; ++request)
    REQUIRE(world.say(2, Watch{request, false, "k"}) == Lines{fmt::format("2: done {}", request)});
  CHECK(world.say(2, Watch{1000, false, "k"}) ==
        Lines{"2: failure 1000 out of resources: rank 1 (gpu01) has 256 requests with 256 bytes of keys waiting; the "
              "limits are 256 and 16777216"});
  CHECK(world.say(2, Watch{7, false, "k"})[0] ==
        "2: failure 0 the other side broke the protocol: request 7 is open already");
  World other;
  other.enter_all();
  other.say(2, Watch{7, true, ""});
  CHECK(shown(other.state.end_generation("rank 3 failed", other.now))[0] ==
        "2: failure 7 the generation ended: generation 2 has ended: rank 3 failed");
}

TEST_CASE("a watch whose peer is too slow ends with a reason, and its other watches go on") {
  World world;
  world.enter_all();
  world.say(2, Watch{1, true, "a"});
  world.say(2, Watch{2, true, "b"});
  CHECK(shown(world.state.on_slow_watcher(PeerId{2}, 1)) ==
        Lines{"2: failure 1 out of resources: rank 1 (gpu01) reads the changes of prefix 'a' more slowly than they are "
              "made: more than 16793728 bytes wait | watch fewer keys, or keep smaller values in them"});
  CHECK(world.state.on_slow_watcher(PeerId{2}, 1).empty());
  CHECK(world.state.on_slow_watcher(PeerId{77}, 1).empty());
  CHECK(world.say(1, Set{1, "a", bytes_of("x")}) == Lines{"1: done 1"});
  CHECK(world.say(1, Set{2, "b", bytes_of("x")}) == Lines{"1: done 2", "2: change 2 b=x"});
}

TEST_CASE("an observer has the store, and is no rank") {
  World world({"gpu01", "gpu02"});
  CHECK(world.look_in(50) == Lines{"50: welcome"});
  CHECK(world.state.joined() == 0);
  CHECK_FALSE(world.state.next_deadline());  // nobody has joined: no join clock runs
  CHECK(world.say(50, Set{1, "k", bytes_of("v")}) == Lines{"50: done 1"});
  CHECK(world.say(50, GetId{2, 0, 1000}).empty());
  CHECK(world.say(50, PublishId{3, 1, id_of(1)}) ==
        Lines{"50: failure 3 refused by the other side: an observer publishes no unique id: ranks do"});
  CHECK(world.say(50, Barrier{4, "b", 1000}) ==
        Lines{"50: failure 4 refused by the other side: an observer enters no barrier: it is for ranks"});
  CHECK(world.enter(0) == Lines{"1: welcome"});
  CHECK(world.enter(1) == Lines{"2: welcome", "complete"});
  CHECK(world.say(1, PublishId{1, 0, id_of(7)}) == Lines{"1: done 1", "50: id 2 7"});
  CHECK(world.say(1, Barrier{2, "b", 1000}).empty());
  CHECK(world.lose(50).empty());  // nobody's barrier fails, no rank is lost
  CHECK(world.say(2, Barrier{1, "b", 1000}) == Lines{"2: done 1", "1: done 2"});
}

TEST_CASE("observers are counted, and hear of the end like the others") {
  World world({"gpu01"});
  for (std::uint64_t i = 0; i < kMaxObservers; ++i) REQUIRE(world.look_in(50 + i).size() == 1);
  CHECK(world.look_in(99) ==
        Lines{"99: failure 0 out of resources: an observer (desk) is one too many: 16 observers are "
              "here, the limit",
              "99: close 10.0.0.9:5: an observer (desk) is one too many: 16 observers are here, the "
              "limit"});
  CHECK(world.say(50, Leave{}) == Lines{"50: close"});
  CHECK(world.look_in(100) == Lines{"100: welcome"});
  CHECK(shown(world.state.end_generation("over", world.now)).size() == kMaxObservers);
  CHECK(world.look_in(101)[0].find("an observer (desk) comes too late: generation 2 has ended: over") !=
        std::string::npos);
}

TEST_CASE("an observer proves the token of the same job and generation as a rank does") {
  World world({"gpu01"});
  Hello hello = world.hello(0);
  hello.rank = kNoRank;
  hello.host = "desk";
  CHECK(world.enter(50, hello, kOther)[0].find("50: failure 0 not authenticated") == 0);
  hello.job_id = "other";
  CHECK(world.enter(51, hello)[0].find("an observer (desk) belongs to job 'other'") != std::string::npos);
  hello.job_id = "job";
  hello.generation = Generation{1};
  CHECK(world.enter(52, hello)[0].find("an observer (desk) belongs to generation 1, which has ended") !=
        std::string::npos);
  hello.generation = Generation{2};
  hello.nccl_version = 1;  // says nothing about those of the ranks
  CHECK(world.enter(53, hello) == Lines{"53: welcome"});
}

TEST_CASE("a look at a key never waits, and a list has the bytes of each") {
  World world;
  world.enter_all();
  CHECK(world.look_in(9) == Lines{"9: welcome"});
  world.say(1, Set{1, "p/b", bytes_of("12345")});
  world.say(1, Set{2, "p/a", {}});
  world.say(1, Set{3, "q", bytes_of("1")});
  CHECK(world.say(9, Peek{1, Keyspace::native, "p/b"}) == Lines{"9: value 1 12345"});
  CHECK(world.say(9, Peek{2, Keyspace::native, "no"}) == Lines{"9: failure 2 not found: key 'no' is not set"});
  CHECK(world.say(9, Peek{3, Keyspace::native, ""}) == Lines{"9: failure 3 invalid value: an empty key"});
  CHECK(world.say(9, Entries{4, Keyspace::native, "p/", "", 100}) == Lines{"9: sizes 4 p/a:0 p/b:5"});
  CHECK(world.say(9, Entries{5, Keyspace::native, "", "p/a", 1}) == Lines{"9: sizes 5 p/b:5 …"});
  CHECK(world.say(9, Entries{6, Keyspace::native, std::string(kMaxKeyBytes + 1, 'k'), "", 1})
            .front()
            .starts_with("9: failure 6 larger than the limit: prefix "));
}

TEST_CASE("requests for PyTorch's keys go to its store, and nowhere when it is not served") {
  World world({"gpu01"}, true);
  world.enter_all();
  world.look_in(9);
  const Lines asks{"9 asks PyTorch's store"};
  CHECK(world.say(9, Set{1, "k", {}, Keyspace::pytorch}) == asks);
  CHECK(world.say(9, Add{2, "k", 1, Keyspace::pytorch}) == asks);
  CHECK(world.say(9, Delete{3, "k", Keyspace::pytorch}) == asks);
  CHECK(world.say(9, Peek{4, Keyspace::pytorch, "k"}) == asks);
  CHECK(world.say(9, Entries{5, Keyspace::pytorch, "", "", 9}) == asks);
  CHECK(world.say(9, Entries{6, Keyspace::native, "", "", 9}) == Lines{"9: sizes 6"});
  world.state.end_generation("done", world.now);
  CHECK(world.say(9, Peek{7, Keyspace::pytorch, "k"}).front().starts_with("9: failure 7 "));

  World without({"gpu01"});
  without.enter_all();
  const std::string no =
      " not supported: PyTorch's store is not served by this rendezvous | rank 0 has it where "
      "llmlaunch.rendezvous.use_agent_store is false";
  CHECK(without.say(1, Peek{1, Keyspace::pytorch, "k"}).front().ends_with(no.substr(no.find(':'))));
  CHECK(without.say(1, Watch{2, true, "", Keyspace::pytorch}).front().ends_with(no.substr(no.find(':'))));
  CHECK_FALSE(without.state.watches_pytorch());
}

TEST_CASE("a watch hears of the keys of its own store alone, until its peer goes") {
  World world({"gpu01"}, true);
  world.enter_all();
  world.look_in(9);
  CHECK_FALSE(world.state.watches_pytorch());
  CHECK(world.say(9, Watch{1, true, "k", Keyspace::pytorch}) == Lines{"9: done 1"});
  CHECK(world.state.watches_pytorch());
  CHECK(world.say(9, Watch{2, true, "k"}) == Lines{"9: done 2"});
  CHECK(world.say(1, Set{1, "k1", bytes_of("ours")}) == Lines{"1: done 1", "9: change 2 k1=ours"});
  const auto theirs = std::make_shared<const Bytes>(bytes_of("theirs"));
  CHECK(shown(world.state.on_pytorch_change("k2", theirs)) == Lines{"9: change 1 k2=theirs"});
  CHECK(shown(world.state.on_pytorch_change("k2", nullptr)) == Lines{"9: change 1 k2 deleted"});
  CHECK(shown(world.state.on_pytorch_change("other", theirs)).empty());
  world.lose(9);
  CHECK_FALSE(world.state.watches_pytorch());
  CHECK(shown(world.state.on_pytorch_change("k2", theirs)).empty());
}

}  // namespace rendezvous_world_store_test
