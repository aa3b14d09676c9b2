// Abstract Unix sockets, SO_PEERCRED and SCM_RIGHTS. Called once, while the ranks connect.
#include "trainer/shared_memory_bootstrap.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "rendezvous/base/frame.hpp"

namespace llmlaunch::trainer {
namespace {

// Ranks that call, and strangers that find the name in /proc/net/unix.
constexpr int kMaxCallers = 4 * static_cast<int>(kMaxSharedMemoryRanks);

/// What a caller says first.
struct Greeting {
  std::array<std::byte, 32> secret{};
  std::uint32_t rank = 0;
};

struct Pipe {
  UniqueFd reading, writing;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error(errno, "pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<void> draw(std::span<std::byte> bytes) {
  ssize_t got = 0;
  do got = ::getrandom(bytes.data(), bytes.size(), 0);
  while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(bytes.size())) return system_error(errno, "getrandom");
  return ok;
}

/// An abstract address: its first byte is 0, and no file has its name.
struct AbstractAddress {
  explicit AbstractAddress(const SharedMemoryOffer& offer) {
    std::string text = "llmlaunch-";
    for (const std::byte byte : offer.name) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, text.data(), text.size());
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
  sockaddr_un address{};
  socklen_t length = 0;
};

bool of_same_user(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == ::geteuid();
}

/// In a time that does not tell where they differ.
bool equal_secrets(const std::array<std::byte, 32>& one, const std::array<std::byte, 32>& other) {
  std::byte difference{};
  for (std::size_t i = 0; i < one.size(); ++i) difference |= one[i] ^ other[i];
  return difference == std::byte{};
}

/// One message with descriptors. Never waits.
Result<void> send_message(int socket, ByteView bytes, std::span<const int> descriptors) {
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  Bytes control(CMSG_SPACE(descriptors.size_bytes()));
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  if (::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
    return system_error(errno, "sendmsg");
  }
  return ok;
}

/// Fills `bytes`. The descriptors that came with it; an error unless there are `count`.
Result<std::vector<UniqueFd>> receive_message(int socket, std::span<std::byte> bytes, std::size_t count) {
  iovec part{bytes.data(), bytes.size()};
  Bytes control(CMSG_SPACE(count * sizeof(int)));
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return system_error(errno, "recvmsg");
  std::vector<UniqueFd> descriptors;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; CMSG_LEN(at + sizeof(int)) <= header->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + at, sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  if (got == 0) return make_error(Errc::closed, "no shared memory");
  if (got != static_cast<ssize_t>(bytes.size()) || descriptors.size() != count ||
      (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return make_error(Errc::protocol, "another message than that of shared memory");
  }
  return descriptors;
}

}  // namespace

Result<SharedMemoryListener> SharedMemoryListener::open() {
  SharedMemoryListener listener;
  if (auto drawn = draw(listener.offer_.name); !drawn) return drawn.error();
  if (auto drawn = draw(listener.offer_.secret); !drawn) return drawn.error();
  listener.socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.socket_) return system_error(errno, "socket");
  const AbstractAddress address(listener.offer_);
  if (::bind(listener.socket_.value(), address.get(), address.length) != 0) return system_error(errno, "bind");
  if (::listen(listener.socket_.value(), kMaxCallers) != 0) return system_error(errno, "listen");
  return listener;
}

Result<SharedMemoryGroup> SharedMemoryListener::admit(std::uint32_t world_size, std::size_t bytes) {
  std::vector<UniqueFd> callers(world_size);
  SharedMemoryGroup group;
  group.others.resize(world_size);
  for (int i = 0; i < kMaxCallers; ++i) {
    UniqueFd caller(::accept4(socket_.value(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!caller) break;
    if (!of_same_user(caller.value())) continue;
    Greeting greeting;
    auto pipes = receive_message(caller.value(), std::as_writable_bytes(std::span(&greeting, 1)), 1);
    if (!pipes || !equal_secrets(greeting.secret, offer_.secret)) continue;
    if (greeting.rank == 0 || greeting.rank >= world_size || callers[greeting.rank]) continue;
    callers[greeting.rank] = std::move(caller);
    group.others[greeting.rank] = std::move(pipes->front());
  }
  socket_.reset();
  auto own = make_pipe();
  if (!own) return own.error();
  const auto memory = make_shared_memory(bytes);
  if (!memory) return memory.error();
  auto mapping = SharedMemoryMapping::of(memory->value(), bytes);
  if (!mapping) return mapping.error();

  std::vector<int> given = {memory->value(), own->reading.value()};
  for (std::uint32_t rank = 1; rank < world_size; ++rank) {
    if (!callers[rank]) return make_error(Errc::not_found, fmt::format("rank {} has not called", rank));
    given.push_back(group.others[rank].value());
  }
  for (std::uint32_t rank = 1; rank < world_size; ++rank) {
    if (auto sent = send_message(callers[rank].value(), as_bytes("!"), given); !sent) return sent.error();
  }
  group.memory = std::move(*mapping);
  group.alive = std::move(own->writing);
  return group;
}

Result<SharedMemoryCaller> SharedMemoryCaller::call(const SharedMemoryOffer& offer, std::uint32_t rank) {
  SharedMemoryCaller caller;
  caller.rank_ = rank;
  caller.socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!caller.socket_) return system_error(errno, "socket");
  const AbstractAddress address(offer);
  if (::connect(caller.socket_.value(), address.get(), address.length) != 0) return system_error(errno, "connect");
  if (!of_same_user(caller.socket_.value())) return make_error(Errc::unauthenticated, "another user listens");
  auto pipe = make_pipe();
  if (!pipe) return pipe.error();
  const Greeting greeting{offer.secret, rank};
  const int reading = pipe->reading.value();
  if (auto sent = send_message(caller.socket_.value(), std::as_bytes(std::span(&greeting, 1)), {&reading, 1}); !sent) {
    return sent.error();
  }
  caller.alive_ = std::move(pipe->writing);
  return caller;
}

Result<SharedMemoryGroup> SharedMemoryCaller::receive(std::uint32_t world_size, std::size_t bytes,
                                                      std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto rest = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd wanted{socket_.value(), POLLIN, 0};
    const int ready = ::poll(&wanted, 1, static_cast<int>(std::clamp<std::int64_t>(rest, 0, 1'000'000)));
    if (ready > 0) break;
    if (ready < 0 && errno != EINTR) return system_error(errno, "poll");
    if (ready == 0 && rest <= 0) return make_error(Errc::timed_out, "no shared memory in time");
  }
  std::byte mark{};
  auto given = receive_message(socket_.value(), {&mark, 1}, std::size_t{1} + world_size);
  if (!given) return given.error();
  socket_.reset();
  auto mapping = SharedMemoryMapping::of(given->front().value(), bytes);
  if (!mapping) return mapping.error();
  SharedMemoryGroup group;
  group.memory = std::move(*mapping);
  group.alive = std::move(alive_);
  for (std::uint32_t rank = 0; rank < world_size; ++rank) {
    group.others.emplace_back();
    if (rank != rank_) group.others.back() = std::move((*given)[1 + rank]);
  }
  return group;
}

}  // namespace llmlaunch::trainer
