// TCPStore's decisions: what each command answers, who waits for what, and what a peer that asks too much loses.
#include "rendezvous/tcpstore_state.hpp"

#include <fmt/format.h>

#include <functional>

#include "tests/support/catch.hpp"

namespace rendezvous_tcpstore_state_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using namespace llmlaunch::rendezvous::tcpstore;

namespace {

Bytes value(std::string_view text) {
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

// Actions as text: "1:i64(3)", "2:[0]", "1:value(abc)", "3 closed: …".
std::string shown(const StoreActions& actions) {
  std::string text;
  for (const StoreAction& action : actions) {
    if (!text.empty()) text += " ";
    if (const auto* closed = std::get_if<Hangup>(&action)) {
      text += fmt::format("{} closed{}: {}", static_cast<std::uint64_t>(closed->peer),
                          closed->at_fault ? " at fault" : "", closed->reason.what);
      continue;
    }
    if (const auto* change = std::get_if<Changed>(&action)) {
      text += change->key + (change->value ? "=" + std::string(as_text(*change->value)) : " deleted");
      continue;
    }
    const auto& sent = std::get<Answer>(action);
    const auto peer = static_cast<std::uint64_t>(sent.peer);
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < sent.bytes.size(); ++i)
      number |= std::to_integer<std::uint64_t>(sent.bytes[i]) << (8 * i);
    if (sent.value) {
      CHECK(number == sent.value->size());
      text += fmt::format("{}:value({})", peer, as_text(*sent.value));
    } else if (sent.bytes.size() == 8) {
      text += fmt::format("{}:{}", peer, static_cast<std::int64_t>(number));
    } else {
      text += fmt::format("{}:u{}({})", peer, 8 * sent.bytes.size(), number);
    }
  }
  return text;
}

struct Bench {
  explicit Bench(Limits limits = {}, int peers = 3) : state(limits) {
    for (int i = 1; i <= peers; ++i) CHECK(join(i).empty());
  }
  std::string join(int peer) {
    std::string text = shown(state.on_connect(PeerId(peer), fmt::format("10.0.0.{}:1", peer)));
    return text + say(peer, {Verb::validate, {}, {}, kMagic});
  }
  std::string say(int peer, Command command) { return shown(state.on_command(PeerId(peer), std::move(command))); }
  std::string set(int peer, std::string key, std::string_view text) {
    return say(peer, {Verb::set, {std::move(key)}, {value(text)}});
  }
  std::string get(int peer, std::string key) { return say(peer, {Verb::get, {std::move(key)}, {}}); }
  std::string add(int peer, std::string key, std::int64_t delta) {
    return say(peer, {Verb::add, {std::move(key)}, {}, delta});
  }
  std::string wait(int peer, std::vector<std::string> keys) { return say(peer, {Verb::wait, std::move(keys), {}}); }
  std::string check(int peer, std::vector<std::string> keys) { return say(peer, {Verb::check, std::move(keys), {}}); }
  std::string cancel(int peer) { return say(peer, {Verb::cancel_wait, {}, {}}); }
  std::string compare_set(int peer, std::string_view expected, std::string_view desired) {
    return say(peer, {Verb::compare_set, {"c"}, {value(expected), value(desired)}});
  }
  std::string append(int peer, std::string_view text) { return say(peer, {Verb::append, {"log"}, {value(text)}}); }
  std::string push(int peer, std::string_view text) { return say(peer, {Verb::queue_push, {"q"}, {value(text)}}); }
  std::string pop(int peer) { return say(peer, {Verb::queue_pop, {"q"}, {}}); }
  std::string length(int peer) { return say(peer, {Verb::queue_len, {"q"}, {}}); }
  std::string keys(int peer) { return say(peer, {Verb::num_keys, {}, {}}); }
  std::string barrier(int peer, std::int64_t peers) { return say(peer, {Verb::barrier, {"b"}, {}, peers}); }
  std::string drop(int peer) { return shown(state.on_disconnect(PeerId(peer))); }

  State state;
};

}  // namespace

TEST_CASE("each TCPStore command answers as PyTorch's own server does") {
  Bench bench;
  CHECK(bench.keys(1) == "1:0");
  CHECK(bench.get(1, "a") == "1:0");  // the head of an empty value
  CHECK(bench.set(1, "a", "1").empty());
  CHECK(bench.get(2, "a") == "2:value(1)");
  CHECK(bench.add(2, "a", 41) == "2:42");
  CHECK(bench.get(1, "a") == "1:value(42)");
  CHECK(bench.add(1, "n", -3) == "1:-3");
  CHECK(bench.check(1, {"a", "n"}) == "1:u8(0)");
  CHECK(bench.check(1, {"a", "no"}) == "1:u8(1)");
  CHECK(bench.check(1, {}) == "1:u8(0)");
  CHECK(bench.keys(3) == "3:2");
  CHECK(bench.say(1, {Verb::delete_key, {"a"}, {}}) == "1:1");
  CHECK(bench.say(1, {Verb::delete_key, {"a"}, {}}) == "1:0");
  CHECK(bench.say(1, {Verb::ping, {}, {}, 7}) == "1:u32(7)");
  CHECK(bench.say(1, {Verb::multi_set, {"x", "y"}, {value("1"), value("2")}}).empty());
  CHECK(bench.say(2, {Verb::multi_get, {"y", "no", "x"}, {}}) == "2:value(2) 2:0 2:value(1)");
  CHECK(bench.append(1, "po").empty());
  CHECK(bench.append(2, "tato").empty());
  CHECK(bench.get(1, "log") == "1:value(potato)");
}

TEST_CASE("LIST_KEYS has each key once, and no queue") {
  Bench bench;
  const auto list = [&] {
    const auto actions = bench.state.on_command(PeerId(1), {Verb::list_keys, {}, {}});
    REQUIRE(actions.size() == 1);
    return std::get<Answer>(actions[0]).bytes;
  };
  CHECK(list() == answer_i64(0));
  bench.set(1, "key", "v");
  bench.push(1, "v");
  Bytes expected = answer_i64(1);
  for (const Bytes& part : {answer_value_head(3), value("key")})
    expected.insert(expected.end(), part.begin(), part.end());
  CHECK(list() == expected);
  bench.set(1, "", "v");
  CHECK(list().size() == expected.size() + answer_value_head(0).size());
}

TEST_CASE("LIST_KEYS of more than its answer may have is refused") {
  Bench bench;
  for (std::size_t i = 0; i < kMaxKeyListBytes / tcpstore::kMaxKeyBytes; ++i) {
    std::string key(tcpstore::kMaxKeyBytes, 'x');
    key.replace(0, 8, fmt::format("{:08}", i));
    REQUIRE(bench.set(1, key, "").empty());
  }
  CHECK(bench.say(2, {Verb::list_keys, {}, {}}) ==
        "2 closed at fault: the store's 4096 keys are 33587208 bytes in a list; the limit is 33554432");
}

TEST_CASE("a BARRIER lets all go when the last one has come") {
  Bench bench;
  CHECK(bench.barrier(1, 3).empty());
  CHECK(bench.get(3, "b") == "3:value(1)");
  CHECK(bench.check(3, {"b"}) == "3:u8(0)");
  CHECK(bench.barrier(2, 3).empty());
  CHECK(bench.state.waits() == 2);
  CHECK(bench.barrier(3, 3) == "1:u8(0) 2:u8(0) 3:u8(0)");
  CHECK(bench.state.waits() == 0);
  CHECK(bench.barrier(1, 3) == "1:u8(0)");  // it goes on counting, as PyTorch's does
  CHECK(bench.get(3, "b") == "3:value(4)");
}

TEST_CASE("who waits for a BARRIER's key is woken with it, and whatever is written to the key wakes all") {
  Bench bench;
  CHECK(bench.wait(1, {"b"}).empty());
  CHECK(bench.barrier(2, 2).empty());
  CHECK(bench.state.waits() == 2);
  CHECK(bench.barrier(3, 2) == "1:u8(0) 2:u8(0) 3:u8(0)");
  CHECK(bench.set(3, "b", "0").empty());
  for (const auto& write : std::vector<std::function<std::string()>>{
           [&] { return bench.set(3, "b", "0"); }, [&] { return bench.add(3, "b", -1); },
           [&] {
             return bench.say(3, {Verb::append, {"b"}, {value("0")}});
           }}) {
    CHECK(bench.barrier(1, 1000).empty());
    CHECK(write().starts_with("1:u8(0)"));
    CHECK(bench.state.waits() == 0);
  }
}

TEST_CASE("who leaves a BARRIER or cancels it stays counted, as with PyTorch's") {
  Bench bench;
  CHECK(bench.barrier(1, 3).empty());
  CHECK(bench.barrier(2, 3).empty());
  CHECK(bench.cancel(1) == "1:u8(1)");
  CHECK(bench.drop(2).empty());
  CHECK(bench.state.waits() == 0);
  CHECK(bench.barrier(3, 3) == "3:u8(0)");
  CHECK(bench.barrier(3, 0) == "3:u8(0)");
  CHECK(bench.barrier(3, -1) == "3:u8(0)");
}

TEST_CASE("a BARRIER on a word ends its connection, and the word stays") {
  Bench bench;
  bench.set(1, "b", "word");
  CHECK(bench.barrier(2, 1) == "2 closed at fault: cannot add to key 'b': its value 'word' is not a number");
  CHECK(bench.get(1, "b") == "1:value(word)");
}

TEST_CASE("COMPARE_SET answers what is stored, and what was expected or desired of a missing key") {
  Bench bench;
  CHECK(bench.compare_set(1, "old", "new") == "1:value(old)");
  CHECK(bench.check(1, {"c"}) == "1:u8(1)");
  CHECK(bench.compare_set(1, "", "first") == "1:value(first)");
  CHECK(bench.compare_set(2, "wrong", "second") == "2:value(first)");
  CHECK(bench.compare_set(2, "first", "second") == "2:value(second)");
}

TEST_CASE("a WAIT is answered by the last of its keys, whoever brings it and how") {
  Bench bench;
  CHECK(bench.wait(1, {"a", "b", "a"}).empty());
  CHECK(bench.wait(2, {"b"}).empty());
  CHECK(bench.set(3, "a", "").empty());
  CHECK(bench.add(3, "b", 1) == "1:u8(0) 2:u8(0) 3:1");
  CHECK(bench.state.waits() == 0);
  CHECK(bench.wait(1, {"a", "b"}) == "1:u8(0)");
  CHECK(bench.wait(1, {}) == "1:u8(0)");
  CHECK(bench.wait(1, {"c"}).empty());
  CHECK(bench.compare_set(2, "", "x") == "1:u8(0) 2:value(x)");
  CHECK(bench.wait(1, {"log"}).empty());
  CHECK(bench.append(2, "x") == "1:u8(0)");
  CHECK(bench.wait(1, {"m"}).empty());
  CHECK(bench.say(2, {Verb::multi_set, {"m"}, {value("x")}}) == "1:u8(0)");
}

TEST_CASE("CANCEL_WAIT ends the wait, is always answered, and the connection goes on") {
  Bench bench;
  CHECK(bench.wait(1, {"a", "b"}).empty());
  CHECK(bench.cancel(1) == "1:u8(1)");
  CHECK(bench.state.waits() == 0);
  CHECK(bench.set(2, "a", "1").empty());
  CHECK(bench.set(2, "b", "1").empty());
  CHECK(bench.get(1, "a") == "1:value(1)");
  // The answer was on its way already.
  CHECK(bench.wait(1, {"late"}).empty());
  CHECK(bench.set(2, "late", "1") == "1:u8(0)");
  CHECK(bench.cancel(1) == "1:u8(1)");
}

TEST_CASE("waits that were cancelled take no memory, however often that is") {
  Bench bench;
  CHECK(bench.wait(2, {"never"}).empty());
  for (int i = 0; i < 10'000; ++i) {
    bench.wait(1, {"never", "again"});
    bench.cancel(1);
  }
  CHECK(bench.state.waits() == 1);
  CHECK(bench.set(3, "never", "") == "2:u8(0)");
}

TEST_CASE("a connection that goes takes its wait with it") {
  Bench bench;
  CHECK(bench.wait(1, {"a"}).empty());
  CHECK(bench.drop(1).empty());
  CHECK(bench.state.waits() == 0);
  CHECK(bench.set(2, "a", "1").empty());
  CHECK(bench.drop(1).empty());
  CHECK(bench.state.connections() == 2);
}

TEST_CASE("queues are first in, first out, and count as keys that are there") {
  Bench bench;
  CHECK(bench.length(1) == "1:0");
  CHECK(bench.pop(1) == "1:0");
  CHECK(bench.push(1, "a").empty());
  CHECK(bench.push(1, "b").empty());
  CHECK(bench.length(2) == "2:2");
  CHECK(bench.check(2, {"q"}) == "2:u8(0)");
  CHECK(bench.wait(2, {"q"}) == "2:u8(0)");
  CHECK(bench.pop(2) == "2:2 2:value(a)");
  CHECK(bench.pop(3) == "3:1 3:value(b)");
  CHECK(bench.check(2, {"q"}) == "2:u8(1)");
  CHECK(bench.state.bytes() == 0);
}

TEST_CASE("a value in a queue wakes one who waits, in the order of coming") {
  Bench bench;
  CHECK(bench.wait(1, {"q"}).empty());
  CHECK(bench.wait(2, {"q"}).empty());
  CHECK(bench.push(3, "a") == "1:u8(0)");
  CHECK(bench.push(3, "b") == "2:u8(0)");
  CHECK(bench.pop(2) == "2:2 2:value(a)");
  CHECK(bench.pop(1) == "1:1 1:value(b)");
}

TEST_CASE("who was woken for a queue and does not take from it leaves that to the next one") {
  Bench bench;
  CHECK(bench.wait(1, {"q"}).empty());
  CHECK(bench.wait(2, {"q"}).empty());
  CHECK(bench.push(3, "a") == "1:u8(0)");
  SECTION("it goes") {
    CHECK(bench.drop(1) == "2:u8(0)");
  }
  SECTION("it asks for something else") {
    CHECK(bench.keys(1) == "2:u8(0) 1:0");
  }
  SECTION("it does what cannot be") {
    CHECK(bench.say(1, {Verb::validate, {}, {}, kMagic}) == "2:u8(0) 1 closed at fault: a second VALIDATE");
  }
  CHECK(bench.pop(2) == "2:1 2:value(a)");
}

TEST_CASE("who waits for a queue and a key takes no value from who waits for the queue alone") {
  Bench bench;
  CHECK(bench.wait(1, {"k", "q"}).empty());
  CHECK(bench.wait(2, {"q"}).empty());
  CHECK(bench.push(3, "a") == "2:u8(0)");
  CHECK(bench.set(3, "k", "") == "1:u8(0)");
  CHECK(bench.state.waits() == 0);
}

TEST_CASE("a TCPStore peer that does what cannot be loses its connection, and nobody else") {
  const std::string beyond = "18446744073709551616";
  struct Row {
    std::string what;
    std::function<std::string(Bench&)> act;
    std::string expected;
  };
  const std::vector<Row> rows{
      {"a sum of text",
       [](Bench& b) {
         b.set(2, "t", "x");
         return b.add(1, "t", 1);
       },
       "1 closed at fault: cannot add to key 't': its value 'x' is not a number"},
      {"a sum that does not fit",
       [](Bench& b) {
         b.add(2, "n", INT64_MAX);
         return b.add(1, "n", 1);
       },
       "1 closed at fault: cannot add 1 to key 'n': the sum does not fit 64 bits"},
      {"a number that does not fit",
       [&](Bench& b) {
         b.set(2, "n", beyond);
         return b.add(1, "n", 1);
       },
       "1 closed at fault: cannot add to key 'n': its value '18446744073709551616' is not a number"},
      {"a second handshake",
       [](Bench& b) {
         return b.say(1, {Verb::validate, {}, {}, kMagic});
       },
       "1 closed at fault: a second VALIDATE"},
      {"a request while another waits",
       [](Bench& b) {
         b.wait(1, {"no"});
         return b.get(1, "x");
       },
       "1 closed at fault: GET while its WAIT is open"},
      {"too many keys",
       [](Bench& b) {
         for (int i = 0; i < 4; ++i) b.set(2, fmt::format("k{}", i), "");
         return b.set(1, "k4", "");
       },
       "1 closed at fault: the store holds 4 keys, its limit; key 'k4' is one too many"},
      {"too many bytes", [](Bench& b) { return b.set(1, "k", std::string(1000, 'x')); },
       "1 closed at fault: the store would hold 1065 bytes with key 'k'; the limit is 1000"},
      {"too long a queue",
       [](Bench& b) {
         b.push(2, "1");
         b.push(2, "2");
         return b.push(1, "3");
       },
       "1 closed at fault: queue 'q' has 2 values, its limit"},
      {"waits for too many keys",
       [](Bench& b) {
         b.wait(2, {"x"});
         return b.wait(1, {"a", "b", "c"});
       },
       "1 closed at fault: it waits for 3 keys; with those that others wait for the limit is 3"},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    Limits limits;
    limits.keys = 4;
    limits.bytes = 1000;
    limits.queue_length = 2;
    limits.waits = 3;
    Bench bench(limits);
    CHECK(row.act(bench) == row.expected);
    CHECK(bench.say(3, {Verb::ping, {}, {}, 1}) == "3:u32(1)");
    CHECK(bench.get(1, "k").empty());  // it is gone
    CHECK(bench.drop(1).empty());
  }
}

TEST_CASE("an APPEND leaves alone what is on its way to others, and stays within the limits") {
  Bench bench;
  bench.append(1, "a");
  const StoreActions before = bench.state.on_command(PeerId(2), {Verb::get, {"log"}, {}});
  bench.append(1, "b");
  CHECK(shown(before) == "2:value(a)");
  CHECK(bench.get(2, "log") == "2:value(ab)");
  bench.append(1, std::string(tcpstore::kMaxValueBytes - 2, 'x'));
  CHECK(bench.append(1, "y") == "1 closed at fault: key 'log' would have 8388609 bytes; the limit is 8388608");
}

TEST_CASE("the store's bytes are what its keys, values and queues take, and nothing stays") {
  Bench bench;
  bench.set(1, "key", "12345");
  CHECK(bench.state.bytes() == 8 + kEntryOverhead);
  bench.set(1, "key", "1");
  CHECK(bench.state.bytes() == 4 + kEntryOverhead);
  bench.append(1, "abc");
  bench.push(1, "abc");
  bench.say(1, {Verb::delete_key, {"key"}, {}});
  bench.say(1, {Verb::delete_key, {"log"}, {}});
  bench.pop(1);
  CHECK(bench.state.bytes() == 0);
  CHECK(bench.state.keys() == 0);
}

TEST_CASE("a stream that does not begin with VALIDATE is ended with a word about old releases") {
  for (const Command& first : {Command{Verb::get, {"init/"}, {}}, Command{Verb::validate, {}, {}, 5}}) {
    Bench bench({}, 0);
    bench.state.on_connect(PeerId(1), "10.0.0.1:1");
    const StoreActions actions = bench.state.on_command(PeerId(1), first);
    REQUIRE(actions.size() == 1);
    const Error& reason = std::get<Hangup>(actions[0]).reason;
    CHECK(to_string(reason) ==
          "10.0.0.1:1: its first command is no VALIDATE; it may be a PyTorch before 2.1, which speaks another dialect\n"
          "   hint: set llmlaunch.rendezvous.use_agent_store: false, and rank 0 makes PyTorch's store itself");
  }
}

TEST_CASE("a TCPStore peer that says nothing in time is closed, and one that did is not") {
  Bench bench({}, 1);
  bench.state.on_connect(PeerId(2), "10.0.0.2:1");
  CHECK(shown(bench.state.on_late(PeerId(1))).empty());
  CHECK(shown(bench.state.on_late(PeerId(2))) == "2 closed: no handshake within 10 s");
  CHECK(shown(bench.state.on_late(PeerId(2))).empty());
}

TEST_CASE("when all connections are taken, the oldest that has not shaken hands makes room") {
  Limits limits;
  limits.connections = 2;
  Bench bench(limits, 1);
  CHECK(shown(bench.state.on_connect(PeerId(2), "10.0.0.2:1")).empty());
  CHECK(bench.join(3) == "2 closed: others need its connection");
  CHECK(shown(bench.state.on_connect(PeerId(4), "10.0.0.4:1")) ==
        "4 closed at fault: the store serves 2 connections, its limit");
  CHECK(bench.state.connections() == 2);
}

TEST_CASE("the end closes all TCPStore connections, those that wait too, and whoever comes later") {
  Bench bench;
  bench.wait(1, {"never"});
  bench.wait(2, {"q"});
  bench.push(3, "x");
  CHECK(shown(bench.state.end("rank 1 failed")) ==
        "1 closed: rank 1 failed 2 closed: rank 1 failed 3 closed: rank 1 failed");
  CHECK(bench.state.connections() == 0);
  CHECK(bench.state.waits() == 0);
  CHECK(shown(bench.state.end("again")).empty());
  CHECK(shown(bench.state.on_connect(PeerId(9), "10.0.0.9:1")) == "9 closed: rank 1 failed");
}

namespace {

// "done", "number 3", "value x", "not found: …", "sizes a:3 q:2/2 …": the answer to a request of the native dialect,
// and what follows from it.
std::string ask(State& state, Message request) {
  const auto [reply, actions] = state.on_request(std::move(request));
  std::string text = "?";
  if (std::holds_alternative<Done>(reply)) text = "done";
  if (const auto* number = std::get_if<Number>(&reply)) text = fmt::format("number {}", number->value);
  if (const auto* found = std::get_if<rendezvous::Value>(&reply))
    text = fmt::format("value {}", as_text(*found->value));
  if (const auto* refused = std::get_if<Failure>(&reply))
    text = fmt::format("{}: {}", make_error_code(refused->code).message(), refused->what);
  if (const auto* sizes = std::get_if<Sizes>(&reply)) {
    text = "sizes";
    for (const StoreEntry& entry : sizes->entries)
      text += fmt::format(" {}:{}{}", entry.key, entry.bytes, entry.queued ? fmt::format("/{}", entry.queued) : "");
    if (sizes->more) text += " …";
  }
  const std::string more = shown(actions);
  return more.empty() ? text : text + " | " + more;
}

}  // namespace

TEST_CASE("who looks in by the native dialect sees TCPStore's keys, and changes them as a peer does") {
  Bench bench;
  bench.set(1, "default_pg/0//a", "123");
  bench.set(1, "default_pg/0//b", "");
  bench.push(1, "x");
  bench.push(1, "yz");
  CHECK(ask(bench.state, Entries{1, Keyspace::pytorch, "", "", 100}) ==
        "sizes default_pg/0//a:3 default_pg/0//b:0 q:3/2");
  CHECK(ask(bench.state, Entries{1, Keyspace::pytorch, "default_pg/", "default_pg/0//a", 100}) ==
        "sizes default_pg/0//b:0");
  CHECK(ask(bench.state, Entries{1, Keyspace::pytorch, "", "", 2}) == "sizes default_pg/0//a:3 default_pg/0//b:0 …");
  CHECK(ask(bench.state, Peek{1, Keyspace::pytorch, "default_pg/0//a"}) == "value 123");
  CHECK(ask(bench.state, Peek{1, Keyspace::pytorch, "no"}) == "not found: key 'no' is not set");
  CHECK(ask(bench.state, Peek{1, Keyspace::pytorch, "q"}) ==
        make_error_code(Errc::invalid_argument).message() +
            ": key 'q' is a queue of 2 values, which belong to who takes them out");
  CHECK(bench.wait(2, {"go"}).empty());
  CHECK(ask(bench.state, Set{1, "go", value("now"), Keyspace::pytorch}) == "done | 2:u8(0)");
  CHECK(bench.get(3, "go") == "3:value(now)");
  CHECK(ask(bench.state, Add{1, "n", 5, Keyspace::pytorch}) == "number 5");
  CHECK(ask(bench.state, Add{1, "n", -7, Keyspace::pytorch}) == "number -2");
  CHECK(bench.get(3, "n") == "3:value(-2)");
  CHECK(ask(bench.state, Delete{1, "go", Keyspace::pytorch}) == "number 1");
  CHECK(ask(bench.state, Delete{1, "go", Keyspace::pytorch}) == "number 0");
  CHECK(bench.check(3, {"go"}) == "3:u8(1)");
}

TEST_CASE("what cannot be is refused to who looks in, and costs no peer anything") {
  Limits small;
  small.keys = 1;
  Bench bench(small);
  bench.set(1, "a", "text");
  CHECK(ask(bench.state, Set{1, "b", {}, Keyspace::pytorch}) ==
        make_error_code(Errc::out_of_resources).message() +
            ": the store holds 1 keys, its limit; key 'b' is one too many");
  const std::string invalid = make_error_code(Errc::invalid_argument).message();
  CHECK(ask(bench.state, Add{1, "a", 1, Keyspace::pytorch}) ==
        invalid + ": cannot add to key 'a': its value 'text' is not a number");
  CHECK(ask(bench.state, Set{1, "", {}, Keyspace::pytorch}) == invalid + ": an empty key");
  CHECK(ask(bench.state, Get{1, "a", 0}) ==
        make_error_code(Errc::unsupported).message() + ": PyTorch's store has no such request");
  CHECK(ask(bench.state, Set{1, "a", Bytes(tcpstore::kMaxValueBytes + 1), Keyspace::pytorch}).find("8388609") !=
        std::string::npos);
  CHECK(bench.get(1, "a") == "1:value(text)");
  CHECK(bench.state.connections() == 3);
}

TEST_CASE("changes are told while somebody watches, each with what the key has then") {
  Bench bench;
  CHECK(bench.set(1, "a", "0").empty());
  bench.state.observe(true);
  CHECK(bench.set(1, "a", "1") == "a=1");
  CHECK(bench.add(1, "a", 2) == "a=3 1:3");
  CHECK(bench.append(1, "x") == "log=x");
  CHECK(bench.append(1, "y") == "log=xy");
  CHECK(bench.compare_set(1, "", "new") == "c=new 1:value(new)");
  CHECK(bench.compare_set(1, "other", "x") == "1:value(new)");
  CHECK(bench.say(1, {Verb::multi_set, {"m", "n"}, {value("1"), value("2")}}) == "m=1 n=2");
  CHECK(bench.say(1, {Verb::delete_key, {"a"}, {}}) == "a deleted 1:1");
  CHECK(bench.say(1, {Verb::delete_key, {"a"}, {}}) == "1:0");
  CHECK(ask(bench.state, Set{1, "a", value("4"), Keyspace::pytorch}) == "done | a=4");
  CHECK(bench.push(1, "queued").empty());
  bench.state.observe(false);
  CHECK(bench.set(1, "a", "5").empty());
}

TEST_CASE("a change that was told keeps its value when the key is appended to") {
  Bench bench;
  bench.state.observe(true);
  bench.append(1, "a");
  const StoreActions told = bench.state.on_command(PeerId(1), {Verb::append, {"log"}, {value("b")}});
  bench.append(1, "c");
  CHECK(shown(told) == "log=ab");
  CHECK(bench.get(1, "log") == "1:value(abc)");
}

}  // namespace rendezvous_tcpstore_state_test
