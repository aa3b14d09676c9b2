// TCPStore over real sockets, beside the native protocol on the same port: who is served, and what a peer can cost.

#include "rendezvous/tcpstore_codec.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/raw_peer.hpp"
#include "tests/support/rendezvous_fixture.hpp"

namespace rendezvous_tcpstore_server_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using tcpstore::Verb;

namespace {

ServerOptions with_store() {
  ServerOptions options = ServedRendezvous::world_of(2);
  options.tcpstore = true;
  return options;
}

void admit(ServedRendezvous& served, const char* address) {
  served.on_thread([&served, address] {
    AddressList list;
    REQUIRE(list.add(address));
    served.server().admit_store_clients(list);
  });
}

// A TCPStore client, command by command.
struct StorePeer {
  explicit StorePeer(ServedRendezvous& served) : peer(served.port()) {}

  void greet() { say({Verb::validate, {}, {}, tcpstore::kMagic}); }
  void say(const tcpstore::Command& command) { peer.send(tcpstore::encode(command)); }
  std::string hear(std::size_t bytes) { return peer.receive(bytes); }
  bool is_closed() { return hear(1).empty(); }
  bool works() {
    say({Verb::ping, {}, {}, 0x64636261});
    return hear(4) == "abcd";
  }

  RawPeer peer;
};

Bytes bytes_of(std::string_view text) {
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

}  // namespace

TEST_CASE("TCPStore and the native protocol are served on one port, each with keys of its own") {
  ServedRendezvous served(with_store());
  admit(served, "127.0.0.0/8");
  StorePeer peer(served);
  for (const std::byte byte : tcpstore::encode({Verb::validate, {}, {}, tcpstore::kMagic}))
    peer.peer.send(ByteView(&byte, 1));
  peer.say({Verb::set, {"key"}, {bytes_of("theirs")}});
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  CHECK((*client)->set("key", as_bytes("ours")));
  peer.say({Verb::get, {"key"}, {}});
  CHECK(peer.hear(14) == std::string("\6\0\0\0\0\0\0\0theirs", 14));
  CHECK(as_text(*(*client)->get("key")) == "ours");
  peer.say({Verb::num_keys, {}, {}});
  CHECK(peer.hear(8) == std::string("\1\0\0\0\0\0\0\0", 8));
}

TEST_CASE("TCPStore peers wait for each other, and a wait ends with its generation") {
  ServedRendezvous served(with_store());
  admit(served, "127.0.0.1");
  StorePeer one(served), other(served);
  one.greet();
  other.greet();
  one.say({Verb::wait, {"key"}, {}});
  other.say({Verb::add, {"key"}, {}, 1});
  CHECK(one.hear(1) == std::string(1, '\0'));
  one.say({Verb::wait, {"never"}, {}});
  CHECK(other.hear(8).size() == 8);
  CHECK(other.works());
  served.on_thread([&served] { served.server().end_generation("rank 1 failed"); });
  CHECK(one.is_closed());
  CHECK(other.is_closed());
  StorePeer late(served);
  late.greet();
  CHECK(late.is_closed());
}

TEST_CASE("TCPStore is served to nobody but those who were admitted, and who is refused is named") {
  ServedRendezvous served(with_store());
  StorePeer early(served);  // no rank runs yet
  early.greet();
  CHECK(early.is_closed());
  admit(served, "10.9.9.9");
  StorePeer stranger(served);
  stranger.greet();
  CHECK(stranger.is_closed());
  CHECK(served.log().wait_for(LogLevel::warning, "127.0.0.1") ==
        "rendezvous: PyTorch's store: refused a connection from 127.0.0.1, which is no address of the job's hosts\n"
        "   hint: when a rank comes from there (another network, NAT), add it to llmlaunch.rendezvous.allow_from");
  admit(served, "127.0.0.1");
  StorePeer known(served);
  known.greet();
  CHECK(known.works());
}

TEST_CASE("who is refused by a server of both families is named by the address that a person would write") {
  ServerOptions options = with_store();
  options.bind_address.clear();
  ServedRendezvous served(std::move(options));
  admit(served, "10.9.9.9");
  StorePeer stranger(served);
  stranger.greet();
  CHECK(stranger.is_closed());
  served.log().wait_for(LogLevel::warning, "refused a connection from 127.0.0.1, which");
  admit(served, "127.0.0.1");
  StorePeer known(served);
  known.greet();
  CHECK(known.works());
}

TEST_CASE("a TCPStore peer whose answers would fill the head's memory loses its connection, and others do not") {
  ServedRendezvous served(with_store());
  admit(served, "127.0.0.1");
  StorePeer greedy(served), modest(served);
  modest.greet();
  modest.say({Verb::set, {"large"}, {Bytes(tcpstore::kMaxValueBytes)}});
  CHECK(modest.works());
  greedy.greet();
  greedy.say({Verb::multi_get, std::vector<std::string>(100, "large"), {}});
  served.log().wait_for(LogLevel::warning, "bytes wait for it, the limit");
  CHECK(modest.works());
}

TEST_CASE("a TCPStore peer that does not read is read no further, and works when it does") {
  ServedRendezvous served(with_store());
  admit(served, "127.0.0.1");
  StorePeer slow(served), other(served);
  other.greet();
  slow.greet();
  slow.say({Verb::set, {"large"}, {Bytes(tcpstore::kMaxValueBytes)}});
  constexpr int kAnswers = 20;  // 160 MiB, more than may ever wait
  for (int i = 0; i < kAnswers; ++i) slow.say({Verb::get, {"large"}, {}});
  CHECK(other.works());
  for (int i = 0; i < kAnswers; ++i)
    CHECK(slow.hear(8 + tcpstore::kMaxValueBytes).size() == 8 + tcpstore::kMaxValueBytes);
  CHECK(slow.works());
}

TEST_CASE("without TCPStore its clients are malformed peers of the native protocol") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  admit(served, "127.0.0.1");
  StorePeer peer(served);
  peer.greet();
  const std::string answer = peer.hear(1 << 16);
  CHECK(answer.size() > 4);
  CHECK(answer.find("the first bytes are not") != std::string::npos);
}

TEST_CASE("an observer sees, sets and watches the keys of TCPStore's peers by the native protocol") {
  ServedRendezvous served(with_store());
  admit(served, "127.0.0.1");
  StorePeer peer(served);
  peer.greet();
  ClientOptions options = served.client(0);
  options.observer = true;
  auto observer = Client::join(options);
  REQUIRE(observer);
  auto watcher = (*observer)->watch_prefix("", Keyspace::pytorch);
  REQUIRE(watcher);
  peer.say({Verb::set, {"default_pg/0"}, {bytes_of("theirs")}});
  const auto change = (*watcher)->next(std::chrono::seconds(60));
  REQUIRE(change);
  CHECK(change->key == "default_pg/0");
  CHECK(as_text(change->value.value()) == "theirs");
  const auto entries = (*observer)->entries("", "", Keyspace::pytorch);
  REQUIRE(entries);
  CHECK(entries->entries == std::vector<StoreEntry>{{"default_pg/0", 6, 0}});
  CHECK((*observer)->entries("")->entries.empty());
  CHECK(as_text((*observer)->peek("default_pg/0", Keyspace::pytorch)->value()) == "theirs");
  CHECK((*observer)->peek("default_pg/0")->has_value() == false);
  peer.say({Verb::queue_push, {"q"}, {bytes_of("one")}});
  CHECK(peer.works());  // behind the push on its stream
  const auto queue = (*observer)->peek("q", Keyspace::pytorch);
  REQUIRE_FALSE(queue);
  CHECK(queue.error().code == Errc::invalid_argument);
  CHECK(queue.error().what == "key 'q' is a queue of 1 values, which belong to who takes them out");

  peer.say({Verb::wait, {"go"}, {}});
  CHECK((*observer)->put("go", as_bytes("now"), Keyspace::pytorch));
  CHECK(peer.hear(1) == std::string(1, '\0'));
  CHECK((*watcher)->next(std::chrono::seconds(60))->key == "go");
  CHECK(*(*observer)->add("n", 3, Keyspace::pytorch) == 3);
  CHECK((*watcher)->next(std::chrono::seconds(60))->key == "n");
  CHECK(*(*observer)->remove("n", Keyspace::pytorch) == true);
  CHECK_FALSE((*watcher)->next(std::chrono::seconds(60))->value);
  CHECK(peer.works());
  served.on_thread([&] { served.server().end_generation("done"); });
  CHECK((*watcher)->next(std::chrono::seconds(60)).error().code == Errc::generation_ended);
}

TEST_CASE("where TCPStore is not served its keys are not there, and it is said why") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  const auto value = (*client)->peek("k", Keyspace::pytorch);
  REQUIRE_FALSE(value);
  CHECK(value.error().code == Errc::unsupported);
  CHECK(value.error().what == "PyTorch's store is not served by this rendezvous");
  CHECK((*client)->watch("k", Keyspace::pytorch).error().code == Errc::unsupported);
}

}  // namespace rendezvous_tcpstore_server_test
