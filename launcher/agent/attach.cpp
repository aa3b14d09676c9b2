// The abstract socket and the descriptors that go through it; see attach.hpp. Whether a head that comes back is taken
// is for AgentState to say.
#include "launcher/agent/attach.hpp"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <thread>

namespace llmlaunch::launcher::agent {
namespace {

constexpr int kDescriptors = 3;
// A Resume is four short texts and numbers.
constexpr std::size_t kMaxResumeBytes = 4096;
// An agent that runs takes a connection at once. One that somebody has stopped takes a few, and then none.
constexpr timeval kPatience{1, 0};  // the head asks again
constexpr std::chrono::milliseconds kLookAgain{10};

struct Address {
  sockaddr_un socket{};
  socklen_t size = 0;
};

Result<Address> abstract_address(const std::string& name) {
  Address address;
  address.socket.sun_family = AF_UNIX;
  if (name.empty() || name.size() >= sizeof(address.socket.sun_path))
    return make_error(Errc::invalid_argument, "a name of " + std::to_string(name.size()) + " bytes for a socket");
  // The zero byte in front makes it a name that no file has.
  std::copy(name.begin(), name.end(), address.socket.sun_path + 1);
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

bool is_same_user(int socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::geteuid();
}

// A message of these bytes with room for the descriptors; points into itself and into `bytes`.
class Packet {
 public:
  Packet(std::byte* bytes, std::size_t size) : part_{bytes, size} {
    message.msg_iov = &part_;
    message.msg_iovlen = 1;
    message.msg_control = control_;
    message.msg_controllen = sizeof(control_);
  }
  Packet(const Packet&) = delete;
  Packet& operator=(const Packet&) = delete;

  msghdr message{};

 private:
  alignas(cmsghdr) char control_[CMSG_SPACE(kDescriptors * sizeof(int))] = {};
  iovec part_;
};

// The descriptors of a message; all of them are closed again when they are not as many as there must be.
std::optional<std::array<UniqueFd, kDescriptors>> take_descriptors(msghdr& message) {
  std::array<UniqueFd, kDescriptors> taken;
  std::size_t count = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t there = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < there; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      UniqueFd owned(fd);
      if (count < taken.size()) taken[count++] = std::move(owned);
    }
  }
  if (count != taken.size()) return std::nullopt;
  return taken;
}

Error stands_still() {
  return make_error(
      Errc::timed_out, "the agent that had started the ranks does not answer: it stands still", {},
      "somebody has stopped it there, or its file system hangs (`ps -o pid,stat,wchan,cmd`); when it goes "
      "on, it ends its ranks and itself");
}

// What was sent is in the queue until the other side has read it.
bool is_taken(int socket) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kPatience.tv_sec);
  while (true) {
    int waiting = 0;
    if (::ioctl(socket, SIOCOUTQ, &waiting) != 0 || waiting == 0) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kLookAgain);
  }
}

std::optional<Resume> resume_of(ByteView bytes) {
  FrameDecoder decoder(kMaxResumeBytes);
  decoder.feed(bytes);
  const auto frame = decoder.next();
  if (!frame || !*frame) return std::nullopt;
  auto message = decode_head_message(**frame);
  if (!message || !std::holds_alternative<Resume>(*message)) return std::nullopt;
  return std::get<Resume>(std::move(*message));
}

}  // namespace

Result<void> AttachPoint::listen(const std::string& name) {
  const auto address = abstract_address(name);
  if (!address) return address.error();
  listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) return system_error(errno, "socket for a head that comes back");
  if (::bind(listener_.value(), reinterpret_cast<const sockaddr*>(&address->socket), address->size) != 0 ||
      ::listen(listener_.value(), 4) != 0) {
    const int error = errno;
    listener_.reset();
    return system_error(error, "bind of the socket for a head that comes back");
  }
  return ok;
}

std::optional<Attached> AttachPoint::take() {
  UniqueFd newer(::accept4(listener_.value(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (newer && is_same_user(newer.value())) visitor_ = std::move(newer);
  if (!visitor_) return std::nullopt;
  std::array<std::byte, kMaxResumeBytes> bytes;
  Packet packet(bytes.data(), bytes.size());
  const ssize_t got = ::recvmsg(visitor_.value(), &packet.message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  UniqueFd bearer = std::move(visitor_);
  if (got <= 0) return std::nullopt;
  auto descriptors = take_descriptors(packet.message);
  auto resume = resume_of(ByteView(bytes).first(static_cast<std::size_t>(got)));
  if (!descriptors || !resume) return std::nullopt;
  auto& [in, out, err] = *descriptors;
  return Attached{std::move(*resume), std::move(in), std::move(out), std::move(err), std::move(bearer)};
}

Result<UniqueFd> hand_over(const Resume& resume) {
  const auto address = abstract_address(resume.name);
  if (!address) return address.error();
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket || ::setsockopt(socket.value(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof(kPatience)) != 0)
    return system_error(errno, "socket to the job's agent");
  if (::connect(socket.value(), reinterpret_cast<const sockaddr*>(&address->socket), address->size) != 0) {
    if (errno == ECONNREFUSED)
      return make_error(Errc::not_found, "the agent that had started the ranks is gone, and its ranks with it", {},
                        "it was killed there (`dmesg` tells of a kernel that was out of memory), the host was started "
                        "anew (`uptime`), or it heard nothing from the head for llmlaunch.timeouts.head");
    if (errno == EAGAIN) return stands_still();
    return system_error(errno, "connect to the job's agent");
  }
  if (!is_same_user(socket.value()))
    return make_error(Errc::unauthenticated, "what listens in place of the job's agent is another user's");
  Bytes bytes = encode(HeadMessage(resume));
  Packet packet(bytes.data(), bytes.size());
  cmsghdr* header = CMSG_FIRSTHDR(&packet.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(kDescriptors * sizeof(int));
  const int descriptors[kDescriptors] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
  std::memcpy(CMSG_DATA(header), descriptors, sizeof(descriptors));
  if (::sendmsg(socket.value(), &packet.message, MSG_NOSIGNAL) < 0)
    return system_error(errno, "hand the connection to the job's agent");
  if (!is_taken(socket.value())) return stands_still();
  return socket;
}

}  // namespace llmlaunch::launcher::agent
