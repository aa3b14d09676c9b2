// Connecting, the handshake, and what a rank is told that could not join. Blocking; called by Client::join.
#include "rendezvous/client_join.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using TimePoint = steady_clock::time_point;

// Between tries to connect: short at first, as the server is usually there; with jitter, as thousands of ranks may try.
constexpr milliseconds kFirstPause{20};
constexpr milliseconds kLongestPause{1'000};

std::string name_server(const ClientOptions& options) {
  if (options.address.find(':') != std::string::npos) return fmt::format("[{}]:{}", options.address, options.port);
  return fmt::format("{}:{}", options.address, options.port);
}

std::string name_me(const ClientOptions& options) {
  if (options.observer) return "observer";
  return options.host.empty() ? fmt::format("rank {}", number(options.rank)) : name_rank(options.rank, options.host);
}

std::string head_hint(const ClientOptions& options) {
  return fmt::format(
      "{} must be an address of the machine where llmlaunch runs (main_process_ip), and TCP port {} open there "
      "(main_process_port)",
      options.address, options.port);
}

milliseconds join_timeout(const ClientOptions& options) {
  return bounded(options.join_timeout.value_or(options.timeout));
}

// A try to join that did not succeed: whether another one may.
struct Setback {
  Error error;
  bool final_word = false;
};

// One connection and its handshake.
class Attempt {
 public:
  Attempt(const ClientOptions& options, const Token& token, TimePoint deadline)
      : options_(options), token_(token), deadline_(deadline) {}

  tl::expected<Joined, Setback> run() {
    auto opened = Connection::open(options_.address, options_.port, deadline_);
    if (!opened && opened.error().code == Errc::not_found) return setback(unknown_name(opened.error()), true);
    if (!opened) return setback(opened.error(), false);
    connection_.emplace(std::move(*opened));
    const TimePoint handshake_end = std::min(deadline_, steady_clock::now() + kHandshakeTimeout);

    Hello hello;
    hello.nonce = make_nonce();
    hello.job_id = options_.job_id;
    hello.generation = options_.generation;
    hello.rank = options_.observer ? kNoRank : options_.rank;
    hello.world_size = options_.observer ? 0 : options_.world_size;
    hello.host = options_.host;
    hello.pid = static_cast<std::uint32_t>(::getpid());
    hello.nccl_version = static_cast<std::uint32_t>(options_.nccl_version);
    Bytes greeting = encode(Preamble{});
    const Bytes introduction = encode(hello);
    greeting.insert(greeting.end(), introduction.begin(), introduction.end());
    if (auto sent = connection_->send(greeting, handshake_end); !sent) return setback(sent.error(), false);

    auto answer = next(handshake_end);
    if (!answer) return tl::unexpected(answer.error());
    const auto* challenge = std::get_if<Challenge>(&*answer);
    if (challenge == nullptr) return setback(nonsense(), true);
    if (!token_.verify(challenge->proof, Token::Side::server, hello, challenge->nonce)) {
      return setback(
          make_error(Errc::unauthenticated, "the server does not hold the token of this job", where_of(options_),
                     fmt::format("another job or another user's program may serve port {}", options_.port)),
          true);
    }
    const Bytes proof = encode(Proof{token_.prove(Token::Side::client, hello, challenge->nonce)});
    if (auto sent = connection_->send(proof, handshake_end); !sent) return setback(sent.error(), false);
    answer = next(handshake_end);
    if (!answer) return tl::unexpected(answer.error());
    const auto* welcome = std::get_if<Welcome>(&*answer);
    if (welcome == nullptr) return setback(nonsense(), true);
    return Joined{std::move(*connection_), std::move(decoder_), welcome->minor};
  }

 private:
  static tl::unexpected<Setback> setback(Error error, bool final_word) {
    return tl::unexpected(Setback{std::move(error), final_word});
  }

  Error nonsense() const {
    return make_error(Errc::protocol, "the server does not answer as a rendezvous", where_of(options_),
                      fmt::format("another program may serve port {}", options_.port));
  }

  Error unknown_name(const Error& lookup) const {
    return make_error(Errc::unreachable, fmt::format("no way to rendezvous {}: {}", name_server(options_), lookup.what),
                      name_me(options_), head_hint(options_));
  }

  // The next message of the handshake. A Failure is the server's last word, unless it is only full.
  tl::expected<Message, Setback> next(TimePoint end) {
    while (true) {
      auto message = decoder_.next();
      if (!message) return setback(nonsense(), true);
      if (*message) {
        if (const auto* failure = std::get_if<Failure>(&**message)) {
          Error error = error_of(*failure, options_);
          if (options_.observer && failure->code == Errc::wrong_world && error.hint.empty())
            error.hint = "a launcher of protocol 1.0 admits ranks only; this needs one of 1.1";
          return setback(std::move(error), failure->code != Errc::out_of_resources);
        }
        return std::move(**message);
      }
      std::array<std::byte, 4096> buffer;
      const auto got = connection_->receive(buffer, end);
      if (!got) return setback(got.error(), false);
      decoder_.feed(std::span(buffer).first(*got));
    }
  }

  const ClientOptions& options_;
  const Token& token_;
  TimePoint deadline_;
  std::optional<Connection> connection_;
  MessageDecoder decoder_{MessageDecoder::Side::client};
};

milliseconds with_jitter(milliseconds pause) {
  thread_local std::minstd_rand random(std::random_device{}());
  return milliseconds(std::uniform_int_distribution<std::int64_t>(pause.count() / 2, pause.count())(random));
}

Error no_connection(const ClientOptions& options, const Error& last) {
  const bool silent = last.code == Errc::timed_out;
  return make_error(silent ? Errc::timed_out : Errc::unreachable,
                    fmt::format("no connection to rendezvous {} within {} (generation {}): {}", name_server(options),
                                name_duration(join_timeout(options)), number(options.generation), last.what),
                    name_me(options), head_hint(options));
}

}  // namespace

std::string where_of(const ClientOptions& options) {
  return "rendezvous " + name_server(options);
}

Error error_of(const Failure& failure, const ClientOptions& options) {
  return make_error(failure.code, failure.what, where_of(options), failure.hint);
}

milliseconds bounded(milliseconds timeout) {
  return std::clamp(timeout, milliseconds(0), milliseconds(std::numeric_limits<std::uint32_t>::max()));
}

Result<Joined> join_until_deadline(const ClientOptions& options, const Token& token) {
  const TimePoint deadline = steady_clock::now() + join_timeout(options);
  milliseconds pause = kFirstPause;
  while (true) {
    auto joined = Attempt(options, token, deadline).run();
    if (joined) return std::move(*joined);
    const Setback& setback = joined.error();
    if (setback.final_word) {
      Error error = setback.error;
      if (error.where.empty()) error.where = name_me(options);
      return error;
    }
    const TimePoint now = steady_clock::now();
    if (now >= deadline) return no_connection(options, setback.error);
    std::this_thread::sleep_until(std::min(deadline, now + with_jitter(pause)));
    pause = std::min(2 * pause, kLongestPause);
  }
}

}  // namespace llmlaunch::rendezvous
