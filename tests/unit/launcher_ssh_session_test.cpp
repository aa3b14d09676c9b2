// Session against peers that hang up, each at another moment: what it says must not depend on how far libssh was then.
#include "launcher/ssh/session.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "rendezvous/base/unique_fd.hpp"
#include "tests/support/catch.hpp"

namespace launcher_ssh_session_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::launcher::ssh;

namespace {

asio::awaitable<void> keep(asio::awaitable<Result<void>> body, std::optional<Result<void>>& result) {
  result.emplace(co_await std::move(body));
}

/// Runs one step to its end.
Result<void> run(asio::io_context& io, asio::awaitable<Result<void>> body) {
  std::optional<Result<void>> result;
  spawn_or_die(io.get_executor(), "test", keep(std::move(body), result));
  io.restart();
  while (!result) REQUIRE(io.run_one() > 0);
  return *result;
}

/// A session whose other end is ours.
struct Pair {
  std::shared_ptr<Session> session;
  UniqueFd peer;
};

Pair pair(asio::io_context& io) {
  auto sockets = make_socket_pair(io.get_executor());
  REQUIRE(sockets);
  UniqueFd peer(sockets->theirs);
  auto made = Session::make(Transport{std::move(sockets->ours), "10.0.0.1", "10.0.0.2", "10.0.0.2"},
                            SessionOptions{"me", "host", "ssh-ed25519"});
  REQUIRE(made);
  return {std::move(*made), std::move(peer)};
}

}  // namespace

TEST_CASE("a peer that hung up is one that closed the connection, whenever it did") {
  asio::io_context io;
  Pair ends = pair(io);

  SECTION("before libssh looked at the socket") {
    ends.peer.reset();
    const auto answer = run(io, ends.session->await_banner());
    REQUIRE(!answer);
    CHECK(answer.error().code == Errc::closed);
    CHECK(answer.error().what == "sshd closed the connection during the wait for its banner");
  }

  SECTION("while its banner was waited for") {
    asio::post(io, [&] { ends.peer.reset(); });
    const auto answer = run(io, ends.session->await_banner());
    REQUIRE(!answer);
    CHECK(answer.error().code == Errc::closed);
    CHECK(answer.error().what == "sshd closed the connection during the wait for its banner");
  }

  SECTION("with our own banner read and no word of its own") {
    std::optional<Result<void>> answer;
    spawn_or_die(io.get_executor(), "test", keep(ends.session->await_banner(), answer));
    std::array<char, 256> ours{};
    while (::recv(ends.peer.value(), ours.data(), ours.size(), MSG_DONTWAIT) < 0) REQUIRE(io.run_one() > 0);
    ends.peer.reset();
    while (!answer) REQUIRE(io.run_one() > 0);
    REQUIRE(!*answer);
    CHECK(answer->error().code == Errc::closed);
    CHECK(answer->error().what == "sshd closed the connection during the wait for its banner");
  }

  SECTION("before libssh looked, after half a banner") {
    constexpr std::string_view kHalf = "SSH-2.0-Open";
    REQUIRE(::send(ends.peer.value(), kHalf.data(), kHalf.size(), 0) == static_cast<ssize_t>(kHalf.size()));
    ends.peer.reset();
    const auto answer = run(io, ends.session->await_banner());
    REQUIRE(!answer);
    CHECK(answer.error().code == Errc::closed);
    CHECK(answer.error().what == "sshd closed the connection during the wait for its banner");
  }

  SECTION("before libssh looked, after its banner") {
    constexpr std::string_view kBanner = "SSH-2.0-OpenSSH_9.2\r\n";
    REQUIRE(::send(ends.peer.value(), kBanner.data(), kBanner.size(), 0) == static_cast<ssize_t>(kBanner.size()));
    ends.peer.reset();
    auto answer = run(io, ends.session->await_banner());
    if (answer) answer = run(io, ends.session->exchange_keys());
    REQUIRE(!answer);
    CHECK(answer.error().code == Errc::closed);
  }

  SECTION("after its banner, while keys were exchanged") {
    constexpr std::string_view kBanner = "SSH-2.0-OpenSSH_9.2\r\n";
    REQUIRE(::send(ends.peer.value(), kBanner.data(), kBanner.size(), 0) == static_cast<ssize_t>(kBanner.size()));
    REQUIRE(run(io, ends.session->await_banner()));
    ends.peer.reset();
    const auto answer = run(io, ends.session->exchange_keys());
    REQUIRE(!answer);
    CHECK(answer.error().code == Errc::closed);
    CHECK(answer.error().what == "sshd closed the connection during the key exchange");
  }
}

TEST_CASE("a session that its user closed says so, not what libssh makes of it") {
  asio::io_context io;
  const Pair ends = pair(io);
  asio::post(io, [&] { ends.session->close(); });
  const auto answer = run(io, ends.session->await_banner());
  REQUIRE(!answer);
  CHECK(answer.error().code == Errc::canceled);
}

TEST_CASE("what answers and is no sshd is told with its words") {
  asio::io_context io;
  Pair ends = pair(io);
  constexpr std::string_view kWords = "HTTP/1.1 400 Bad Request\r\n";
  REQUIRE(::send(ends.peer.value(), kWords.data(), kWords.size(), 0) == static_cast<ssize_t>(kWords.size()));
  ends.peer.reset();
  const auto answer = run(io, ends.session->await_banner());
  REQUIRE(!answer);
  CHECK(answer.error().code == Errc::protocol);
  CHECK(answer.error().what == "what answers at 10.0.0.2 is no sshd: it says 'HTTP/1.1 400 Bad Request'");
}

}  // namespace launcher_ssh_session_test
