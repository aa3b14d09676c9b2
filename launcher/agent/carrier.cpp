// Sockets of ranks on one side, messages on the other; see carrier.hpp. Who is connected to the head, and what happens
// when nobody is, AgentState and OutboundLog know.
#include "launcher/agent/carrier.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <variant>

#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher::agent {
namespace {

// A port scan must not fill the terminal.
constexpr std::size_t kShownRefusals = 5;
// Accepted in one turn, so that a flood of connections leaves room for output.
constexpr int kAcceptsPerTurn = 32;

std::string hex(std::uint32_t value, int digits) {
  std::string text(8, '0');
  std::snprintf(text.data(), text.size() + 1, "%0*X", digits, value);
  text.resize(static_cast<std::size_t>(digits));
  return text;
}

std::string_view next_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}

std::optional<uid_t> owner_in_file(const char* path, const sockaddr_in& peer, std::uint16_t port) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "re"), &std::fclose);
  if (!file) return std::nullopt;
  std::array<char, 512> line{};  // a line of tcp6 has 200
  while (std::fgets(line.data(), static_cast<int>(line.size()), file.get()) != nullptr)
    if (const auto owner = owner_in_line(line.data(), peer.sin_addr.s_addr, ntohs(peer.sin_port), port)) return owner;
  return std::nullopt;
}

// A program may have connected by a socket of either family.
std::optional<uid_t> owner_of(const sockaddr_in& peer, std::uint16_t port) {
  if (const auto owner = owner_in_file("/proc/net/tcp", peer, port)) return owner;
  return owner_in_file("/proc/net/tcp6", peer, port);
}

Error broken(const std::string& what) {
  return make_error(Errc::protocol, "the head sent " + what);
}

}  // namespace

// "  12: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 81 …": addresses are
// words of the machine's own byte order, and IPv4's are the last word of IPv6's.
std::optional<uid_t> owner_in_line(std::string_view line, std::uint32_t address, std::uint16_t peer_port,
                                   std::uint16_t port) {
  std::array<std::string_view, 8> words;
  for (std::string_view& word : words) word = next_word(line);
  const auto is = [](std::string_view word, const std::string& end) {
    const bool four = word.size() == 13;
    const bool six = word.size() == 37 && word.starts_with("0000000000000000FFFF0000");
    return (four || six) && word.ends_with(end);
  };
  const std::uint32_t own = htonl(INADDR_LOOPBACK);
  if (!is(words[1], hex(address, 8) + ":" + hex(peer_port, 4)) || !is(words[2], hex(own, 8) + ":" + hex(port, 4)))
    return std::nullopt;
  return parse_whole<uid_t>(words[7]);
}

Result<std::uint16_t> Carrier::listen(std::size_t most_connections) {
  most_ = most_connections;
  buffer_.resize(kCarriedChunkBytes);
  listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (!listener_ || ::bind(listener_.value(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listener_.value(), SOMAXCONN) != 0 ||
      ::getsockname(listener_.value(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    Error error = system_error(errno, "no port of 127.0.0.1 on the host, which rendezvous.via: ssh needs");
    error.hint = "`ip addr show lo` on the host shows whether it has the address";
    return error;
  }
  port_ = ntohs(address.sin_port);
  return port_;
}

void Carrier::add_polls(std::vector<pollfd>& polls) {
  const bool takes = listener_ && !finishing_ && streams_.size() < most_;
  polls.push_back({takes ? listener_.value() : -1, POLLIN, 0});
  polled_.clear();
  for (const auto& [id, stream] : streams_) {
    const bool reads = !stream.rank_ended && stream.credit > 0;
    const bool writes = stream.written < stream.to_rank.size();
    polls.push_back({reads || writes ? stream.socket.value() : -1,
                     static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0});
    polled_.push_back(id);
  }
}

std::vector<AgentMessage> Carrier::turn(std::span<const pollfd> ready) {
  std::vector<AgentMessage> out;
  if (!ready.empty() && ready[0].revents != 0) accept_all(out);
  for (std::size_t i = 0; i < polled_.size(); ++i) {
    const auto found = streams_.find(polled_[i]);
    if (found == streams_.end()) continue;  // the head has ended it meanwhile
    const short events = i + 1 < ready.size() ? ready[i + 1].revents : 0;
    if (!goes_on(found->first, found->second, events, out)) streams_.erase(found);
  }
  return out;
}

// False: it is gone.
bool Carrier::goes_on(std::uint32_t id, Stream& stream, short events, std::vector<AgentMessage>& out) {
  if (stream.written < stream.to_rank.size()) write_rank(id, stream, out);
  const bool readable = (events & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) != 0;
  bool broken = false;
  if (readable || finishing_) do {  // of ranks that are gone everything is there, and nothing will wake us for it
      if (stream.rank_ended || stream.credit == 0) break;
      broken = !read_rank(id, stream, out);
    } while (finishing_ && !broken);
  if (broken || (stream.deaf && stream.rank_ended)) {
    out.emplace_back(CarriedReset{id});
    return false;
  }
  if (!stream.shut && stream.head_ended && stream.written == stream.to_rank.size()) {
    stream.shut = true;
    (void)::shutdown(stream.socket.value(), SHUT_WR);  // who is gone hears nothing
  }
  return !(stream.rank_ended && (stream.shut || finishing_));
}

void Carrier::accept_all(std::vector<AgentMessage>& out) {
  for (int i = 0; i < kAcceptsPerTurn && streams_.size() < most_; ++i) {
    sockaddr_in peer{};
    socklen_t size = sizeof(peer);
    UniqueFd socket(
        ::accept4(listener_.value(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    const auto owner = owner_of(peer, port_);
    if (!owner || *owner != ::geteuid()) {
      if (refused_++ < kShownRefusals)
        refusals_.push_back("closed a connection to port " + std::to_string(port_) +
                            " of 127.0.0.1, where ranks come to the rendezvous: it is " +
                            (owner ? "user " + std::to_string(*owner) + "'s" : std::string("nobody's that is known")) +
                            ", and the job's user is " + std::to_string(::geteuid()));
      continue;
    }
    const int on = 1;
    (void)::setsockopt(socket.value(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const std::uint32_t id = next_id_++;
    streams_[id].socket = std::move(socket);
    out.emplace_back(CarriedOpen{id});
  }
}

// One piece; what is left is there in the next turn. False: the connection is broken.
bool Carrier::read_rank(std::uint32_t id, Stream& stream, std::vector<AgentMessage>& out) {
  const ssize_t got = ::recv(stream.socket.value(), buffer_.data(), std::min(buffer_.size(), stream.credit), 0);
  if (got < 0 && errno == EINTR) return true;
  if (got < 0 && errno == EAGAIN) return !finishing_;  // nobody is left who could send more
  if (got < 0) return false;
  if (got == 0) {
    stream.rank_ended = true;
    out.emplace_back(CarriedEnd{id});
    return true;
  }
  stream.credit -= static_cast<std::size_t>(got);
  const ByteView piece = ByteView(buffer_).first(static_cast<std::size_t>(got));
  out.emplace_back(CarriedData{id, Bytes(piece.begin(), piece.end())});
  return true;
}

void Carrier::write_rank(std::uint32_t id, Stream& stream, std::vector<AgentMessage>& out) {
  const std::size_t left = stream.to_rank.size() - stream.written;
  const ssize_t put = ::send(stream.socket.value(), stream.to_rank.data() + stream.written, left, MSG_NOSIGNAL);
  if (put < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (put < 0) stream.deaf = true;
  stream.written += put < 0 ? 0 : static_cast<std::size_t>(put);
  stream.untold += put < 0 ? 0 : static_cast<std::size_t>(put);
  if (stream.deaf || stream.written == stream.to_rank.size()) {
    stream.to_rank.clear();
    stream.written = 0;
  }
  if (stream.untold >= kCarriedCreditBytes)
    out.emplace_back(CarriedTaken{id, static_cast<std::uint32_t>(std::exchange(stream.untold, 0))});
}

Result<void> Carrier::take(const HeadMessage& message) {
  const auto stream_of = [this](std::uint32_t id) -> Stream* {
    const auto found = streams_.find(id);
    return found == streams_.end() ? nullptr : &found->second;
  };
  if (const auto* data = std::get_if<CarriedData>(&message)) {
    if (data->id >= next_id_) return broken("bytes of a connection that never was");
    Stream* stream = stream_of(data->id);
    if (stream == nullptr || stream->deaf) return ok;  // it was over before the head heard of that
    const std::size_t held = stream->to_rank.size() - stream->written + stream->untold;
    if (stream->head_ended) return broken("bytes of a connection behind its end");
    if (held + data->data.size() > kCarriedWindowBytes) return broken("more bytes than a connection's window holds");
    stream->to_rank.erase(stream->to_rank.begin(),
                          stream->to_rank.begin() + static_cast<std::ptrdiff_t>(stream->written));
    stream->written = 0;
    stream->to_rank.insert(stream->to_rank.end(), data->data.begin(), data->data.end());
  } else if (const auto* end = std::get_if<CarriedEnd>(&message)) {
    if (end->id >= next_id_) return broken("the end of a connection that never was");
    if (Stream* stream = stream_of(end->id)) stream->head_ended = true;
  } else if (const auto* taken = std::get_if<CarriedTaken>(&message)) {
    if (taken->id >= next_id_) return broken("credit for a connection that never was");
    Stream* stream = stream_of(taken->id);
    if (stream == nullptr) return ok;
    if (taken->bytes > kCarriedWindowBytes - stream->credit) return broken("credit for bytes that were never sent");
    stream->credit += taken->bytes;
  } else if (const auto* reset = std::get_if<CarriedReset>(&message)) {
    if (reset->id >= next_id_) return broken("the reset of a connection that never was");
    streams_.erase(reset->id);
  }
  return ok;
}

void Carrier::close() {
  listener_.reset();
  streams_.clear();
}

std::vector<std::string> Carrier::take_refusals() {
  return std::exchange(refusals_, {});
}

}  // namespace llmlaunch::launcher::agent
