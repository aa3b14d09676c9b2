// TcpConnector and AgentClient over sockets of this machine: every wait with its success, failure, deadline and cancel.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launcher/ssh/agent_client.hpp"
#include "launcher/ssh/agent_keys.hpp"
#include "launcher/tcp_connect.hpp"
#include "tests/support/catch.hpp"

namespace launcher_ssh_connect_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::launcher::ssh;
using namespace std::chrono_literals;
using asio::ip::tcp;

namespace {

template <class T>
asio::awaitable<void> keep(asio::awaitable<Result<T>> body, std::optional<Result<T>>& result) {
  result.emplace(co_await std::move(body));
}

/// Runs one coroutine to its end.
template <class T>
Result<T> run(asio::io_context& io, asio::awaitable<Result<T>> body) {
  std::optional<Result<T>> result;
  spawn_or_die(io.get_executor(), "test", keep(std::move(body), result));
  io.restart();
  while (!result) REQUIRE(io.run_one() > 0);
  return std::move(*result);
}

tcp::acceptor listener(asio::io_context& io) {
  return {io, tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0)};
}

/// A port where nobody listens.
tcp::endpoint dead_end(asio::io_context& io) {
  return listener(io).local_endpoint();
}

/// A listener whose backlog is full: the kernel drops what else wants to connect, as a firewall would.
class Silence {
 public:
  explicit Silence(asio::io_context& io) : acceptor_(io, tcp::v4()) {
    acceptor_.bind(tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0));
    acceptor_.listen(0);
    for (tcp::socket* one : {&first_, &second_}) {
      one->open(tcp::v4());
      one->native_non_blocking(true);
      const auto to = acceptor_.local_endpoint();
      (void)::connect(one->native_handle(), to.data(), static_cast<socklen_t>(to.size()));  // Asio's own would wait
    }
  }
  tcp::endpoint endpoint() const { return acceptor_.local_endpoint(); }

 private:
  tcp::acceptor acceptor_;
  tcp::socket first_{acceptor_.get_executor()}, second_{acceptor_.get_executor()};
};

}  // namespace

TEST_CASE("a connection to an address that listens is made") {
  asio::io_context io;
  auto server = listener(io);
  const auto connector = std::make_shared<TcpConnector>(io.get_executor());
  const auto socket = run(io, connector->connect({server.local_endpoint()}, {"host", server.local_endpoint().port()}));
  REQUIRE(socket);
  CHECK(socket->remote_endpoint() == server.local_endpoint());
}

TEST_CASE("an address that refuses is named, with what to do") {
  asio::io_context io;
  const auto dead = dead_end(io);
  const auto connector = std::make_shared<TcpConnector>(io.get_executor());
  const TcpTarget target{"host", dead.port(), AF_UNSPEC, 10s, "an 'address'", "start sshd there"};
  const auto socket = run(io, connector->connect({dead}, target));
  REQUIRE_FALSE(socket);
  CHECK(socket.error().code == Errc::refused);
  CHECK(to_string(socket.error()) ==
        "connection refused by 127.0.0.1:" + std::to_string(dead.port()) + "\n   hint: start sshd there");
}

TEST_CASE("the next address is tried when one refuses, and when one is silent") {
  asio::io_context io;
  auto server = listener(io);
  const Silence silence(io);
  for (const tcp::endpoint& first : {dead_end(io), silence.endpoint()}) {
    const auto connector = std::make_shared<TcpConnector>(io.get_executor());
    const auto socket = run(io, connector->connect({first, server.local_endpoint()}, {"host", 22}));
    REQUIRE(socket);
    CHECK(socket->remote_endpoint() == server.local_endpoint());
  }
}

TEST_CASE("silence ends at the deadline") {
  asio::io_context io;
  const Silence silence(io);
  const auto connector = std::make_shared<TcpConnector>(io.get_executor());
  const auto socket = run(io, connector->connect({silence.endpoint()}, {"host", 22, AF_UNSPEC, 50ms}));
  REQUIRE_FALSE(socket);
  CHECK(socket.error().code == Errc::timed_out);
  CHECK(socket.error().what == "no answer from " + to_text(silence.endpoint()) + " within 0.05 s");
}

TEST_CASE("a connection that is being made can be canceled") {
  asio::io_context io;
  const Silence silence(io);
  const auto connector = std::make_shared<TcpConnector>(io.get_executor());
  asio::post(io, [&] { connector->cancel(); });
  const auto socket = run(io, connector->connect({silence.endpoint()}, {"host", 22}));
  REQUIRE_FALSE(socket);
  CHECK(socket.error().code == Errc::canceled);
  CHECK(run(io, connector->connect({silence.endpoint()}, {"host", 22})).error().code == Errc::canceled);
}

TEST_CASE("names and literal addresses are looked up, unknown names are told") {
  asio::io_context io;
  const auto connector = std::make_shared<TcpConnector>(io.get_executor());
  const auto literal = run(io, connector->resolve({"::1", 2222}));
  REQUIRE(literal);
  CHECK(to_text(literal->front()) == "[::1]:2222");
  const auto named = run(io, connector->resolve({"localhost", 2222, AF_INET}));
  REQUIRE(named);
  CHECK(to_text(named->front()) == "127.0.0.1:2222");
  const auto unknown = run(io, connector->resolve({"no-such-host.invalid", 22, AF_UNSPEC, 10s, "give an address"}));
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == Errc::not_found);
  CHECK(unknown.error().what.starts_with("no address for 'no-such-host.invalid': "));
  CHECK(unknown.error().hint == "check the name, or give an address");
}

// --- ssh-agent -------------------------------------------------------------------------------------------------------

namespace {

Bytes bytes(std::string_view text) {
  return Bytes(as_bytes(text).begin(), as_bytes(text).end());
}

/// A message with its length in front.
std::string message(std::string_view body) {
  std::string framed(4, '\0');
  framed[3] = static_cast<char>(body.size());
  return framed.append(body);
}

/// "signs" by its name; has two keys. Answers until its peer closes.
asio::awaitable<void> act_as_agent(asio::local::stream_protocol::acceptor& acceptor) {
  auto [failed, peer] = co_await acceptor.async_accept(await_tuple);
  REQUIRE_FALSE(failed);
  for (;;) {
    std::array<char, 4> header{};
    const auto [gone, got] = co_await asio::async_read(peer, asio::buffer(header), await_tuple);
    if (gone) co_return;
    std::string body(static_cast<std::size_t>(header[3]), '\0');
    co_await asio::async_read(peer, asio::buffer(body), await_tuple);
    std::string answer(1, '\x0e');
    answer += "signed";
    if (body[0] == 11) {
      const Bytes list = encode_identities({{bytes("key one"), "one"}, {bytes("key two"), "two"}});
      answer = std::string(as_text(list));
    }
    const std::string framed = message(answer);  // named: GCC 12 destroys temporaries of a co_await twice
    co_await asio::async_write(peer, asio::buffer(framed), await_tuple);
  }
}

class FakeAgent {
 public:
  explicit FakeAgent(asio::io_context& io) : acceptor_(io, path_) {
    asio::co_spawn(io, act_as_agent(acceptor_), [](const std::exception_ptr& failure) { REQUIRE_FALSE(failure); });
  }
  ~FakeAgent() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_ =
      (std::filesystem::temp_directory_path() / ("llmlaunch-agent-test-" + std::to_string(::getpid()))).string();
  asio::local::stream_protocol::acceptor acceptor_;
};

asio::awaitable<Result<std::string>> ask(asio::local::stream_protocol::socket& socket, std::string body) {
  const std::string framed = message(body);
  co_await asio::async_write(socket, asio::buffer(framed), await_tuple);
  std::array<unsigned char, 4> header{};
  const auto [gone, got] = co_await asio::async_read(socket, asio::buffer(header), await_tuple);
  if (gone) co_return from_asio(gone, "view");
  std::string answer(header[3], '\0');
  co_await asio::async_read(socket, asio::buffer(answer), await_tuple);
  co_return answer;
}

}  // namespace

TEST_CASE("a view of ssh-agent shows and signs with the chosen keys only") {
  asio::io_context io;
  const FakeAgent agent(io);
  const auto client = std::make_shared<AgentClient>(io.get_executor());
  REQUIRE(run(io, client->connect(agent.path())));
  const auto keys = run(io, client->identities(10s));
  REQUIRE(keys);
  REQUIRE(keys->size() == 2);
  CHECK(keys->at(1).comment == "two");

  const auto descriptor = client->open_view({keys->at(1)}, 10s);
  REQUIRE(descriptor);
  asio::local::stream_protocol::socket view(io, asio::local::stream_protocol(), *descriptor);
  const auto list = run(io, ask(view, "\x0b"));
  REQUIRE(list);
  const auto shown = decode_identities(as_bytes(*list));
  REQUIRE(shown);
  REQUIRE(shown->size() == 1);
  CHECK(shown->front().blob == bytes("key two"));
  CHECK(*run(io, ask(view, "\x0d" + message("key two") + message("data"))) == "\x0esigned");
  CHECK(*run(io, ask(view, "\x0d" + message("key one") + message("data"))) == "\x05");
  CHECK(*run(io, ask(view, "\x13")) == "\x05");  // remove all identities

  // A second view ends the first.
  const auto other = client->open_view({keys->at(0)}, 10s);
  REQUIRE(other);
  CHECK_FALSE(run(io, ask(view, "\x0b")));
  view = asio::local::stream_protocol::socket(io, asio::local::stream_protocol(), *other);
  CHECK(*run(io, ask(view, "\x0d" + message("key one") + message("data"))) == "\x0esigned");

  client->close();
  CHECK_FALSE(run(io, ask(view, "\x0b")));
  CHECK_FALSE(run(io, client->identities(10s)));
}

TEST_CASE("an ssh-agent that is not there or never answers is told") {
  asio::io_context io;
  const auto nobody = std::make_shared<AgentClient>(io.get_executor());
  CHECK(run(io, nobody->connect("/no/such/socket")).error().what ==
        "no ssh-agent at /no/such/socket: No such file or directory");
  CHECK(run(io, nobody->connect(std::string(200, 'x'))).error().code == Errc::invalid_argument);

  const std::string path =
      (std::filesystem::temp_directory_path() / ("llmlaunch-silent-" + std::to_string(::getpid()))).string();
  const asio::local::stream_protocol::acceptor silent(io, path);
  const auto client = std::make_shared<AgentClient>(io.get_executor());
  REQUIRE(run(io, client->connect(path)));
  const auto keys = run(io, client->identities(50ms));
  std::filesystem::remove(path);
  REQUIRE_FALSE(keys);
  CHECK(keys.error().code == Errc::timed_out);
  CHECK(keys.error().what == "ssh-agent has not answered within 0.05 s");
}

TEST_CASE("an ssh-agent whose queue is full is told, and not taken for a connection") {
  asio::io_context io;
  const std::string path =
      (std::filesystem::temp_directory_path() / ("llmlaunch-full-" + std::to_string(::getpid()))).string();
  asio::local::stream_protocol::acceptor stuck(io, asio::local::stream_protocol());
  stuck.bind(path);
  stuck.listen(0);
  const auto first = std::make_shared<AgentClient>(io.get_executor());
  CHECK(run(io, first->connect(path)));  // the queue of none has room for one
  const auto second = std::make_shared<AgentClient>(io.get_executor());
  const auto connected = run(io, second->connect(path));
  std::filesystem::remove(path);
  REQUIRE_FALSE(connected);
  CHECK(connected.error().code == Errc::out_of_resources);
  CHECK(connected.error().what == "ssh-agent at " + path + " takes no connection: it is stuck");
}

TEST_CASE("one question to ssh-agent is for all who want its keys, also when who asks gives up") {
  asio::io_context io;
  const std::string path =
      (std::filesystem::temp_directory_path() / ("llmlaunch-keys-" + std::to_string(::getpid()))).string();
  asio::local::stream_protocol::acceptor acceptor(io, path);
  AgentKeys keys;
  bool gives_up = false;
  const bool stays = false;
  using List = Result<std::vector<AgentIdentity>>;
  std::optional<List> first, second, third;
  spawn_or_die(io.get_executor(), "first", keep(keys.of(io.get_executor(), path, gives_up), first));
  spawn_or_die(io.get_executor(), "second", keep(keys.of(io.get_executor(), path, stays), second));
  spawn_or_die(io.get_executor(), "third", keep(keys.of(io.get_executor(), path, stays), third));
  io.poll();
  CHECK_FALSE((first || second || third));  // nobody answers

  gives_up = true;
  keys.wake();
  while (!first) REQUIRE(io.run_one() > 0);
  CHECK(first->error().code == Errc::canceled);
  io.poll();  // one of the others asks now
  CHECK_FALSE((second || third));

  asio::local::stream_protocol::socket given_up(io), asking(io), more(io);
  acceptor.accept(given_up);
  acceptor.accept(asking);
  std::array<char, 5> request{};
  asio::read(asking, asio::buffer(request));
  const std::string none("\0\0\0\x05\x0c\0\0\0\0", 9);
  asio::write(asking, asio::buffer(none));
  while (!second || !third) REQUIRE(io.run_one() > 0);
  CHECK((*second && (*second)->empty()));
  CHECK((*third && (*third)->empty()));
  acceptor.non_blocking(true);
  boost::system::error_code nobody;
  acceptor.accept(more, nobody);
  CHECK(nobody == asio::error::would_block);  // two were asked for, and no third
  std::filesystem::remove(path);
}

TEST_CASE("a list of keys that cannot be read is an error, a locked agent has none") {
  CHECK(decode_identities(bytes("\x05"))->empty());
  CHECK_FALSE(decode_identities({}));
  CHECK_FALSE(decode_identities(bytes("\x0d")));
  CHECK_FALSE(
      decode_identities(bytes(std::string("\x0c\0\0\0\x02\0\0\0\x01k\0\0\0\x01"
                                          "c",
                                          15))));
}

}  // namespace launcher_ssh_connect_test
