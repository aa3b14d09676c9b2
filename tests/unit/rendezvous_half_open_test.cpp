// A peer whose machine vanishes: no byte comes of it any more, and no end. Its socket gets a filter that lets no packet
// in, so that the kernel acknowledges nothing, as one that has lost power or its cable.
#include <dirent.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "rendezvous/base/tcp_tuning.hpp"
#include "rendezvous/tcpstore_codec.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/raw_peer.hpp"
#include "tests/support/rendezvous_fixture.hpp"

namespace rendezvous_half_open_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using tcpstore::Verb;

namespace {

using NameOf = int (*)(int, sockaddr*, socklen_t*);

std::uint16_t port_of(NameOf name, int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (name(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  return 0;
}

// Both ends of a connection to the server, which are in this process.
struct Ends {
  int servers = -1, clients = -1;
};

// Of the one connection to the server beside that with `other` at its client's end.
Ends connection_to(std::uint16_t server_port, int other = -1) {
  std::vector<int> all;
  DIR* directory = ::opendir("/proc/self/fd");
  REQUIRE(directory != nullptr);
  while (const dirent* entry = ::readdir(directory)) all.push_back(std::atoi(entry->d_name));
  ::closedir(directory);
  Ends ends;
  for (const int fd : all)
    if (fd != other && port_of(::getpeername, fd) == server_port) ends.clients = fd;
  REQUIRE(ends.clients >= 0);
  for (const int fd : all)
    if (port_of(::getsockname, fd) == server_port && port_of(::getpeername, fd) == port_of(::getsockname, ends.clients))
      ends.servers = fd;
  REQUIRE(ends.servers >= 0);
  return ends;
}

int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof(value);
  REQUIRE(::getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

void check_tuned(int fd) {
  CHECK(option_of(fd, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option_of(fd, SOL_SOCKET, SO_KEEPALIVE) == 1);
  const int first = option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), next = option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL);
  CHECK(std::chrono::seconds(first + next * option_of(fd, IPPROTO_TCP, TCP_KEEPCNT)) == kUsualSilence);
  CHECK(std::chrono::milliseconds(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT)) == kUsualSilence);
}

void set_option(int fd, int name, int value) {
  REQUIRE(::setsockopt(fd, IPPROTO_TCP, name, &value, sizeof(value)) == 0);
}

// The minute that a server waits is made two seconds; that it waits no longer is its own doing.
void hurry(int fd) {
  set_option(fd, TCP_KEEPIDLE, 1);
  set_option(fd, TCP_KEEPINTVL, 1);
  set_option(fd, TCP_USER_TIMEOUT, 2000);
}

void let_vanish(int fd) {
  sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program{1, &nothing};
  REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0);
}

}  // namespace

TEST_CASE("both ends of every connection notice a peer that is silent for a minute") {
  ServerOptions options = ServedRendezvous::world_of(1);
  options.tcpstore = true;
  ServedRendezvous served(options);
  served.on_thread([&served] {
    AddressList list;
    REQUIRE(list.add("127.0.0.0/8"));
    served.server().admit_store_clients(list);
  });
  {
    const auto client = Client::join(served.client(0));
    REQUIRE(client);
    const Ends ends = connection_to(served.port());
    check_tuned(ends.servers);
    check_tuned(ends.clients);
  }
  RawPeer pytorch(served.port());
  pytorch.send(tcpstore::encode({Verb::validate, {}, {}, tcpstore::kMagic}));
  pytorch.send(tcpstore::encode({Verb::add, {"n"}, {}, 1}));
  REQUIRE(pytorch.receive(8).size() == 8);
  check_tuned(connection_to(served.port()).servers);
}

TEST_CASE("a rank whose machine vanishes is lost to the job, whether something is on its way to it or not") {
  const bool sent_to = GENERATE(false, true);
  ServedRendezvous served(ServedRendezvous::world_of(2));
  auto client = Client::join(served.client(0));
  REQUIRE(client);
  const int others = connection_to(served.port()).clients;
  RawPeer rank(served.port());
  rank.enter(served.client(1));
  const Ends ends = connection_to(served.port(), others);
  rank.send(encode(Get{1, "key", 600'000}));
  rank.send(encode(Set{2, "asked", {}}));  // answered behind the Get: that one is held now
  REQUIRE(std::holds_alternative<Done>(*rank.next()));
  hurry(ends.servers);
  let_vanish(ends.clients);
  auto waiting =
      std::async(std::launch::async, [&client] { return (*client)->barrier("all", std::chrono::minutes(10)); });
  if (sent_to) REQUIRE((*client)->set("key", as_bytes("value")));
  if (waiting.wait_for(std::chrono::seconds(60)) != std::future_status::ready) {
    served.on_thread([&served] { served.server().end_generation("nothing was noticed"); });
    FAIL("the server did not notice that the rank has vanished");
  }
  const auto result = waiting.get();
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Errc::closed);
  CHECK(result.error().what == "barrier 'all' cannot complete: rank 1 (gpu02) lost the connection");
  CHECK(served.log().wait_for(LogLevel::debug, "rank 1 went without a word").find("timed out") != std::string::npos);
}

}  // namespace rendezvous_half_open_test
