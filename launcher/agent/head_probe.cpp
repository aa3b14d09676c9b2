// The connections of a probe; see head_probe.hpp. What comes of the outcome is for the head to say.
#include "launcher/agent/head_probe.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "rendezvous/base/own_addresses.hpp"

namespace llmlaunch::launcher::agent {
namespace {

struct Place {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

std::optional<Place> place_of(const std::string& address, std::uint16_t port) {
  Place place;
  auto* four = reinterpret_cast<sockaddr_in*>(&place.storage);
  auto* six = reinterpret_cast<sockaddr_in6*>(&place.storage);
  if (::inet_pton(AF_INET, address.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    place.size = sizeof(sockaddr_in);
  } else if (::inet_pton(AF_INET6, address.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    place.size = sizeof(sockaddr_in6);
  } else {
    return std::nullopt;
  }
  return place;
}

// The interface that has the socket's own address, which its route has chosen.
std::string interface_of(int socket) {
  Place own;
  own.size = sizeof(own.storage);
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&own.storage), &own.size) != 0) return {};
  char text[INET6_ADDRSTRLEN] = {};
  const void* bytes = own.storage.ss_family == AF_INET
                          ? static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(&own.storage)->sin_addr)
                          : static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(&own.storage)->sin6_addr);
  if (::inet_ntop(own.storage.ss_family, bytes, text, sizeof text) == nullptr) return {};
  const auto interfaces = own_interfaces();
  if (!interfaces) return {};
  for (const InterfaceAddress& one : *interfaces)
    if (one.address == text && !one.loopback && one.interface.size() <= kMaxInterfaceBytes) return one.interface;
  return {};
}

std::string error_words(int error) {
  return std::generic_category().message(error);
}

}  // namespace

std::string interface_towards(const std::string& address) {
  const auto place = place_of(address, 9);  // any port: a datagram socket that connects sends nothing
  if (!place) return {};
  const UniqueFd socket(::socket(place->storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket || ::connect(socket.value(), reinterpret_cast<const sockaddr*>(&place->storage), place->size) != 0)
    return {};
  return interface_of(socket.value());
}

void HeadProbe::begin(HeadWays ways, std::chrono::milliseconds limit, TimePoint now) {
  ways_ = std::move(ways);
  attempts_.clear();
  for (const std::string& address : ways_.addresses) {
    attempts_.emplace_back();
    attempts_.back().address = address;
  }
  limit = std::min(limit, kProbeTime);
  until_ = now + limit;
  limit_text_ =
      limit.count() % 1000 == 0 ? std::to_string(limit.count() / 1000) + " s" : std::to_string(limit.count()) + " ms";
  others_at_ = now + kProbeHeadStart;
  others_started_ = false;
  if (!attempts_.empty()) start(attempts_.front());
}

void HeadProbe::fail(Attempt& attempt, std::string why) const {
  attempt.socket.reset();
  attempt.failure = std::move(why);
}

void HeadProbe::start(Attempt& attempt) const {
  const auto place = place_of(attempt.address, ways_.port);
  if (!place) return fail(attempt, "not an address");
  attempt.socket.reset(::socket(place->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!attempt.socket) return fail(attempt, error_words(errno));
  const auto* there = reinterpret_cast<const sockaddr*>(&place->storage);
  if (::connect(attempt.socket.value(), there, place->size) != 0 && errno != EINPROGRESS)
    fail(attempt, error_words(errno));
}

void HeadProbe::add_polls(std::vector<pollfd>& polls) const {
  for (const Attempt& attempt : attempts_)
    if (attempt.socket)
      polls.push_back({attempt.socket.value(), static_cast<short>(attempt.greeted ? POLLIN : POLLOUT), 0});
}

HeadProbe::TimePoint HeadProbe::next_look() const {
  if (attempts_.empty()) return TimePoint::max();
  return others_started_ ? until_ : std::min(others_at_, until_);
}

// True: this is the head.
bool HeadProbe::go_on(Attempt& attempt) const {
  if (!attempt.socket) return false;
  pollfd entry{attempt.socket.value(), static_cast<short>(attempt.greeted ? POLLIN : POLLOUT), 0};
  if (::poll(&entry, 1, 0) <= 0) return false;
  if (attempt.greeted) return take_answer(attempt);
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(attempt.socket.value(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) {
    fail(attempt, error_words(error));
    return false;
  }
  // A connection that was just made takes all of it.
  const ssize_t sent = ::send(attempt.socket.value(), ways_.greeting.data(), ways_.greeting.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(ways_.greeting.size()))
    fail(attempt, sent < 0 ? error_words(errno) : std::string("it takes no bytes"));
  attempt.greeted = true;
  return false;
}

bool HeadProbe::take_answer(Attempt& attempt) const {
  std::array<std::byte, kMaxGreetingBytes> bytes;
  const ssize_t got = ::recv(attempt.socket.value(), bytes.data(), bytes.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got < 0) {
    fail(attempt, error_words(errno));
    return false;
  }
  const ByteView piece = ByteView(bytes).first(static_cast<std::size_t>(got));
  attempt.answer.insert(attempt.answer.end(), piece.begin(), piece.end());
  const std::size_t there = std::min(attempt.answer.size(), ways_.answer.size());
  const bool alike = std::equal(attempt.answer.begin(), attempt.answer.begin() + static_cast<std::ptrdiff_t>(there),
                                ways_.answer.begin());
  if (alike && there == ways_.answer.size()) return true;
  if (got == 0) fail(attempt, "what listens there closes the connection");
  if (!alike) fail(attempt, "what listens there is not the rendezvous");
  return false;
}

HeadReach HeadProbe::all_failed() const {
  HeadReach reach;
  for (const Attempt& attempt : attempts_) {
    const bool six = attempt.address.find(':') != std::string::npos;
    reach.failures += reach.failures.empty() ? "" : ", ";
    reach.failures += (six ? "[" + attempt.address + "]" : attempt.address) + ":" + std::to_string(ways_.port) + ": ";
    reach.failures += attempt.failure.empty() ? "no answer within " + limit_text_ : attempt.failure;
  }
  return reach;
}

std::optional<HeadReach> HeadProbe::look(TimePoint now) {
  if (attempts_.empty()) return std::nullopt;
  const auto is_over = [](const Attempt& attempt) { return !attempt.failure.empty(); };
  std::optional<HeadReach> outcome;
  for (std::size_t i = 0; i < attempts_.size() && !outcome; ++i) {
    if (!go_on(attempts_[i])) continue;
    outcome.emplace();
    outcome->way = static_cast<std::uint32_t>(i);
    outcome->interface = interface_of(attempts_[i].socket.value());
  }
  if (!outcome && !others_started_ && (now >= others_at_ || is_over(attempts_.front()))) {
    others_started_ = true;
    for (std::size_t i = 1; i < attempts_.size(); ++i) start(attempts_[i]);
  }
  if (!outcome && (now >= until_ || std::all_of(attempts_.begin(), attempts_.end(), is_over))) outcome = all_failed();
  if (outcome) attempts_.clear();
  return outcome;
}

}  // namespace llmlaunch::launcher::agent
