// The server over real sockets: what a hostile, broken or slow peer can do, and what binding a port can meet.
#include "rendezvous/server.hpp"

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rendezvous/auth.hpp"
#include "rendezvous/connection.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/raw_peer.hpp"
#include "tests/support/rendezvous_fixture.hpp"

namespace rendezvous_server_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using std::chrono::seconds;

namespace {

void check_job_still_works(ServedRendezvous& served) {
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  CHECK((*client)->set("alive", as_bytes("yes")));
  CHECK(as_text(*(*client)->get("alive")) == "yes");
}

}  // namespace

TEST_CASE("garbage costs its connection, with a reason, and not the job") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  for (const std::string_view garbage :
       {std::string_view("GET / HTTP/1.1\r\n\r\n"), std::string_view("\0\xce\xf7\x85\x3c", 5),
        std::string_view("LLMRDV\1\0\0\0\0\0", 12), std::string_view("LLMRDV\1\0\xff\xff\xff\xff", 12),
        std::string_view("LLMRDV\1\0\2\0\0\0\1x", 14)}) {
    RawPeer peer(served.port());
    peer.send(as_bytes(garbage));
    const auto answer = peer.next();
    REQUIRE(answer);
    CHECK(std::get<Failure>(*answer).request == 0);
    CHECK_FALSE(peer.next());
  }
  check_job_still_works(served);
}

TEST_CASE("a connection that begins with TLS is handed over, with what was read, and the job goes on") {
  ServerOptions options = ServedRendezvous::world_of(2);
  std::promise<std::string> handed;
  options.on_tls = [&handed](asio::ip::tcp::socket socket, std::string from, Bytes begun) {
    boost::system::error_code none;
    asio::write(socket, asio::buffer(begun), none);
    socket.close(none);
    handed.set_value(from);
  };
  ServedRendezvous served(std::move(options));
  RawPeer peer(served.port());
  peer.send(as_bytes("\x16\x03\x01"));
  CHECK(handed.get_future().get().starts_with("127.0.0.1:"));
  CHECK(peer.receive(16) == "\x16\x03\x01");
  check_job_still_works(served);
}

TEST_CASE("half a frame and then nothing is forgotten without a word") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  {
    RawPeer peer(served.port());
    const Bytes hello = encode(hello_for(served.client(0)));
    peer.send(encode(Preamble{}));
    peer.send(ByteView(hello).first(hello.size() / 2));
  }
  check_job_still_works(served);
}

TEST_CASE("a peer that sends one byte at a time is served like any other") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  const ClientOptions options = served.client(1);
  const Token token = *Token::parse(options.token);
  const Hello hello = hello_for(options);
  RawPeer peer(served.port());
  const auto drip = [&](const Message& message) {
    const Bytes bytes = encode(message);
    for (const std::byte byte : bytes) peer.send(ByteView(&byte, 1));
  };
  drip(Preamble{});
  drip(hello);
  const auto challenge = std::get<Challenge>(*peer.next());
  CHECK(token.verify(challenge.proof, Token::Side::server, hello, challenge.nonce));
  drip(Proof{token.prove(Token::Side::client, hello, challenge.nonce)});
  CHECK(std::holds_alternative<Welcome>(*peer.next()));
  drip(Add{1, "n", 3});
  CHECK(*peer.next() == Message(Number{1, 3}));
  drip(Leave{});
  CHECK_FALSE(peer.next());
}

TEST_CASE("an empty key in a wait costs that request, and not the rank's connection") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  RawPeer peer(served.port());
  peer.enter(served.client(0));
  peer.send(encode(Wait{1, 1000, {""}}));
  CHECK(*peer.next() == Message(Failure{1, Errc::invalid_argument, "an empty key", ""}));
  peer.send(encode(Set{2, "k", {}}));
  CHECK(*peer.next() == Message(Done{2}));
}

TEST_CASE("a proof made with another token is refused by the server") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  const Token wrong = *Token::parse(make_token());
  const Hello hello = hello_for(served.client(1));
  RawPeer peer(served.port());
  peer.send(encode(Preamble{}));
  peer.send(encode(hello));
  const auto challenge = std::get<Challenge>(*peer.next());
  peer.send(encode(Proof{wrong.prove(Token::Side::client, hello, challenge.nonce)}));
  CHECK(std::get<Failure>(*peer.next()).code == Errc::unauthenticated);
  CHECK_FALSE(peer.next());
}

TEST_CASE("more strangers than connections: the ranks still get in") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  std::vector<std::unique_ptr<RawPeer>> strangers;
  for (int i = 0; i < 150; ++i) strangers.push_back(std::make_unique<RawPeer>(served.port()));
  check_job_still_works(served);
  // The first of them made room.
  const auto answer = strangers.front()->next();
  REQUIRE(answer);
  CHECK(std::get<Failure>(*answer).what == "the rendezvous serves 68 connections, its limit");
}

TEST_CASE("a peer that asks and does not read loses its connection, and the others notice nothing") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  RawPeer greedy(served.port());
  greedy.enter(served.client(1));
  for (std::uint32_t request = 1; request <= 20; ++request) greedy.send(encode(Get{request, "large", 60'000}));
  greedy.send(encode(Set{21, "asked", {}}));

  auto client = Client::join(served.client(0));
  REQUIRE(client);
  REQUIRE((*client)->get("asked"));
  REQUIRE((*client)->set("large", Bytes(kMaxValueBytes)));
  served.log().wait_for(LogLevel::debug, "rendezvous: rank 1 went without a word: the peer does not read: ");
  CHECK((*client)->get("large")->size() == kMaxValueBytes);
}

TEST_CASE("many small requests for large values are answered one by one to a peer that reads") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  RawPeer peer(served.port());
  peer.enter(served.client(0));
  peer.send(encode(Set{1, "large", Bytes(kMaxValueBytes)}));
  REQUIRE(*peer.next() == Message(Done{1}));
  for (std::uint32_t request = 2; request < 32; ++request) peer.send(encode(Get{request, "large", 1000}));
  for (std::uint32_t request = 2; request < 32; ++request) {
    const auto answer = peer.next();
    REQUIRE(answer);
    REQUIRE(std::get<Value>(*answer).request == request);
    REQUIRE(std::get<Value>(*answer).value->size() == kMaxValueBytes);
  }
}

TEST_CASE("what hundreds wait for at once reaches each of them once: an id, a barrier, the end") {
  constexpr std::uint32_t kWorld = 600;  // enough for helper threads where there are cores
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  if (limit.rlim_max < 2 * kWorld + 100) {  // both ends of each connection are this process's
    WARN("skipped: " << limit.rlim_max << " open files are too few");
    return;
  }
  const rlimit before = limit;
  limit.rlim_cur = limit.rlim_max;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  {
    ServedRendezvous served(ServedRendezvous::world_of(kWorld));
    std::vector<std::unique_ptr<RawPeer>> peers;
    for (std::uint32_t rank = 0; rank < kWorld; ++rank) {
      peers.push_back(std::make_unique<RawPeer>(served.port()));
      peers.back()->enter(served.client(rank));
      peers.back()->send(encode(GetId{1, 0, 60'000}));
      peers.back()->send(encode(Set{2, "asked", {}}));  // answered behind the GetId: that one is held now
      REQUIRE(*peers.back()->next() == Message(Done{2}));
    }
    UniqueId id{};
    id.fill(std::byte{0x5a});
    peers[0]->send(encode(PublishId{3, 0, id}));
    CHECK(*peers[0]->next() == Message(Done{3}));
    for (const auto& peer : peers) REQUIRE(*peer->next() == Message(Id{1, id}));
    for (const auto& peer : peers) peer->send(encode(Barrier{4, "all", 60'000}));
    for (const auto& peer : peers) REQUIRE(*peer->next() == Message(Done{4}));
    for (const auto& peer : peers) peer->send(encode(Get{5, "never", 60'000}));
    for (const auto& peer : peers) peer->send(encode(Set{6, "asked", {}}));
    for (const auto& peer : peers) REQUIRE(*peer->next() == Message(Done{6}));
    served.on_thread([&served] { served.server().end_generation("over"); });
    for (const auto& peer : peers) {
      REQUIRE(std::get<Failure>(*peer->next()).request == 5);
      REQUIRE(*peer->next() == Message(Ended{Generation{2}, "over"}));
    }
  }
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
}

TEST_CASE("connections that cannot be taken for want of descriptors are said once, until they can be again") {
  ServedRendezvous served(ServedRendezvous::world_of(2));
  const std::string complaint = "rendezvous: no connection can be taken: Too many open files";
  const std::string relief = "rendezvous: connections are taken again";
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const int peer = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(peer >= 0);
  // The peer has the lowest number that was free: below the limit there is none left for the server's end.
  const rlimit few{static_cast<rlim_t>(peer) + 1, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(served.port());
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool connected = ::connect(peer, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;  // in the backlog
  served.log().wait_for(LogLevel::warning, complaint);
  // Nothing tells of a try that was not logged: time for three more.
  served.pass(std::chrono::milliseconds(350));
  const std::size_t complaints = served.log().count(complaint);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(connected);
  served.log().wait_for(LogLevel::info, relief);
  CHECK(complaints == 1);
  check_job_still_works(served);
  CHECK(served.log().count(relief) == 1);
  ::close(peer);
}

TEST_CASE("a port in use is said with what to do") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  asio::io_context context;
  ServerOptions options = ServedRendezvous::world_of(1);
  options.port = served.port();
  const auto second = Server::start(context.get_executor(), options);
  REQUIRE_FALSE(second);
  const std::string port = std::to_string(served.port());
  CHECK(second.error().code == Errc::io);
  CHECK(to_string(second.error()) ==
        "the rendezvous cannot listen on 127.0.0.1:" + port +
            ": Address already in use\n   hint: another program uses "
            "port " +
            port +
            " ('ss -ltnp' shows which): stop it, or set main_process_port to a free port, or to 0 to have "
            "one chosen");
}

TEST_CASE("a port that is held becomes its server's, and one that another program has is no error") {
  auto held = HeldPort::take("127.0.0.1", 0);
  REQUIRE(held);
  REQUIRE(held->has_value());
  HeldPort moved = std::move(**held);
  ServerOptions options = ServedRendezvous::world_of(1);
  options.bind_address = "192.0.2.1";  // which does not count then
  options.held = &moved;
  ServedRendezvous served(std::move(options));
  check_job_still_works(served);
  const auto again = HeldPort::take("127.0.0.1", served.port());
  REQUIRE(again);
  CHECK_FALSE(again->has_value());
  CHECK(HeldPort::take("192.0.2.1", 0).error().what ==
        "the rendezvous cannot listen on 192.0.2.1:0: Cannot assign requested address");
}

TEST_CASE("a port that nobody takes over is free again") {
  std::uint16_t port = 0;
  {
    asio::io_context context;
    ServerOptions options = ServedRendezvous::world_of(1);
    options.port = 0;
    const auto server = Server::start(context.get_executor(), options);
    REQUIRE(server);
    port = (*server)->port();
  }
  for (int times = 0; times < 2; ++times) {
    const auto held = HeldPort::take("127.0.0.1", port);
    REQUIRE(held);
    CHECK(held->has_value());
  }
}

TEST_CASE("addresses that cannot be bound, and options that make no job, are refused") {
  asio::io_context context;
  const auto refusal = [&](const std::function<void(ServerOptions&)>& change) {
    ServerOptions options = ServedRendezvous::world_of(1);
    change(options);
    const auto server = Server::start(context.get_executor(), options);
    REQUIRE_FALSE(server);
    return to_string(server.error());
  };
  CHECK(refusal([](ServerOptions& o) { o.bind_address = "head"; }) ==
        "the rendezvous cannot listen on 'head': not an IPv4 or IPv6 address");
  CHECK(refusal([](ServerOptions& o) { o.bind_address = "192.0.2.1"; }) ==
        "the rendezvous cannot listen on 192.0.2.1:0: Cannot assign requested address\n   hint: no interface of this "
        "machine has that address");
  CHECK(refusal([](ServerOptions& o) { o.hosts.clear(); }) == "a rendezvous needs at least one rank");
  CHECK(refusal([](ServerOptions& o) { o.token = "x"; }).find("the job token is not 64 hex digits") == 0);
}

TEST_CASE("without a bind address, IPv4 and IPv6 reach the same port") {
  ServerOptions options = ServedRendezvous::world_of(2);
  options.bind_address.clear();
  ServedRendezvous served(options);
  auto v4 = Client::join(served.client(0));
  CHECK(v4);
  auto over_v6 = served.client(1);
  over_v6.address = "::1";
  if (auto probe = Connection::open("::1", served.port(), std::chrono::steady_clock::now() + seconds(60))) {
    auto v6 = Client::join(over_v6);
    CHECK(v6);
  } else {
    WARN("this machine has no IPv6 loopback: " << to_string(probe.error()));
  }
}

TEST_CASE("closing the server closes its connections, and closing twice is nothing") {
  ServedRendezvous served(ServedRendezvous::world_of(1));
  RawPeer peer(served.port());
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  served.on_thread([&] {
    served.server().close();
    served.server().close();
  });
  CHECK_FALSE(peer.next());
  const auto value = (*client)->get("k");
  REQUIRE_FALSE(value);
  CHECK(value.error().code == Errc::closed);
}

}  // namespace rendezvous_server_test
