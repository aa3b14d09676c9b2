// Clients of the store, of either dialect: each sets a key and gets it again, and does so anew with the answer. Each
// does what the client of its dialect does: ours waits for the answer of a Set; PyTorch's does not, but asks by WAIT
// whether the key is there before it GETs it. Either has two round trips.
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "rendezvous/auth.hpp"
#include "rendezvous/message.hpp"
#include "rendezvous/tcpstore_codec.hpp"
#include "tests/bench/rendezvous_bench.hpp"

namespace llmlaunch::bench {
namespace {

using namespace rendezvous;

constexpr std::uint32_t kTimeoutMs = 120'000;
constexpr std::uint32_t kSource = (127U << 24) + 1;
constexpr std::size_t kValueBytes = 128;
constexpr std::uint32_t kSet = 1, kGet = 2;

// One client's half of a dialect: what it sends for a pair, and when the pair is answered.
class Client {
 public:
  virtual ~Client() = default;
  virtual void ask() = 0;
  // True when the pair is done.
  virtual bool on_bytes(ByteView bytes) = 0;
  int fd() const { return fd_; }

 protected:
  explicit Client(int fd) : fd_(fd) {}
  ByteView receive() {
    const ssize_t got = ::recv(fd_, buffer_.data(), buffer_.size(), 0);
    if (got <= 0) die("a client lost its connection");
    return std::span(buffer_).first(static_cast<std::size_t>(got));
  }
  int fd_;
  std::array<std::byte, 4096> buffer_;
};

class NativeClient : public Client {
 public:
  NativeClient(Target target, std::uint32_t rank, std::uint32_t world) : Client(connect_from(kSource, target)) {
    Hello hello;
    hello.nonce = make_nonce();
    hello.job_id = kJobId;
    hello.rank = Rank{rank};
    hello.world_size = world;
    hello.pid = rank + 1;
    const Token token = *Token::parse(kToken);
    send_all(fd_, encode(Preamble{}));
    send_all(fd_, encode(hello));
    const Message challenge = wait_for_message();
    if (!std::holds_alternative<Challenge>(challenge)) die("no challenge");
    send_all(fd_, encode(Proof{token.prove(Token::Side::client, hello, std::get<Challenge>(challenge).nonce)}));
    if (!std::holds_alternative<Welcome>(wait_for_message())) die("no welcome");
    const std::string key = fmt::format("bench/{}", rank);
    set_ = encode(Set{kSet, key, Bytes(kValueBytes, std::byte{'v'})});
    get_ = encode(Get{kGet, key, kTimeoutMs});
  }

  void ask() override { send_all(fd_, set_); }

  bool on_bytes(ByteView bytes) override {
    decoder_.feed(bytes);
    bool done = false;
    while (true) {
      auto message = decoder_.next();
      if (!message) die(to_string(message.error()));
      if (!*message) return done;
      if (const auto* failure = std::get_if<Failure>(&**message)) die(failure->what);
      if (std::holds_alternative<Done>(**message)) {
        send_all(fd_, get_);
        continue;
      }
      const auto* value = std::get_if<Value>(&**message);
      if (value == nullptr || !value->value || value->value->size() != kValueBytes) die("another answer");
      done = true;
    }
  }

 private:
  Message wait_for_message() {
    while (true) {
      auto message = decoder_.next();
      if (!message) die(to_string(message.error()));
      if (*message) return **std::move(message);
      decoder_.feed(receive());
    }
  }

  MessageDecoder decoder_{MessageDecoder::Side::client};
  Bytes set_, get_;
};

class TcpStoreClient : public Client {
 public:
  TcpStoreClient(Target target, std::uint32_t number) : Client(connect_from(kSource, target)) {
    using tcpstore::Command;
    using tcpstore::Verb;
    send_all(fd_, tcpstore::encode(Command{Verb::validate, {}, {}, tcpstore::kMagic}));
    send_all(fd_, tcpstore::encode(Command{Verb::ping, {}, {}, 7}));
    for (std::size_t missing = 4; missing > 0;) missing -= std::min(missing, receive().size());
    const std::string key = fmt::format("/bench/{}", number);
    set_ = tcpstore::encode(Command{Verb::set, {key}, {Bytes(kValueBytes, std::byte{'v'})}, 0});
    wait_ = tcpstore::encode(Command{Verb::wait, {key}, {}, 0});
    get_ = tcpstore::encode(Command{Verb::get, {key}, {}, 0});
  }

  void ask() override {
    send_all(fd_, set_);
    send_all(fd_, wait_);
    missing_ = 1;
    waits_ = true;
  }

  // WAIT's answer is a byte, GET's the value behind its length of eight bytes; SET has none.
  bool on_bytes(ByteView bytes) override {
    if (bytes.size() > missing_) die("another answer");
    missing_ -= bytes.size();
    if (missing_ > 0) return false;
    if (!std::exchange(waits_, false)) return true;
    send_all(fd_, get_);
    missing_ = 8 + kValueBytes;
    return false;
  }

 private:
  Bytes set_, wait_, get_;
  std::size_t missing_ = 0;
  bool waits_ = false;
};

}  // namespace

void store(Target target, const std::string& dialect, std::uint32_t clients, std::uint32_t pairs) {
  std::vector<std::unique_ptr<Client>> all;
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  for (std::uint32_t index = 0; index < clients; ++index) {
    if (dialect == "native")
      all.push_back(std::make_unique<NativeClient>(target, index, clients));
    else
      all.push_back(std::make_unique<TcpStoreClient>(target, index));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = index;
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, all.back()->fd(), &event) != 0) die("epoll_ctl");
  }
  std::vector<Clock::time_point> asked(clients);
  std::vector<double> latencies;
  latencies.reserve(std::size_t{clients} * pairs);
  std::vector<std::uint32_t> left(clients, pairs);
  const auto started = Clock::now();
  for (std::uint32_t index = 0; index < clients; ++index) {
    asked[index] = Clock::now();
    all[index]->ask();
  }
  std::array<epoll_event, 256> events;
  std::array<std::byte, 4096> buffer;
  for (std::size_t open = std::size_t{clients} * pairs; open > 0;) {
    const int count = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int each = 0; each < count; ++each) {
      const std::uint32_t index = events[static_cast<std::size_t>(each)].data.u32;
      const ssize_t got = ::recv(all[index]->fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (got <= 0) die("a client lost its connection");
      if (!all[index]->on_bytes(std::span(buffer).first(static_cast<std::size_t>(got)))) continue;
      const auto now = Clock::now();
      latencies.push_back(seconds(now - asked[index]) * 1e6);
      --open;
      if (--left[index] == 0) continue;
      asked[index] = now;
      all[index]->ask();
    }
  }
  const double took = seconds(Clock::now() - started);
  std::sort(latencies.begin(), latencies.end());
  fmt::print("pairs_per_s={:.0f} median_us={:.1f} p99_us={:.1f}\n", static_cast<double>(latencies.size()) / took,
             latencies[latencies.size() / 2], latencies[latencies.size() * 99 / 100]);
  for (const auto& client : all) ::close(client->fd());
  ::close(epoll);
}

}  // namespace llmlaunch::bench
