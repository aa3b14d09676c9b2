// Ranks that join, get a unique id and pass a barrier, all of them in one thread.
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "rendezvous/auth.hpp"
#include "rendezvous/message.hpp"
#include "tests/bench/rendezvous_bench.hpp"

namespace llmlaunch::bench {
namespace {

using namespace rendezvous;

constexpr std::uint32_t kTimeoutMs = 120'000;
constexpr std::uint32_t kPublish = 1, kIdRequest = 2, kBarrierRequest = 3;
// Of one source address: it has 28,000 ports, and the kernel looks the longer for a free one the more are taken.
constexpr std::uint32_t kConnectionsPerSource = 4'000;

std::size_t resident_bytes(int pid) {
  std::ifstream statm(fmt::format("/proc/{}/statm", pid));
  std::size_t size = 0, resident = 0;
  if (!(statm >> size >> resident)) die(fmt::format("/proc/{}/statm cannot be read", pid));
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

struct Member {
  int fd = -1;
  Hello hello;
  MessageDecoder decoder{MessageDecoder::Side::client};
};

class Ranks {
 public:
  Ranks(Target target, std::uint32_t world, int server_pid)
      : target_(target), server_pid_(server_pid), token_(*Token::parse(kToken)), members_(world) {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    // Other addresses in each run: ports rest after their connection.
    source_ = (127U << 24) + ((1U + std::random_device{}() % 250U) << 16) + (1U << 8);
  }

  void run() {
    const std::size_t before = resident_bytes(server_pid_);
    const auto started = Clock::now();
    const auto world = static_cast<std::uint32_t>(members_.size());
    // The kernel queues 4,096 connections that are not accepted yet, and lets the others wait for a second: what has
    // been answered is read in between.
    for (std::uint32_t rank = 1; rank < world; ++rank) {
      enter(rank);
      if (rank % 256 == 0) serve(0);
    }
    while (welcomed_ + 1 < world) serve(-1);
    const auto last = Clock::now();
    enter(0);
    while (ids_ < world) serve(-1);
    const auto all_ids = Clock::now();
    for (const Member& member : members_) send(member, Barrier{kBarrierRequest, "start", kTimeoutMs});
    while (passed_ < world) serve(-1);
    const auto ended = Clock::now();
    const std::size_t grown = resident_bytes(server_pid_) - before;
    fmt::print("total={:.6f} last_id_ms={:.3f} bytes_per_client={}\n", seconds(ended - started),
               seconds(all_ids - last) * 1000, grown / world);
    for (const Member& member : members_) ::close(member.fd);
    ::close(epoll_);
  }

 private:
  void enter(std::uint32_t rank) {
    Member& member = members_[rank];
    member.fd = connect_from(source_ + rank / kConnectionsPerSource, target_);
    member.hello.nonce = make_nonce();
    member.hello.job_id = kJobId;
    member.hello.rank = Rank{rank};
    member.hello.world_size = static_cast<std::uint32_t>(members_.size());
    member.hello.host = "bench";
    member.hello.pid = rank + 1;
    Bytes bytes = encode(Preamble{});
    const Bytes hello = encode(member.hello);
    bytes.insert(bytes.end(), hello.begin(), hello.end());
    send_all(member.fd, bytes);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = rank;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, member.fd, &event) != 0) die("epoll_ctl");
  }

  void serve(int timeout_ms) {
    std::array<epoll_event, 512> events;
    const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout_ms);
    for (int index = 0; index < count; ++index) read(members_[events[static_cast<std::size_t>(index)].data.u32]);
  }

  void read(Member& member) {
    std::array<std::byte, 4096> buffer;
    const ssize_t got = ::recv(member.fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) die(fmt::format("rank {} lost its connection", number(member.hello.rank)));
    member.decoder.feed(std::span(buffer).first(static_cast<std::size_t>(got)));
    while (true) {
      auto message = member.decoder.next();
      if (!message) die(to_string(message.error()));
      if (!*message) return;
      on(member, **message);
    }
  }

  void on(Member& member, const Message& message) {
    if (const auto* challenge = std::get_if<Challenge>(&message)) {
      if (!token_.verify(challenge->proof, Token::Side::server, member.hello, challenge->nonce)) die("a false server");
      return send(member, Proof{token_.prove(Token::Side::client, member.hello, challenge->nonce)});
    }
    if (std::holds_alternative<Welcome>(message)) {
      ++welcomed_;
      if (member.hello.rank == Rank{0}) send(member, PublishId{kPublish, 0, {}});
      return send(member, GetId{kIdRequest, 0, kTimeoutMs});
    }
    if (const auto* id = std::get_if<Id>(&message); id != nullptr && id->request == kIdRequest) {
      ++ids_;
      return;
    }
    if (const auto* done = std::get_if<Done>(&message)) {
      if (done->request == kBarrierRequest) ++passed_;
      return;
    }
    if (const auto* failure = std::get_if<Failure>(&message)) die(failure->what);
    die("an answer that nobody asked for");
  }

  static void send(const Member& member, const Message& message) { send_all(member.fd, encode(message)); }

  Target target_;
  int server_pid_;
  Token token_;
  std::vector<Member> members_;
  int epoll_ = -1;
  std::uint32_t source_ = 0;
  std::uint32_t welcomed_ = 0, ids_ = 0, passed_ = 0;
};

}  // namespace

void join(Target target, std::uint32_t world, int server_pid) {
  Ranks(target, world, server_pid).run();
}

}  // namespace llmlaunch::bench
