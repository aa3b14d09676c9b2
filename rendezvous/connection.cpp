// Non-blocking sockets with poll and a deadline on each wait; see connection.hpp. Knows nothing of the protocol.
#include "rendezvous/connection.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "rendezvous/base/tcp_tuning.hpp"

namespace llmlaunch::rendezvous {
namespace {

using TimePoint = Connection::TimePoint;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// One address gets this long: a packet that a firewall drops must not eat the time of the addresses behind it, and the
// kernel alone would try for two minutes.
constexpr milliseconds kConnectAttempt{5'000};

// Waits for `events`; true when they are there, false when the deadline passed.
Result<bool> wait_for(int fd, short events, std::optional<TimePoint> deadline) {
  while (true) {
    int timeout_ms = -1;
    if (deadline) {
      const auto left = std::chrono::ceil<milliseconds>(*deadline - steady_clock::now());
      timeout_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
    }
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, timeout_ms);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return system_error(errno, "poll");
    if (deadline && steady_clock::now() >= *deadline) return false;
  }
}

Result<void> connect_to(int fd, const addrinfo& address, TimePoint deadline) {
  if (::connect(fd, address.ai_addr, address.ai_addrlen) == 0) return ok;
  if (errno != EINPROGRESS && errno != EINTR) return system_error(errno, "connect");
  const auto ready = wait_for(fd, POLLOUT, std::min(deadline, steady_clock::now() + kConnectAttempt));
  if (!ready) return ready.error();
  if (!*ready) return make_error(Errc::timed_out, "no answer");
  int failure = 0;
  socklen_t size = sizeof failure;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) != 0) failure = errno;
  if (failure != 0) return system_error(failure, "connect");
  return ok;
}

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<Addresses> look_up_now(const std::string& address, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* found = nullptr;
  const int failure = ::getaddrinfo(address.c_str(), fmt::to_string(port).c_str(), &hints, &found);
  if (failure == 0) return Addresses(found, &::freeaddrinfo);
  if (failure == EAI_SYSTEM) return system_error(errno, fmt::format("looking up {}", address));
  return make_error(failure == EAI_AGAIN ? Errc::unreachable : Errc::not_found,
                    fmt::format("looking up {}: {}", address, ::gai_strerror(failure)));
}

/// The name service has time limits of its own, which may be minutes, and cannot be called off: a thread asks it, and
/// is left to itself when the deadline comes first. What it touches lives as long as it does.
Result<Addresses> look_up(const std::string& address, std::uint16_t port, TimePoint deadline) {
  if (auto literal = look_up_now(address, port, AI_NUMERICHOST)) return literal;
  std::packaged_task<Result<Addresses>()> task([address, port] { return look_up_now(address, port, 0); });
  std::future<Result<Addresses>> answer = task.get_future();
  try {
    std::thread(std::move(task)).detach();
  } catch (const std::system_error& caught) {
    return system_error(caught.code().value(), fmt::format("a thread to look up {}", address));
  }
  if (answer.wait_until(deadline) == std::future_status::ready) return answer.get();
  return make_error(Errc::timed_out, fmt::format("looking up {}: no answer", address));
}

}  // namespace

Result<Connection> Connection::open(const std::string& address, std::uint16_t port, TimePoint deadline) {
  const auto addresses = look_up(address, port, deadline);
  if (!addresses) return addresses.error();
  Error last = make_error(Errc::not_found, fmt::format("looking up {}: no address", address));
  for (const addrinfo* each = addresses->get(); each != nullptr; each = each->ai_next) {
    const int fd = ::socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, each->ai_protocol);
    if (fd < 0) {
      last = system_error(errno, "socket");
      continue;
    }
    Connection connection(fd);
    if (auto connected = connect_to(fd, *each, deadline); !connected) {
      last = connected.error();
      continue;
    }
    tune_connection(fd);
    return connection;
  }
  return last;
}

Connection::~Connection() {
  if (fd_ >= 0) ::close(fd_);
}
Connection::Connection(Connection&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
Connection& Connection::operator=(Connection&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Result<void> Connection::send(ByteView bytes, TimePoint deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return system_error(errno, "send");
    const auto ready = wait_for(fd_, POLLOUT, deadline);
    if (!ready) return ready.error();
    if (!*ready) return make_error(Errc::timed_out, fmt::format("{} bytes could not be sent", bytes.size()));
  }
  return ok;
}

Result<std::size_t> Connection::receive(std::span<std::byte> into, std::optional<TimePoint> deadline) {
  while (true) {
    const ssize_t got = ::recv(fd_, into.data(), into.size(), 0);
    if (got > 0) return static_cast<std::size_t>(got);
    if (got == 0) return make_error(Errc::closed, "the connection was closed");
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return system_error(errno, "recv");
    const auto ready = wait_for(fd_, POLLIN, deadline);
    if (!ready) return ready.error();
    if (!*ready) return make_error(Errc::timed_out, "no answer");
  }
}

void Connection::finish_sending() {
  ::shutdown(fd_, SHUT_WR);
}
void Connection::shut_down() {
  ::shutdown(fd_, SHUT_RDWR);
}

}  // namespace llmlaunch::rendezvous
