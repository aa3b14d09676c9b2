// The rendezvous server alone, and the clients that load it. tests/bench/bench_rendezvous.py starts both and compares
// with PyTorch's TCPStore.
//
//     rendezvous_bench serve WORLD                        prints its port; ends with its stdin
//     rendezvous_bench join PORT WORLD SERVER-PID
//     rendezvous_bench store PORT native|tcpstore CLIENTS PAIRS
#include "tests/bench/rendezvous_bench.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "rendezvous/server.hpp"

namespace llmlaunch::bench {
namespace {

// Beside the connections.
constexpr std::size_t kOtherFiles = 32;

template <class Number>
Number number_of(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) die(fmt::format("'{}' is not a number", text));
  return number;
}

}  // namespace

void prepare(std::size_t connections) {
  const std::size_t needed = connections + kOtherFiles;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) die("getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) die("setrlimit");
  if (limit.rlim_max < needed) die(fmt::format("{} open files: the hard limit is {}", needed, limit.rlim_max));
}

namespace {

void serve(std::uint32_t world) {
  prepare(world);
  asio::io_context context;
  rendezvous::ServerOptions options;
  options.job_id = kJobId;
  options.token = kToken;
  options.hosts.assign(world, "bench");
  options.bind_address = "127.0.0.1";
  options.tcpstore = true;
  auto server = rendezvous::Server::start(context.get_executor(), std::move(options));
  if (!server) die(to_string(server.error()));
  rendezvous::AddressList clients;
  if (const auto added = clients.add("127.0.0.0/8"); !added) die(to_string(added.error()));
  (*server)->admit_store_clients(std::move(clients));
  fmt::print("{}\n", (*server)->port());
  std::fflush(stdout);
  asio::posix::stream_descriptor input(context, ::dup(STDIN_FILENO));
  std::array<char, 1> byte;
  input.async_read_some(asio::buffer(byte), [&](const auto&, std::size_t) { context.stop(); });
  context.run();
}

}  // namespace

void die(const std::string& what) {
  fmt::print(stderr, "rendezvous_bench: {}\n", what);
  std::exit(70);
}

int connect_from(std::uint32_t source, Target target) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die(fmt::format("socket: {}", std::strerror(errno)));
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  sockaddr_in here{}, there{};
  here.sin_family = there.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(source);
  there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  there.sin_port = htons(target.port);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&here), sizeof here) != 0 ||
      ::connect(fd, reinterpret_cast<sockaddr*>(&there), sizeof there) != 0)
    die(fmt::format("connect to port {}: {}", target.port, std::strerror(errno)));
  return fd;
}

void send_all(int fd, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) die(fmt::format("send: {}", std::strerror(errno)));
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

}  // namespace llmlaunch::bench

int main(int argc, char** argv) {
  using namespace llmlaunch::bench;
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  const auto is = [&](std::string_view name, std::size_t count) {
    return arguments.size() == count + 1 && arguments[0] == name;
  };
  const auto port = [&] { return Target{number_of<std::uint16_t>(arguments[1])}; };
  if (is("serve", 1)) {
    serve(number_of<std::uint32_t>(arguments[1]));
  } else if (is("join", 3)) {
    const auto world = number_of<std::uint32_t>(arguments[2]);
    prepare(world);
    join(port(), world, number_of<int>(arguments[3]));
  } else if (is("store", 4)) {
    store(port(), std::string(arguments[2]), number_of<std::uint32_t>(arguments[3]),
          number_of<std::uint32_t>(arguments[4]));
  } else {
    fmt::print(stderr,
               "usage: rendezvous_bench serve WORLD | join PORT WORLD SERVER-PID | "
               "store PORT native|tcpstore CLIENTS PAIRS\n");
    return 64;
  }
  return 0;
}
