// The store of minor 1, watches and observers over loopback, and how both sides meet one of minor 0.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "rendezvous/client.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/raw_peer.hpp"
#include "tests/support/rendezvous_fixture.hpp"

namespace rendezvous_client_store_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

std::string shown(const Result<KeyChange>& change) {
  if (!change) return to_string(change.error());
  return change->key + (change->value ? "=" + std::string(as_text(*change->value)) : " deleted");
}

// What a server of minor 0 does: the handshake, and an answer to every Set; all it does not know is `unsupported`.
class OldServer {
 public:
  explicit OldServer(const std::string& token) : token_(*Token::parse(token)) {
    listening_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    REQUIRE(::bind(listening_, reinterpret_cast<sockaddr*>(&here), size) == 0);
    REQUIRE(::listen(listening_, 4) == 0);
    REQUIRE(::getsockname(listening_, reinterpret_cast<sockaddr*>(&here), &size) == 0);
    port_ = ntohs(here.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~OldServer() {
    thread_.join();
    ::close(listening_);
  }
  std::uint16_t port() const { return port_; }

 private:
  void serve() {
    const int peer = ::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
    MessageDecoder decoder(MessageDecoder::Side::server);
    decoder.allow_large_frames();
    const auto say = [peer](const Message& message) {
      const Bytes bytes = encode(message);
      return ::send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
    };
    std::array<std::byte, 4096> buffer;
    for (ssize_t got = 0; (got = ::recv(peer, buffer.data(), buffer.size(), 0)) > 0;) {
      decoder.feed(std::span(buffer).first(static_cast<std::size_t>(got)));
      while (true) {
        auto message = decoder.next();
        if (!message || !*message) break;
        if (const auto* hello = std::get_if<Hello>(&**message)) {
          if (hello->rank == kNoRank) {
            say(Failure{0, Errc::wrong_world, "rank 4294967295 (desk) expects a world of 0 ranks, this job has 1", ""});
            ::shutdown(peer, SHUT_WR);
          } else {
            say(Challenge{Nonce{}, token_.prove(Token::Side::server, *hello, Nonce{})});
          }
        }
        if (std::holds_alternative<Proof>(**message)) say(Welcome{0});
        if (const auto* set = std::get_if<Set>(&**message)) say(Done{set->request});
        if (std::holds_alternative<Leave>(**message)) ::shutdown(peer, SHUT_WR);
      }
    }
    ::close(peer);
  }

  Token token_;
  int listening_ = -1;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace

TEST_CASE("compare-and-set, append, delete and list from a client") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto joined = Client::join(served.client(0));
  REQUIRE(joined);
  Client& client = **joined;
  CHECK(client.compare_and_set("k", std::nullopt, as_bytes("a"))->swapped);
  auto second = client.compare_and_set("k", std::nullopt, as_bytes("b"));
  REQUIRE(second);
  CHECK_FALSE(second->swapped);
  CHECK(as_text(second->found.value()) == "a");
  CHECK(client.compare_and_set("k", as_bytes("a"), as_bytes("b"))->swapped);
  auto missing = client.compare_and_set("other", as_bytes("a"), as_bytes("b"));
  REQUIRE(missing);
  CHECK_FALSE(missing->swapped);
  CHECK_FALSE(missing->found);
  CHECK(*client.append("k", as_bytes("cd")) == 3);
  CHECK(as_text(*client.get("k")) == "bcd");
  CHECK(*client.remove("k") == true);
  CHECK(*client.remove("k") == false);
  for (const char* key : {"p/2", "p/1", "q"}) REQUIRE(client.set(key, {}));
  CHECK(client.list("p/")->keys == std::vector<std::string>{"p/1", "p/2"});
  const auto page = client.list("", "", 1);
  CHECK(page->keys == std::vector<std::string>{"p/1"});
  CHECK(page->more);
  CHECK(client.list("", "p/2")->keys == std::vector<std::string>{"q"});
  CHECK(to_string(client.append("", {}).error()) == "an empty key");
  CHECK(client.compare_and_set("k", Bytes(kMaxValueBytes), as_bytes("1")).error().code == Errc::too_large);
}

TEST_CASE("a counter kept by compare-and-set from many threads loses nothing") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto joined = Client::join(served.client(0));
  REQUIRE(joined);
  Client& client = **joined;
  std::vector<std::future<bool>> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.push_back(std::async(std::launch::async, [&client] {
      std::optional<Bytes> seen;
      for (int done = 0; done < 50;) {
        const std::string next = std::to_string(seen ? std::stoi(std::string(as_text(*seen))) + 1 : 1);
        const auto result =
            client.compare_and_set("n", seen ? std::optional<ByteView>(*seen) : std::nullopt, as_bytes(next));
        if (!result) return false;
        if (result->swapped) ++done;
        seen =
            result->swapped ? std::optional<Bytes>(Bytes(as_bytes(next).begin(), as_bytes(next).end())) : result->found;
      }
      return true;
    }));
  }
  for (auto& thread : threads) CHECK(thread.get());
  CHECK(as_text(*client.get("n")) == "200");
}

TEST_CASE("a watcher sees another rank's changes in order, and the end of the generation") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  auto watching = Client::join(served.client(0));
  auto changing = Client::join(served.client(1));
  REQUIRE(watching);
  REQUIRE(changing);
  REQUIRE((*changing)->set("a/0", as_bytes("before")));
  auto watcher = (*watching)->watch_prefix("a/");
  REQUIRE(watcher);
  auto exact = (*watching)->watch("b");
  REQUIRE(exact);
  for (int i = 0; i < 500; ++i) {
    const std::string text = std::to_string(i);
    REQUIRE((*changing)->set("a/" + text, as_bytes(text)));
  }
  REQUIRE((*changing)->remove("a/7"));
  REQUIRE((*changing)->set("b", as_bytes("x")));
  for (int i = 0; i < 500; ++i) {
    const std::string text = std::to_string(i);
    REQUIRE(shown((*watcher)->next(seconds(60))) == "a/" + text + "=" + text);
  }
  CHECK(shown((*watcher)->next(seconds(60))) == "a/7 deleted");
  CHECK(shown((*exact)->next(seconds(60))) == "b=x");
  CHECK(shown((*exact)->next(milliseconds(0))) ==
        "rendezvous " + served.address() + ": no change of key 'b' within 0 ms");
  (*exact).reset();  // ends its watch, not the other
  REQUIRE((*changing)->set("b", as_bytes("y")));
  auto waiting = std::async(std::launch::async, [&] { return shown((*watcher)->next(seconds(60))); });
  served.on_thread([&] { served.server().end_generation("rank 3 failed"); });
  CHECK(waiting.get() == "rendezvous " + served.address() + ": generation 2 has ended: rank 3 failed");
}

TEST_CASE("a watcher may outlive its client, and then says so") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  auto watcher = (*client)->watch_prefix("");
  REQUIRE(watcher);
  REQUIRE((*client)->set("k", as_bytes("v")));
  CHECK(shown((*watcher)->next(seconds(60))) == "k=v");
  auto waiting = std::async(std::launch::async, [&] { return (*watcher)->next(seconds(60)).error().code; });
  client->reset();
  CHECK(waiting.get() == Errc::closed);
  const auto later = (*watcher)->next(seconds(60));
  REQUIRE_FALSE(later);
  CHECK(later.error().code == Errc::closed);
}

TEST_CASE("changes that nobody takes end their watch, after those that are there, and the client goes on") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  auto watcher = (*client)->watch("big");
  REQUIRE(watcher);
  const Bytes value(kMaxValueBytes, std::byte{'v'});
  for (int i = 0; i < 3; ++i) REQUIRE((*client)->set("big", value));
  REQUIRE((*client)->get("big"));  // behind all changes on the same stream
  int taken = 0;
  Result<KeyChange> change = (*watcher)->next(seconds(60));
  for (; change; change = (*watcher)->next(seconds(60))) ++taken;
  CHECK(taken == 2);
  CHECK(change.error().code == Errc::out_of_resources);
  CHECK((*client)->set("big", as_bytes("small")));
  auto again = (*client)->watch("big");
  REQUIRE(again);
  REQUIRE((*client)->set("big", as_bytes("other")));
  CHECK(shown((*again)->next(seconds(60))) == "big=other");
}

TEST_CASE("a watcher that does not read loses its watch, not its connection, and nobody else waits for it") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  RawPeer slow(served.port());
  slow.enter(hello_for(served.client(1)), served.client(1).token);
  slow.send(encode(Watch{1, false, "big"}));
  slow.send(encode(Watch{2, true, "small"}));
  REQUIRE(*slow.next() == Message(Done{1}));
  REQUIRE(*slow.next() == Message(Done{2}));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  constexpr int kChanges = 12;  // 100 MB: more than the socket buffers and the queue hold
  for (int i = 0; i < kChanges; ++i)
    REQUIRE((*client)->set("big", Bytes(kMaxValueBytes, static_cast<std::byte>('a' + i))));
  int changes = 0;
  std::optional<Message> message = slow.next();
  for (; message && std::holds_alternative<Change>(*message); message = slow.next()) {
    const auto& change = std::get<Change>(*message);
    REQUIRE(change.value->front() == static_cast<std::byte>('a' + changes));  // none is missing between
    ++changes;
  }
  CHECK(changes >= 1);
  CHECK(changes < kChanges);
  REQUIRE(message);
  CHECK(std::get<Failure>(*message).request == 1);
  CHECK(std::get<Failure>(*message).code == Errc::out_of_resources);
  REQUIRE((*client)->set("small", as_bytes("v")));
  message = slow.next();
  REQUIRE(message);
  CHECK(std::get<Change>(*message).request == 2);
}

TEST_CASE("an observer looks in and changes the store, while the ranks neither wait for it nor lose by it") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  ClientOptions options = served.client(0);
  options.observer = true;
  options.host = "desk";
  auto observer = Client::join(options);
  REQUIRE(observer);
  CHECK(served.on_thread([&] { return served.server().joined(); }) == 0);
  REQUIRE((*observer)->set("k", as_bytes("v")));
  auto first = Client::join(served.client(0));
  auto second = Client::join(served.client(1));
  REQUIRE(first);
  REQUIRE(second);
  CHECK(as_text(*(*first)->get("k")) == "v");
  CHECK((*observer)->barrier("b").error().code == Errc::refused);
  CHECK((*observer)->publish_unique_id(1, UniqueId{}).error().code == Errc::refused);
  auto waiting = std::async(std::launch::async, [&] { return (*first)->barrier("b").has_value(); });
  CHECK((*second)->barrier("b"));
  CHECK(waiting.get());
  auto watcher = (*observer)->watch_prefix("");
  REQUIRE(watcher);
  served.on_thread([&] { served.server().end_generation("done"); });
  CHECK((*watcher)->next(seconds(60)).error().code == Errc::generation_ended);
}

namespace {

bool is_readable(int descriptor) {
  pollfd watched{descriptor, POLLIN, 0};
  return ::poll(&watched, 1, 0) == 1;
}

void wait_readable(int descriptor) {
  pollfd watched{descriptor, POLLIN, 0};
  CHECK(::poll(&watched, 1, 60'000) == 1);
}

}  // namespace

TEST_CASE("a watch's descriptor is readable while there is a change to take, and from its end on") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  auto watcher = (*client)->watch_prefix("k");
  REQUIRE(watcher);
  REQUIRE((*client)->put("k0", as_bytes("before the first question for it")));
  const auto made = (*watcher)->descriptor();
  REQUIRE(made);
  CHECK(*(*watcher)->descriptor() == *made);
  wait_readable(*made);
  CHECK((*watcher)->next(seconds(60))->key == "k0");
  CHECK_FALSE(is_readable(*made));
  REQUIRE((*client)->put("k1", {}));
  REQUIRE((*client)->put("k2", {}));
  wait_readable(*made);
  CHECK((*watcher)->next(milliseconds(0))->key == "k1");
  wait_readable(*made);
  CHECK((*watcher)->next(seconds(60))->key == "k2");
  CHECK_FALSE(is_readable(*made));
  CHECK((*watcher)->next(milliseconds(0)).error().code == Errc::timed_out);
  CHECK_FALSE(is_readable(*made));
  served.on_thread([&] { served.server().end_generation("done"); });
  wait_readable(*made);
  CHECK((*watcher)->next(milliseconds(0)).error().code == Errc::generation_ended);
  CHECK(is_readable(*made));
}

TEST_CASE("an event loop may read a watch's descriptor empty, and misses nothing") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  auto watcher = (*client)->watch_prefix("k");
  REQUIRE(watcher);
  const int descriptor = *(*watcher)->descriptor();
  const auto read_once = [descriptor] {
    wait_readable(descriptor);
    std::uint64_t count = 0;
    REQUIRE(::read(descriptor, &count, sizeof count) == sizeof count);
  };
  const auto read_empty = [&] {
    read_once();
    CHECK_FALSE(is_readable(descriptor));
  };
  REQUIRE((*client)->put("k1", {}));
  read_empty();
  CHECK((*watcher)->next(milliseconds(0))->key == "k1");
  CHECK_FALSE(is_readable(descriptor));

  REQUIRE((*client)->put("k2", {}));
  REQUIRE((*client)->put("k3", {}));
  REQUIRE((*client)->get("k3"));  // behind both changes on the same stream
  read_empty();
  CHECK((*watcher)->next(milliseconds(0))->key == "k2");
  CHECK(is_readable(descriptor));  // there is one more
  read_empty();
  REQUIRE((*client)->put("k4", {}));
  REQUIRE((*client)->get("k4"));
  CHECK(is_readable(descriptor));  // news, though nothing was taken
  CHECK((*watcher)->next(milliseconds(0))->key == "k3");
  CHECK((*watcher)->next(milliseconds(0))->key == "k4");
  CHECK((*watcher)->next(milliseconds(0)).error().code == Errc::timed_out);
  CHECK_FALSE(is_readable(descriptor));

  served.on_thread([&] { served.server().end_generation("done"); });
  read_once();  // the end of the connection behind it is news once more
  CHECK((*watcher)->next(milliseconds(0)).error().code == Errc::generation_ended);
  CHECK(is_readable(descriptor));
}

TEST_CASE("a watch whose descriptor was closed by others ends with that, after the changes that are there") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  auto watcher = (*client)->watch_prefix("k");
  REQUIRE(watcher);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  REQUIRE(::dup2(ends[0], *(*watcher)->descriptor()) >= 0);  // the number is another file's now, which takes no bytes
  REQUIRE((*client)->put("k", as_bytes("v")));
  CHECK(shown((*watcher)->next(milliseconds(0))) == "k=v");
  const auto end = (*watcher)->next(milliseconds(0));
  REQUIRE_FALSE(end);
  CHECK(end.error().code == std::errc::bad_file_descriptor);
  CHECK(to_string(end.error()) == "rendezvous " + served.address() +
                                      ": raising the watch's descriptor: Bad file descriptor\n   hint: it belongs to "
                                      "the watch: whoever asked for it does not close it");
  CHECK((*client)->put("k", {}));  // the client goes on
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("a watch's descriptor tells that its client has gone") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  auto watcher = (*client)->watch("k");
  REQUIRE(watcher);
  const int descriptor = *(*watcher)->descriptor();
  CHECK_FALSE(is_readable(descriptor));
  client->reset();
  CHECK(is_readable(descriptor));
  CHECK((*watcher)->next(milliseconds(0)).error().code == Errc::closed);
  const int late = *(*watcher)->descriptor();
  CHECK(is_readable(late));
}

TEST_CASE("put is answered, peek does not wait, and entries come by pages") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  auto joined = Client::join(served.client(0));
  REQUIRE(joined);
  Client& client = **joined;
  REQUIRE(client.put("k", as_bytes(std::string_view("\0\xff", 2))));
  CHECK(as_text(client.peek("k")->value()) == std::string_view("\0\xff", 2));
  CHECK_FALSE(client.peek("missing")->has_value());
  CHECK(client.put("", {}).error().code == Errc::invalid_argument);
  CHECK(client.put("k", Bytes(kMaxValueBytes + 1)).error().code == Errc::too_large);
  for (std::size_t i = 0; i < kMaxListKeys; ++i) REQUIRE(client.set(fmt::format("p/{:05}", i), {}));
  const auto first = client.entries("");
  REQUIRE(first);
  CHECK(first->entries.size() == kMaxListKeys);
  CHECK(first->entries.front() == StoreEntry{"k", 2, 0});
  CHECK(first->more);
  const auto second = client.entries("", first->entries.back().key);
  REQUIRE(second);
  CHECK(second->entries.size() == 1);
  CHECK_FALSE(second->more);
}

TEST_CASE("a client of minor 0 works as it always did, and is sent nothing that it does not know") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  Hello hello = hello_for(served.client(1));
  hello.minor = 0;
  RawPeer old(served.port());
  old.enter(hello, served.client(1).token);
  old.send(encode(Set{1, "k", {}}));
  CHECK(*old.next() == Message(Done{1}));
  REQUIRE((*client)->append("k", as_bytes("abc")));
  REQUIRE((*client)->remove("k"));
  REQUIRE((*client)->compare_and_set("k", std::nullopt, as_bytes("v")));
  old.send(encode(Get{2, "k", 0}));
  const auto value = old.next();
  REQUIRE(value);
  CHECK(as_text(*std::get<Value>(*value).value) == "v");
  old.send(encode(Add{3, "n", 2}));
  CHECK(*old.next() == Message(Number{3, 2}));
}

TEST_CASE("at a launcher of minor 0 a client has what was there, and is told what is not") {
  ClientOptions options;
  options.address = "127.0.0.1";
  options.job_id = "job";
  options.token = make_token();
  options.timeout = seconds(60);
  {
    OldServer server(options.token);
    options.port = server.port();
    auto client = Client::join(options);
    REQUIRE(client);
    CHECK((*client)->set("k", {}));
    const std::string where = "rendezvous 127.0.0.1:" + std::to_string(server.port());
    const std::string without = where + ": the launcher speaks version 1.0 of the rendezvous protocol, which has no ";
    const std::string hint = "\n   hint: use the same llmlaunch on the head and in the program";
    CHECK(to_string((*client)->append("k", {}).error()) == without + "append" + hint);
    CHECK(to_string((*client)->remove("k").error()) == without + "delete" + hint);
    CHECK(to_string((*client)->list("k").error()) == without + "list" + hint);
    CHECK(to_string((*client)->watch("k").error()) == without + "watch" + hint);
    CHECK(to_string((*client)->compare_and_set("k", std::nullopt, {}).error()) == without + "compare-and-set" + hint);
    CHECK((*client)->append("k", {}).error().code == Errc::unsupported);
    CHECK(to_string((*client)->peek("k").error()) == without + "look at a key" + hint);
    CHECK(to_string((*client)->entries("k").error()) == without + "list with sizes" + hint);
    CHECK(to_string((*client)->put("k", {}, Keyspace::pytorch).error()) == without + "way to PyTorch's store" + hint);
    CHECK((*client)->put("k", {}));
  }
  OldServer server(options.token);
  options.port = server.port();
  options.observer = true;
  options.host = "desk";
  const auto observer = Client::join(options);
  REQUIRE_FALSE(observer);
  CHECK(to_string(observer.error()) ==
        "rendezvous 127.0.0.1:" + std::to_string(server.port()) +
            ": rank 4294967295 (desk) expects a world of 0 ranks, this job has 1\n   hint: a launcher of protocol 1.0 "
            "admits ranks only; this needs one of 1.1");
}

TEST_CASE("a set that the server refuses is told by the call that waits then, or by the next, and once") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  // All that a rank of two can have: what is common, and a third of the rest.
  for (std::size_t key = 0; key < kMaxKeys / 2 + kMaxKeys / 2 / 3; ++key)
    REQUIRE((*client)->set(fmt::format("{}", key), {}));
  const auto refusal = [](const std::string& key) {
    return "setting key '" + key +
           "': rank 0 holds 174762 of the store's 262144 keys, and what is not others' share is used up; key '" + key +
           "' is one too many";
  };
  REQUIRE((*client)->set("more", {}));
  const auto waiting = (*client)->get("never", seconds(60));  // far less, as it is told at once
  REQUIRE_FALSE(waiting);
  CHECK(waiting.error().code == Errc::out_of_resources);
  CHECK(waiting.error().what == refusal("more"));
  CHECK(waiting.error().where == "rendezvous " + served.address());
  CHECK((*client)->get("0"));  // told once
  CHECK((*client)->set("0", as_bytes("still")));
  CHECK(as_text(*(*client)->get("0")) == "still");

  // What no call tells the log does, when the client goes.
  REQUIRE((*client)->set("last", {}));
  client->reset();
  const std::string warning = served.log().wait_for(LogLevel::warning, "setting key");
  CHECK(warning == "rendezvous " + served.address() + ": " + refusal("last") +
                       "\n   hint: delete keys that are not needed any more");
}

}  // namespace rendezvous_client_store_test
