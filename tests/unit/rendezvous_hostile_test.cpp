// Whoever can reach the port, and what it costs: its connection, and the job nothing. Both dialects, over real sockets;
// peers that do not read, and a PyTorch from a foreign address, stand in the tests of either server.
#include <fmt/format.h>
#include <malloc.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "rendezvous/auth.hpp"
#include "rendezvous/tcpstore_codec.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/raw_peer.hpp"
#include "tests/support/rendezvous_fixture.hpp"

namespace rendezvous_hostile_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using tcpstore::Verb;

namespace {

ServerOptions both_dialects() {
  ServerOptions options = ServedRendezvous::world_of(2);
  options.tcpstore = true;
  return options;
}

void admit_this_machine(ServedRendezvous& served) {
  served.on_thread([&served] {
    AddressList list;
    REQUIRE(list.add("127.0.0.0/8"));
    served.server().admit_store_clients(list);
  });
}

const tcpstore::Command kGreeting{Verb::validate, {}, {}, tcpstore::kMagic};

// By this process, which has the server in it.
std::size_t allocated_bytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

// A rank that is at work before the attack, and must not notice it.
class Job {
 public:
  explicit Job(ServedRendezvous& served) : client_(std::move(*Client::join(served.client(0)))), store_(served.port()) {
    store_.send(tcpstore::encode(kGreeting));
  }

  void must_go_on() {
    ++round_;
    REQUIRE(client_->add("round", 1) == round_);
    store_.send(tcpstore::encode({Verb::add, {"round"}, {}, 1}));
    CHECK(store_.receive(8) == std::string{static_cast<char>(round_), 0, 0, 0, 0, 0, 0, 0});
    CHECK_FALSE(client_->ended());
  }
  Client& client() { return *client_; }

 private:
  std::unique_ptr<Client> client_;
  RawPeer store_;
  std::int64_t round_ = 0;
};

}  // namespace

TEST_CASE("who begins a handshake and does not end it has ten seconds, however slowly it goes on") {
  ServedRendezvous served(both_dialects());
  admit_this_machine(served);
  Job job(served);
  const Bytes hello = encode(hello_for(served.client(1)));
  const Bytes greeting = tcpstore::encode(kGreeting);
  RawPeer silent(served.port()), half(served.port()), slow(served.port()), slow_store(served.port());
  RawPeer unproven(served.port());
  half.send(encode(Preamble{}));
  half.send(ByteView(hello).first(hello.size() / 2));
  unproven.send(encode(Preamble{}));
  unproven.send(hello);
  REQUIRE(std::holds_alternative<Challenge>(*unproven.next()));
  slow.send(encode(Preamble{}));
  slow_store.send(ByteView(greeting).first(1));
  // A byte each second: each read is another sign of life, and none of them prolongs the time.
  for (std::size_t at = 0; at < 4; ++at) {
    slow.send(ByteView(hello).subspan(at, 1));
    if (at < 3) slow_store.send(ByteView(greeting).subspan(1 + at, 1));
    served.pass(std::chrono::seconds(1));
    job.must_go_on();
  }
  for (RawPeer* peer : {&silent, &half, &unproven, &slow}) {
    const auto last = peer->next();
    REQUIRE(last);
    CHECK(std::get<Failure>(*last).what == "no handshake within 10 s");
    CHECK_FALSE(peer->next());
  }
  CHECK(slow_store.receive(1).empty());
  job.must_go_on();
}

TEST_CASE("a length of a gigabyte ends the connection before the bytes come") {
  ServedRendezvous served(both_dialects());
  admit_this_machine(served);
  Job job(served);
  {
    RawPeer stranger(served.port());
    stranger.send(encode(Preamble{}));
    stranger.send(Bytes{std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0x40}});
    CHECK(std::get<Failure>(*stranger.next()).what == "a frame of 1073741824 bytes; the limit is 1024");
    CHECK_FALSE(stranger.next());
  }
  {
    RawPeer rank(served.port());
    rank.enter(served.client(1));
    rank.send(Bytes{std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0x40}});
    CHECK(std::get<Failure>(*rank.next()).what ==
          fmt::format("a frame of 1073741824 bytes; the limit is {}", kMaxFrameBytes));
    CHECK_FALSE(rank.next());
  }
  // SET, and a key, a value, a count of this size.
  const std::string gigabyte("\0\0\0\x40\0\0\0\0", 8);
  for (const std::string& begun : {std::string("\1", 1) + gigabyte, std::string("\1\1\0\0\0\0\0\0\0k", 10) + gigabyte,
                                   std::string("\6", 1) + gigabyte}) {
    RawPeer store(served.port());
    store.send(tcpstore::encode(kGreeting));
    store.send(as_bytes(begun));
    CHECK(store.receive(1).empty());
  }
  job.must_go_on();
}

TEST_CASE(
    "a rank that adds keys without end has a hundred thousand and more, is refused by name, and no other rank is") {
  ServedRendezvous served(both_dialects());
  admit_this_machine(served);
  Job job(served);
  job.must_go_on();
  REQUIRE(job.client().set("mine", as_bytes("here")));
  RawPeer rank(served.port());
  rank.enter(served.client(1));
  const std::size_t before = allocated_bytes();
  constexpr std::uint32_t kTogether = 1000;
  // Two ranks and the observers.
  constexpr std::size_t kShare = kMaxKeys / 2 / 3, kMost = kMaxKeys / 2 + kShare;
  std::size_t added = 0, refused = 0;
  Failure refusal;
  for (std::uint32_t first = 1; added + refused < kMost + 2 * kTogether; first += kTogether) {
    Bytes requests;
    for (std::uint32_t request = first; request < first + kTogether; ++request) {
      const Bytes one = encode(Set{request, fmt::format("key {}", request), {}});
      requests.insert(requests.end(), one.begin(), one.end());
    }
    rank.send(requests);
    for (std::uint32_t request = first; request < first + kTogether; ++request) {
      const auto answer = rank.next();
      REQUIRE(answer);
      if (const auto* failure = std::get_if<Failure>(&*answer); failure == nullptr)
        ++added;
      else if (++refused == 1)
        refusal = *failure;
    }
  }
  CHECK(added >= 100'000);
  CHECK(added == kMost);
  CHECK(refusal.code == Errc::out_of_resources);
  CHECK(refusal.what ==
        fmt::format("rank 1 holds {} of the store's {} keys, and what is not others' share is used up; key "
                    "'key {}' is one too many",
                    kMost, kMaxKeys, kMost + 1));
  // What it cost; sanitizers' allocators say nothing here.
  CHECK(allocated_bytes() < before + kMost * 512);
  // The other rank still adds what it has a share for, an observer sets a key, and what was stored is there.
  for (int key = 0; key < 1000; ++key) REQUIRE(job.client().set(fmt::format("new {}", key), as_bytes("value")));
  ClientOptions observing = served.client(0);
  observing.rank = kNoRank;
  RawPeer observer(served.port());
  observer.enter(observing);
  observer.send(encode(Set{1, "seen", {}}));
  CHECK(std::holds_alternative<Done>(*observer.next()));
  CHECK(as_text(*job.client().get("mine")) == "here");
  CHECK(job.client().set("mine", as_bytes("once more")));
  job.must_go_on();
}

TEST_CASE("a hundred thousand keys of one PyTorch client leave room for the others") {
  ServedRendezvous served(both_dialects());
  admit_this_machine(served);
  Job job(served);
  job.must_go_on();
  RawPeer many(served.port());
  many.send(tcpstore::encode(kGreeting));
  const std::size_t before = allocated_bytes();
  constexpr std::size_t kKeys = 100'000, kTogether = 1000;
  for (std::size_t first = 0; first < kKeys; first += kTogether) {
    Bytes requests;
    for (std::size_t key = first; key < first + kTogether; ++key) {
      const Bytes one = tcpstore::encode({Verb::set, {fmt::format("key {}", key)}, {Bytes(1)}});
      requests.insert(requests.end(), one.begin(), one.end());
    }
    many.send(requests);
  }
  many.send(tcpstore::encode({Verb::num_keys, {}, {}}));
  const std::string counted = many.receive(8);
  REQUIRE(counted.size() == 8);
  std::uint64_t keys = 0;
  for (std::size_t at = 8; at-- > 0;) keys = keys << 8 | static_cast<unsigned char>(counted[at]);
  CHECK(keys == kKeys + 1);  // with the job's
  CHECK(allocated_bytes() < before + kKeys * 512);
  job.must_go_on();
  RawPeer other(served.port());
  other.send(tcpstore::encode(kGreeting));
  other.send(tcpstore::encode({Verb::add, {"another"}, {}, 1}));
  CHECK(other.receive(8) == std::string("\1\0\0\0\0\0\0\0", 8));
}

TEST_CASE("a proof that was overheard, or the server's own, opens nothing") {
  ServedRendezvous served(both_dialects());
  const ClientOptions options = served.client(1);
  const Hello hello = hello_for(options);
  // What a rank once sent.
  Proof heard;
  {
    RawPeer rank(served.port());
    rank.send(encode(Preamble{}));
    rank.send(encode(hello));
    const auto challenge = std::get<Challenge>(*rank.next());
    heard.proof = Token::parse(options.token)->prove(Token::Side::client, hello, challenge.nonce);
    rank.send(encode(heard));
    REQUIRE(std::holds_alternative<Welcome>(*rank.next()));
    rank.send(encode(Leave{}));
    REQUIRE_FALSE(rank.next());
  }
  const auto refusal = [&](auto proof_for) {
    RawPeer stranger(served.port());
    stranger.send(encode(Preamble{}));
    stranger.send(encode(hello));
    const auto challenge = std::get<Challenge>(*stranger.next());
    stranger.send(encode(proof_for(challenge)));
    const auto answer = std::get<Failure>(*stranger.next());
    CHECK_FALSE(stranger.next());
    return answer.code;
  };
  CHECK(refusal([&](const Challenge&) { return heard; }) == Errc::unauthenticated);
  CHECK(refusal([&](const Challenge& challenge) { return Proof{challenge.proof}; }) == Errc::unauthenticated);
  // The server as an oracle: it proves under a nonce that another connection has been given.
  RawPeer first(served.port());
  first.send(encode(Preamble{}));
  first.send(encode(hello));
  const auto to_answer = std::get<Challenge>(*first.next());
  CHECK(refusal([&](const Challenge&) { return Proof{to_answer.proof}; }) == Errc::unauthenticated);
  Hello borrowed = hello;
  borrowed.nonce = to_answer.nonce;
  RawPeer second(served.port());
  second.send(encode(Preamble{}));
  second.send(encode(borrowed));
  first.send(encode(Proof{std::get<Challenge>(*second.next()).proof}));
  CHECK(std::get<Failure>(*first.next()).code == Errc::unauthenticated);
  RawPeer rank(served.port());
  rank.enter(options);
}

TEST_CASE("port scans leave nothing behind") {
  ServedRendezvous served(both_dialects());
  admit_this_machine(served);
  Job job(served);
  for (int scan = 0; scan < 300; ++scan) {
    RawPeer peer(served.port());
    if (scan % 3 == 1) peer.send(as_bytes("GET / HTTP/1.0\r\n\r\n"));  // its answer stays unread: the close is a reset
    if (scan % 5 == 2) peer.send(as_bytes(std::string_view("\0", 1)));
  }
  job.must_go_on();
  // All are gone: as many as the limit allows still come in, and none of them has to make room.
  std::vector<std::unique_ptr<RawPeer>> peers;
  for (std::size_t open = 1; open < 2 * 2 + kSpareConnections; ++open) {
    peers.push_back(std::make_unique<RawPeer>(served.port()));
    peers.back()->send(encode(Preamble{}));
    peers.back()->send(encode(hello_for(served.client(1))));
    REQUIRE(std::holds_alternative<Challenge>(*peers.back()->next()));
  }
  job.must_go_on();
  const Bytes proof = encode(Proof{});
  for (const auto& peer : peers) {
    peer->send(proof);
    CHECK(std::get<Failure>(*peer->next()).code == Errc::unauthenticated);
  }
}

TEST_CASE("floods beyond the limit, of both dialects at once, keep no rank out") {
  ServedRendezvous served(both_dialects());
  admit_this_machine(served);
  Job job(served);
  std::vector<std::unique_ptr<RawPeer>> flood;
  for (int peer = 0; peer < 400; ++peer) {
    flood.push_back(std::make_unique<RawPeer>(served.port()));
    if (peer % 2 == 0) flood.back()->send(as_bytes(std::string_view("\0\xce", 2)));
    if (peer % 100 == 99) job.must_go_on();
  }
  auto rank = Client::join(served.client(1));
  REQUIRE(rank);
  CHECK((*rank)->set("in", as_bytes("side")));
  CHECK(as_text(*job.client().get("in")) == "side");
  job.must_go_on();
}

}  // namespace rendezvous_hostile_test
