// How long after `end_generation` the last of many clients has read that its generation ended. Server and clients are
// in one process, over loopback; each client also waits for a key, whose Failure comes before, as a rank's call would.
//
//   rendezvous_end_bench [CLIENTS [RUNS]]      default 1000 and 7; prints the median and all runs, in milliseconds
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <chrono>
#include <cstdlib>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "rendezvous/asio.hpp"
#include "rendezvous/auth.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/connection.hpp"
#include "rendezvous/server.hpp"

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using Clock = std::chrono::steady_clock;

namespace {

template <class T>
T must(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "error: {}\n", to_string(result.error()));
  std::exit(1);
}
void must(const Result<void>& result) {
  if (result) return;
  fmt::print(stderr, "error: {}\n", to_string(result.error()));
  std::exit(1);
}

Clock::time_point soon() {
  return Clock::now() + std::chrono::seconds(60);
}

struct EndClient {
  Connection connection;
  MessageDecoder decoder{MessageDecoder::Side::client};

  Message next() {
    while (true) {
      if (auto message = must(decoder.next())) return std::move(*message);
      std::array<std::byte, 1024> buffer;
      const std::size_t got = must(connection.receive(buffer, soon()));
      decoder.feed(std::span(buffer).first(got));
    }
  }
  template <class T>
  T want() {
    Message message = next();
    if (auto* wanted = std::get_if<T>(&message)) return std::move(*wanted);
    fmt::print(stderr, "error: another message than was due\n");
    std::exit(1);
  }
  void say(const Message& message) { must(connection.send(encode(message), soon())); }
};

double one_run(std::uint32_t clients) {
  asio::io_context context;
  auto work = asio::make_work_guard(context);
  ServerOptions options;
  options.job_id = "bench";
  options.token = make_token();
  options.hosts.assign(clients, "host");
  options.bind_address = "127.0.0.1";
  const Token token = must(Token::parse(options.token));
  auto server = must(Server::start(context.get_executor(), options));
  std::thread thread([&context] { context.run(); });

  std::vector<EndClient> all;
  for (std::uint32_t rank = 0; rank < clients; ++rank) {
    EndClient client{must(Connection::open("127.0.0.1", server->port(), soon()))};
    Hello hello;
    hello.job_id = "bench";
    hello.rank = Rank{rank};
    hello.world_size = clients;
    hello.pid = rank;
    client.say(Preamble{});
    client.say(hello);
    const auto challenge = client.want<Challenge>();
    client.say(Proof{token.prove(Token::Side::client, hello, challenge.nonce)});
    client.want<Welcome>();
    client.say(Get{1, "never", 600'000});
    client.say(Set{2, "asked", {}});  // answered behind the Get: that one is held now
    client.want<Done>();
    all.push_back(std::move(client));
  }
  std::promise<Clock::time_point> begun;
  asio::post(context, [&] {
    begun.set_value(Clock::now());
    server->end_generation("a rank has failed");
  });
  for (EndClient& client : all) {
    client.want<Failure>();
    client.want<Ended>();
  }
  const auto took = Clock::now() - begun.get_future().get();

  std::promise<void> closed;
  asio::post(context, [&] {
    server.reset();
    closed.set_value();
  });
  closed.get_future().get();
  work.reset();
  thread.join();
  return std::chrono::duration<double, std::milli>(took).count();
}

}  // namespace

int main(int argc, char** argv) {
  const auto clients = static_cast<std::uint32_t>(argc > 1 ? std::atoi(argv[1]) : 1000);
  const int runs = argc > 2 ? std::atoi(argv[2]) : 7;
  if (clients == 0 || runs < 1) {
    fmt::print(stderr, "usage: rendezvous_end_bench [CLIENTS [RUNS]]\n");
    return 64;
  }
  set_log_level(LogLevel::error);
  std::vector<double> took;
  std::string raw;
  for (int run = 0; run < runs; ++run) {
    took.push_back(one_run(clients));
    raw += fmt::format(" {:.1f}", took.back());
  }
  std::sort(took.begin(), took.end());
  fmt::print("{} clients: the last one has read the end after {:.1f} ms, median of {} runs:{}\n", clients,
             took[took.size() / 2], runs, raw);
  return 0;
}
