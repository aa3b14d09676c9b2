// Name lookup and connection; see tcp_connect.hpp. Policy about ports, names and retries belongs to others.
#include "launcher/tcp_connect.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <system_error>
#include <thread>

#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {
namespace {

using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

// RFC 8305's recommended delay between two attempts.
constexpr std::chrono::milliseconds kNextAddressAfter{250};
// Names with more addresses than this are load balancers, not hosts.
constexpr std::size_t kMaxAddresses = 16;

/// What the lookup thread leaves behind. The coroutine and the thread share it; neither waits for the other.
struct Answer {
  std::mutex mutex;
  int status = EAI_FAIL;
  int errno_value = 0;
  std::vector<tcp::endpoint> endpoints;
};

void look_up(const std::string& host, std::uint16_t port, int family, Answer& answer) {
  addrinfo hints{};
  hints.ai_family = family;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  const int status = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  const std::lock_guard lock(answer.mutex);
  answer.status = status;
  answer.errno_value = errno;
  if (status != 0) return;
  for (const addrinfo* at = found; at != nullptr && answer.endpoints.size() < kMaxAddresses; at = at->ai_next) {
    tcp::endpoint endpoint;
    if (at->ai_addrlen > endpoint.capacity()) continue;
    std::copy_n(reinterpret_cast<const char*>(at->ai_addr), at->ai_addrlen, reinterpret_cast<char*>(endpoint.data()));
    endpoint.resize(at->ai_addrlen);
    endpoint.port(port);
    answer.endpoints.push_back(endpoint);
  }
  ::freeaddrinfo(found);
}

/// The resolver's order within each family, families in turn, beginning with the first one.
std::vector<tcp::endpoint> in_turn(const std::vector<tcp::endpoint>& endpoints) {
  std::vector<tcp::endpoint> first, second, mixed;
  for (const auto& endpoint : endpoints)
    (endpoint.protocol() == endpoints.front().protocol() ? first : second).push_back(endpoint);
  for (std::size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
    if (i < first.size()) mixed.push_back(first[i]);
    if (i < second.size()) mixed.push_back(second[i]);
  }
  return mixed;
}

Error unknown_name(const TcpTarget& target, int status, int errno_value) {
  const std::string reason = status == EAI_SYSTEM ? std::generic_category().message(errno_value) : gai_strerror(status);
  return make_error(Errc::not_found, fmt::format("no address for '{}': {}", target.host, reason), {},
                    "check the name, or " + target.name_hint);
}

Error canceled() {
  return make_error(Errc::canceled, "the connection was given up on request");
}

}  // namespace

std::string to_text(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

TcpConnector::TcpConnector(asio::any_io_executor executor) : executor_(std::move(executor)), wake_(executor_) {}

asio::awaitable<Result<std::vector<tcp::endpoint>>> TcpConnector::resolve(TcpTarget target) {
  if (canceled_) co_return canceled();
  boost::system::error_code not_literal;
  const auto literal = asio::ip::make_address(target.host, not_literal);
  if (!not_literal) co_return std::vector{tcp::endpoint(literal, target.port)};

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) co_return system_error(errno, "pipe for the lookup of '" + target.host + "'");
  lookup_.emplace(executor_, ends[0]);
  const auto answer = std::make_shared<Answer>();
  try {
    // The end of the pipe says that the answer is there.
    std::thread([answer, target, writing = UniqueFd(ends[1])] {
      look_up(target.host, target.port, target.family, *answer);
    }).detach();
  } catch (const std::system_error& error) {
    lookup_.reset();
    co_return make_error(Errc::out_of_resources,
                         fmt::format("no thread for the lookup of '{}': {}", target.host, error.what()));
  }
  const auto self = shared_from_this();
  const Deadline deadline(executor_, target.timeout, [self] { self->lookup_->close(); });
  char nothing = 0;
  (void)co_await lookup_->async_read_some(asio::buffer(&nothing, 1), await_tuple);  // ends by end of file or close
  lookup_.reset();
  if (canceled_) co_return canceled();
  if (deadline.expired())
    co_return make_error(Errc::timed_out,
                         fmt::format("no answer to the lookup of '{}' within {:g} s", target.host,
                                     static_cast<double>(target.timeout.count()) / 1000),
                         {}, "the name server does not answer; " + target.name_hint);
  const std::lock_guard lock(answer->mutex);
  if (answer->status != 0 || answer->endpoints.empty())
    co_return unknown_name(target, answer->status != 0 ? answer->status : EAI_NONAME, answer->errno_value);
  co_return in_turn(answer->endpoints);
}

void TcpConnector::try_address(const tcp::endpoint& endpoint) {
  const auto socket = std::make_shared<Socket>(executor_);
  trying_.push_back(socket);
  ++in_flight_;
  failed_since_ = false;
  last_address_ = to_text(endpoint);
  socket->async_connect(endpoint,
                        [self = shared_from_this(), socket, endpoint](const boost::system::error_code& error) {
                          --self->in_flight_;
                          if (!error && !self->winner_) self->winner_ = std::move(*socket);
                          if (error) {
                            self->failed_since_ = true;
                            self->last_failure_ = error;
                            self->last_address_ = to_text(endpoint);
                          }
                          self->wake_.cancel();
                        });
}

asio::awaitable<Result<TcpConnector::Socket>> TcpConnector::connect(std::vector<tcp::endpoint> endpoints,
                                                                    TcpTarget target) {
  const auto self = shared_from_this();
  const Deadline deadline(executor_, target.timeout, [self] { self->wake_.cancel(); });
  auto next_at = Clock::now();
  std::size_t next = 0;
  while (!winner_ && !canceled_ && !deadline.expired()) {
    if (next < endpoints.size() && (in_flight_ == 0 || failed_since_ || Clock::now() >= next_at)) {
      try_address(endpoints[next++]);
      next_at = Clock::now() + kNextAddressAfter;
    } else if (in_flight_ == 0) {
      break;
    }
    wake_.expires_at(next < endpoints.size() ? next_at : Clock::time_point::max());
    co_await wake_.async_wait(await_tuple);
  }
  boost::system::error_code ignored;  // of sockets that are given up
  for (const auto& socket : trying_) socket->close(ignored);
  if (canceled_) co_return canceled();
  if (winner_) co_return std::move(*winner_);
  if (deadline.expired()) last_failure_ = asio::error::timed_out;
  co_return failed(target);
}

Error TcpConnector::failed(const TcpTarget& target) const {
  if (last_failure_ == asio::error::timed_out)
    return make_error(Errc::timed_out,
                      fmt::format("no answer from {} within {:g} s", last_address_,
                                  static_cast<double>(target.timeout.count()) / 1000),
                      {}, "the host is down, or a firewall drops what is sent to this port");
  if (last_failure_ == asio::error::connection_refused)
    return make_error(Errc::refused, fmt::format("connection refused by {}", last_address_), {}, target.refused_hint);
  return make_error(Errc::unreachable, fmt::format("no connection to {}: {}", last_address_, last_failure_.message()),
                    {}, "check the address, and the network between this machine and the host");
}

void TcpConnector::cancel() {
  canceled_ = true;
  boost::system::error_code ignored;
  if (lookup_) lookup_->close(ignored);
  for (const auto& socket : trying_) socket->close(ignored);
  wake_.cancel();
}

}  // namespace llmlaunch::launcher
