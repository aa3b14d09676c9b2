// The agent's sockets over this machine's loopback: the probe of the head's addresses, and connections that it carries.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "launcher/agent/carrier.hpp"
#include "launcher/agent/head_probe.hpp"
#include "tests/support/catch.hpp"

namespace agent_network_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;
using std::chrono::milliseconds;

namespace {

Bytes bytes_of(std::string_view text) {
  const ByteView bytes = as_bytes(text);
  return Bytes(bytes.begin(), bytes.end());
}

sockaddr_in place(const char* address, std::uint16_t port) {
  sockaddr_in made{};
  made.sin_family = AF_INET;
  made.sin_port = htons(port);
  ::inet_pton(AF_INET, address, &made.sin_addr);
  return made;
}

// Listens where a head would; `port` 0 chooses one.
UniqueFd listener(const char* address, std::uint16_t& port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in made = place(address, port);
  socklen_t size = sizeof made;
  REQUIRE(::bind(fd.value(), reinterpret_cast<sockaddr*>(&made), size) == 0);
  REQUIRE(::listen(fd.value(), 8) == 0);
  REQUIRE(::getsockname(fd.value(), reinterpret_cast<sockaddr*>(&made), &size) == 0);
  port = ntohs(made.sin_port);
  return fd;
}

UniqueFd connected(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in made = place("127.0.0.1", port);
  REQUIRE(::connect(fd.value(), reinterpret_cast<const sockaddr*>(&made), sizeof made) == 0);
  return fd;
}

std::string read_text(const UniqueFd& fd, std::size_t size) {
  std::string text(size, '\0');
  const ssize_t got = ::recv(fd.value(), text.data(), size, MSG_WAITALL);
  text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return text;
}

void put(const UniqueFd& fd, std::string_view text) {
  REQUIRE(::send(fd.value(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
}

HeadWays ways_of(std::vector<std::string> addresses, std::uint16_t port) {
  HeadWays ways;
  ways.addresses = std::move(addresses);
  ways.port = port;
  ways.greeting = bytes_of("hello?");
  ways.answer = bytes_of("the head");
  return ways;
}

// Waits for readiness and looks, by a clock of the test's own.
std::optional<HeadReach> look(HeadProbe& probe, HeadProbe::TimePoint now) {
  std::vector<pollfd> polls;
  probe.add_polls(polls);
  if (!polls.empty()) REQUIRE(::poll(polls.data(), polls.size(), 10'000) > 0);
  return probe.look(now);
}

const HeadProbe::TimePoint kStart{};

struct Carried {
  Carrier carrier;
  std::vector<AgentMessage> said;

  // One turn of the agent's loop that something is ready for.
  void turn(int timeout_ms = 10'000) {
    std::vector<pollfd> polls;
    carrier.add_polls(polls);
    if (::poll(polls.data(), polls.size(), timeout_ms) <= 0)
      for (pollfd& entry : polls) entry.revents = 0;
    for (AgentMessage& message : carrier.turn(polls)) said.push_back(std::move(message));
  }
  template <class M>
  std::vector<M> of() const {
    std::vector<M> found;
    for (const AgentMessage& message : said)
      if (const auto* one = std::get_if<M>(&message)) found.push_back(*one);
    return found;
  }
  template <class M>
  void until(std::size_t count) {
    for (int i = 0; i < 10'000 && of<M>().size() < count; ++i) turn();
    REQUIRE(of<M>().size() >= count);
  }
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const CarriedData& data : of<CarriedData>()) sum += data.data.size();
    return sum;
  }
};

}  // namespace

TEST_CASE("the probe takes the first address where it works") {
  std::uint16_t port = 0;
  const UniqueFd head = listener("127.0.0.1", port);
  HeadProbe probe;
  probe.begin(ways_of({"127.0.0.1", "127.0.0.9"}, port), kProbeTime, kStart);
  CHECK(probe.next_look() == kStart + kProbeHeadStart);
  CHECK_FALSE(look(probe, kStart));  // connected: it greets
  const UniqueFd peer(::accept4(head.value(), nullptr, nullptr, SOCK_CLOEXEC));
  CHECK(read_text(peer, 6) == "hello?");
  put(peer, "the ");
  CHECK_FALSE(look(probe, kStart));
  put(peer, "head, and more");
  const auto reach = look(probe, kStart);
  REQUIRE(reach);
  CHECK(reach->way == 0);
  CHECK(reach->interface.empty());  // loopback is none for others
  CHECK(probe.next_look() == HeadProbe::TimePoint::max());
  CHECK_FALSE(probe.look(kStart));
}

TEST_CASE("what fails at once does not wait for the head start, and another one's answer is no answer") {
  std::uint16_t port = 0;
  const UniqueFd head = listener("127.0.0.8", port);
  HeadProbe probe;
  probe.begin(ways_of({"127.0.0.7", "127.0.0.8", "nonsense"}, port), kProbeTime, kStart);
  CHECK_FALSE(look(probe, kStart));  // refused, and the others begin
  CHECK_FALSE(look(probe, kStart));
  const UniqueFd peer(::accept4(head.value(), nullptr, nullptr, SOCK_CLOEXEC));
  put(peer, "HTTP/1.1 400");
  const auto reach = look(probe, kStart);
  REQUIRE(reach);
  const std::string at = ":" + std::to_string(port) + ": ";
  CHECK(reach->way == kNotReached);
  CHECK(reach->failures == "127.0.0.7" + at + "Connection refused, 127.0.0.8" + at +
                               "what listens there is not the rendezvous, nonsense" + at + "not an address");
}

TEST_CASE("who says nothing loses against the others, and at last against the clock") {
  std::uint16_t port = 0;
  const UniqueFd silent = listener("127.0.0.1", port);
  const UniqueFd head = listener("127.0.0.2", port);
  HeadProbe probe;
  probe.begin(ways_of({"127.0.0.1", "127.0.0.2"}, port), milliseconds(1'500), kStart);
  CHECK_FALSE(look(probe, kStart));
  CHECK_FALSE(probe.look(kStart + kProbeHeadStart - milliseconds(1)));
  CHECK(probe.next_look() == kStart + kProbeHeadStart);
  CHECK_FALSE(probe.look(kStart + kProbeHeadStart));
  CHECK(probe.next_look() == kStart + milliseconds(1'500));
  CHECK_FALSE(look(probe, kStart + kProbeHeadStart));
  const UniqueFd peer(::accept4(head.value(), nullptr, nullptr, SOCK_CLOEXEC));
  put(peer, "the head");
  const auto reach = look(probe, kStart + kProbeHeadStart);
  REQUIRE(reach);
  CHECK(reach->way == 1);

  HeadProbe late;
  late.begin(ways_of({"127.0.0.1"}, port), milliseconds(1'500), kStart);
  CHECK_FALSE(look(late, kStart));
  const auto none = late.look(kStart + milliseconds(1'500));
  REQUIRE(none);
  CHECK(none->failures == "127.0.0.1:" + std::to_string(port) + ": no answer within 1500 ms");
}

TEST_CASE("bytes go both ways, and each end in its turn") {
  Carried agent;
  const auto port = agent.carrier.listen(4);
  REQUIRE(port);
  const UniqueFd rank = connected(*port);
  put(rank, "ask");
  agent.until<CarriedData>(1);
  CHECK(agent.of<CarriedOpen>().at(0).id == 0);
  CHECK(agent.of<CarriedData>()[0].data == bytes_of("ask"));
  REQUIRE(agent.carrier.take(CarriedData{0, bytes_of("answer")}));
  agent.turn(0);
  CHECK(read_text(rank, 6) == "answer");
  REQUIRE(agent.carrier.take(CarriedEnd{0}));
  agent.turn(0);
  CHECK(read_text(rank, 1).empty());  // the end; the other direction goes on
  put(rank, "bye");
  ::shutdown(rank.value(), SHUT_WR);
  agent.until<CarriedEnd>(1);
  CHECK(agent.of<CarriedData>().back().data == bytes_of("bye"));
  CHECK(agent.carrier.take(CarriedData{0, bytes_of("late")}));  // it may not have heard of that
  CHECK_FALSE(agent.carrier.take(CarriedData{1, bytes_of("never")}));
  CHECK(agent.of<CarriedReset>().empty());
}

TEST_CASE("a window that is full stops its own connection, and no other") {
  Carried agent;
  const auto port = agent.carrier.listen(4);
  REQUIRE(port);
  const UniqueFd busy = connected(*port);
  put(busy, std::string(kCarriedWindowBytes + 1'000, 'x'));
  while (agent.bytes() < kCarriedWindowBytes) agent.turn();
  agent.turn(0);
  CHECK(agent.bytes() == kCarriedWindowBytes);
  const UniqueFd other = connected(*port);
  put(other, "me too");
  agent.until<CarriedOpen>(2);
  while (agent.bytes() < kCarriedWindowBytes + 6) agent.turn();
  CHECK(agent.of<CarriedData>().back().data == bytes_of("me too"));
  REQUIRE(agent.carrier.take(CarriedTaken{0, 1'000}));
  while (agent.bytes() < kCarriedWindowBytes + 1'006) agent.turn();
  CHECK_FALSE(agent.carrier.take(CarriedTaken{0, kCarriedWindowBytes + 1}));

  // The other direction: credit comes for what the rank has, and more than the window breaks the protocol.
  REQUIRE(agent.carrier.take(CarriedData{1, Bytes(kCarriedWindowBytes)}));
  CHECK_FALSE(agent.carrier.take(CarriedData{1, Bytes(1)}));
  for (std::size_t got = 0; got < kCarriedWindowBytes;) {
    agent.turn(0);
    got += read_text(other, std::min<std::size_t>(kCarriedChunkBytes, kCarriedWindowBytes - got)).size();
  }
  agent.until<CarriedTaken>(1);
  CHECK(agent.carrier.take(CarriedData{1, Bytes(1)}));
}

TEST_CASE("connections beyond the limit wait, and a reset makes room") {
  Carried agent;
  const auto port = agent.carrier.listen(1);
  REQUIRE(port);
  const UniqueFd first = connected(*port), second = connected(*port);
  agent.until<CarriedOpen>(1);
  agent.turn(0);
  CHECK(agent.of<CarriedOpen>().size() == 1);
  REQUIRE(agent.carrier.take(CarriedReset{0}));
  agent.until<CarriedOpen>(2);
  CHECK(read_text(first, 1).empty());
}

TEST_CASE("when no rank is left, what they had sent is read to its end, and nothing is waited for") {
  Carried agent;
  const auto port = agent.carrier.listen(4);
  REQUIRE(port);
  UniqueFd gone = connected(*port);
  const UniqueFd held_by_a_stranger = connected(*port);
  agent.until<CarriedOpen>(2);
  put(gone, std::string(40'000, 'z'));
  gone.reset();
  agent.carrier.finish();
  CHECK(agent.carrier.busy());
  agent.turn(0);
  CHECK_FALSE(agent.carrier.busy());
  CHECK(agent.bytes() == 40'000);
  CHECK(agent.of<CarriedEnd>().size() == 1);
  REQUIRE(agent.of<CarriedReset>().size() == 1);
  CHECK(agent.of<CarriedReset>()[0].id == 1);
}

}  // namespace agent_network_test
