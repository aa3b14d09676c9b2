// A rank's conversation with the rendezvous: the handshake, then requests from any thread and one thread that reads
// answers and pushes. Waits for the server's word first and for its own deadline as the last resort, because the server
// knows who is missing.
#include "rendezvous/client.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "rendezvous/auth.hpp"
#include "rendezvous/connection.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using TimePoint = steady_clock::time_point;

// Between tries to connect: short at first, as the server is usually there; with jitter, as thousands of ranks may try.
constexpr milliseconds kFirstPause{20};
constexpr milliseconds kLongestPause{1'000};
// How much longer than asked the client waits for the server's answer, which names what is missing.
constexpr milliseconds kAnswerGrace{10'000};
// How long leaving may take when the server does not react.
constexpr milliseconds kLeaveTimeout{2'000};
constexpr std::size_t kReadBytes = 64 * 1024;

std::string name_server(const ClientOptions& options) {
  if (options.address.find(':') != std::string::npos) return fmt::format("[{}]:{}", options.address, options.port);
  return fmt::format("{}:{}", options.address, options.port);
}

std::string where_of(const ClientOptions& options) {
  return "rendezvous " + name_server(options);
}

std::string name_me(const ClientOptions& options) {
  return options.host.empty() ? fmt::format("rank {}", number(options.rank)) : name_rank(options.rank, options.host);
}

Error error_of(const Failure& failure, const ClientOptions& options) {
  return make_error(failure.code, failure.what, where_of(options), failure.hint);
}

std::string head_hint(const ClientOptions& options) {
  return fmt::format(
      "{} must be an address of the machine where llmlaunch runs (main_process_ip), and TCP port {} open there "
      "(main_process_port)",
      options.address, options.port);
}

// The protocol's u32 of milliseconds ends at 49 days, which also keeps sums of times from overflowing.
milliseconds bounded(milliseconds timeout) {
  return std::clamp(timeout, milliseconds(0), milliseconds(std::numeric_limits<std::uint32_t>::max()));
}

milliseconds join_timeout(const ClientOptions& options) {
  return bounded(options.join_timeout.value_or(options.timeout));
}

std::uint32_t to_ms(milliseconds timeout) {
  return static_cast<std::uint32_t>(bounded(timeout).count());
}

// A try to join that did not succeed: whether another one may.
struct Setback {
  Error error;
  bool final_word = false;
};

struct Joined {
  Connection connection;
  MessageDecoder decoder;
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
    hello.rank = options_.rank;
    hello.world_size = options_.world_size;
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
    if (!std::holds_alternative<Welcome>(*answer)) return setback(nonsense(), true);
    return Joined{std::move(*connection_), std::move(decoder_)};
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
          return setback(error_of(*failure, options_), failure->code != Errc::out_of_resources);
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

}  // namespace

struct Client::Impl {
  // A request that waits for its answer. Lives on the caller's stack; its fields are guarded by `mutex`.
  struct Call {
    std::condition_variable answered;
    std::optional<Message> answer;
  };

  Impl(ClientOptions chosen, Joined joined)
      : options(std::move(chosen)), connection(std::move(joined.connection)), decoder(std::move(joined.decoder)) {}

  template <class Request>
  Result<Message> ask(Request request, milliseconds timeout, const std::string& subject);
  Result<void> send(const Message& message, TimePoint deadline);
  void read();
  void receive(Message message);
  void end(Error reason);
  void tell_end();
  void leave();

  const ClientOptions options;
  Connection connection;
  MessageDecoder decoder;  // the reader thread's

  std::mutex sending;  // held while a message is written, never together with `mutex`

  std::mutex mutex;
  std::uint32_t next_request = 1;
  std::map<std::uint32_t, Call*> calls;
  std::optional<Error> end_reason;  // the generation has ended or the connection is lost
  std::function<void(const Error&)> end_callback;
  bool leaving = false;
  bool reader_done = false;
  std::condition_variable reader_ended;

  std::thread reader;  // last: everything it touches exists before it
};

template <class Request>
Result<Message> Client::Impl::ask(Request request, milliseconds timeout, const std::string& subject) {
  Call call;
  timeout = bounded(timeout);
  {
    const std::scoped_lock lock(mutex);
    if (end_reason) return *end_reason;
    do {
      request.request = next_request++;
    } while (request.request == 0 || calls.contains(request.request));
    calls.emplace(request.request, &call);
  }
  const auto number = request.request;
  const TimePoint deadline = steady_clock::now() + timeout + kAnswerGrace;
  if (auto sent = send(std::move(request), deadline); !sent) end(sent.error());

  std::unique_lock lock(mutex);
  call.answered.wait_until(lock, deadline, [&] { return call.answer || end_reason; });
  calls.erase(number);
  if (call.answer) {
    if (const auto* failure = std::get_if<Failure>(&*call.answer)) return error_of(*failure, options);
    return std::move(*call.answer);
  }
  if (end_reason) return *end_reason;
  lock.unlock();
  if (auto sent = send(Cancel{number}, steady_clock::now() + kLeaveTimeout); !sent) end(sent.error());
  return make_error(Errc::timed_out,
                    fmt::format("no answer to {} within {}", subject, name_duration(timeout + kAnswerGrace)),
                    where_of(options), "the launcher on the head node may be stopped or overloaded");
}

// A message that is not sent whole leaves the stream without meaning: the caller ends it.
Result<void> Client::Impl::send(const Message& message, TimePoint deadline) {
  const Bytes bytes = encode(message);
  const std::scoped_lock lock(sending);
  return connection.send(bytes, deadline);
}

void Client::Impl::read() {
  Bytes buffer(kReadBytes);
  while (true) {
    auto message = decoder.next();
    if (!message) {
      end(message.error());
      break;
    }
    if (*message) {
      receive(std::move(**message));
      tell_end();
      continue;
    }
    const auto got = connection.receive(buffer, std::nullopt);
    if (!got) {
      end(got.error());
      break;
    }
    decoder.feed(std::span(buffer).first(*got));
  }
  tell_end();
  const std::scoped_lock lock(mutex);
  reader_done = true;
  reader_ended.notify_all();
}

void Client::Impl::receive(Message message) {
  if (const auto* ended = std::get_if<Ended>(&message)) {
    return end(make_error(Errc::generation_ended,
                          fmt::format("generation {} has ended: {}", number(ended->generation), ended->reason),
                          where_of(options)));
  }
  if (const auto* failure = std::get_if<Failure>(&message); failure != nullptr && failure->request == 0) {
    return end(error_of(*failure, options));
  }
  const std::uint32_t request = std::visit(
      [](const auto& reply) -> std::uint32_t {
        if constexpr (requires { reply.request; })
          return reply.request;
        else
          return 0;
      },
      message);
  const std::scoped_lock lock(mutex);
  const auto call = calls.find(request);
  if (call == calls.end()) return;  // given up, or of a newer protocol
  call->second->answer = std::move(message);
  call->second->answered.notify_one();
}

// The first reason stays, and waiting calls see it. A lost connection is shut down, so that the reader comes to its end
// whichever thread noticed.
void Client::Impl::end(Error reason) {
  const std::scoped_lock lock(mutex);
  if (end_reason) return;
  if (reason.where.empty()) {
    reason.where = where_of(options);
    reason.what = "connection lost: " + reason.what;
    if (reason.code.category() != error_category()) reason.code = make_error_code(Errc::closed);
  }
  end_reason = std::move(reason);
  for (const auto& [request, call] : calls) call->answered.notify_one();
  if (end_reason->code != Errc::generation_ended) connection.shut_down();
}

// On the reader's thread: the callback hears the end once, outside the lock.
void Client::Impl::tell_end() {
  std::function<void(const Error&)> callback;
  std::optional<Error> reason;
  {
    const std::scoped_lock lock(mutex);
    if (!end_reason || leaving) return;
    reason = end_reason;
    callback = std::exchange(end_callback, nullptr);
  }
  if (callback) callback(*reason);
}

void Client::Impl::leave() {
  bool lost = false;
  {
    const std::scoped_lock lock(mutex);
    leaving = true;
    lost = end_reason && end_reason->code != Errc::generation_ended;
  }
  const TimePoint deadline = steady_clock::now() + kLeaveTimeout;
  // The server closes after a Leave; its end of the stream says that it has read ours.
  if (!lost && send(Leave{}, deadline)) {
    connection.finish_sending();
    std::unique_lock lock(mutex);
    reader_ended.wait_until(lock, deadline, [this] { return reader_done; });
  }
  connection.shut_down();
  reader.join();
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Client>> Client::join(const ClientOptions& options) {
  const auto token = Token::parse(options.token);
  if (!token) return token.error();
  if (options.job_id.size() > kMaxNameBytes || options.host.size() > kMaxNameBytes) {
    return make_error(Errc::too_large, fmt::format("job id and host name may have {} bytes; these have {} and {}",
                                                   kMaxNameBytes, options.job_id.size(), options.host.size()));
  }
  auto joined = join_until_deadline(options, *token);
  if (!joined) return joined.error();
  ClientOptions kept = options;
  kept.token.clear();
  auto impl = std::make_unique<Impl>(std::move(kept), std::move(*joined));
  impl->reader = std::thread([raw = impl.get()] { raw->read(); });
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

Client::~Client() {
  impl_->leave();
}

const ClientOptions& Client::options() const {
  return impl_->options;
}

Result<void> Client::publish_unique_id(std::uint32_t index, const UniqueId& id) {
  PublishId request;
  request.index = index;
  request.id = id;
  const auto answer = impl_->ask(request, impl_->options.timeout, fmt::format("publishing unique id {}", index));
  if (!answer) return answer.error();
  return ok;
}

Result<UniqueId> Client::unique_id(std::uint32_t index) {
  GetId request;
  request.index = index;
  request.timeout_ms = to_ms(impl_->options.timeout);
  const auto answer = impl_->ask(request, impl_->options.timeout, fmt::format("the request for unique id {}", index));
  if (!answer) return answer.error();
  if (const auto* id = std::get_if<Id>(&*answer)) return id->id;
  return make_error(Errc::protocol, "the server answered with another type", where_of(impl_->options));
}

Result<void> Client::set(std::string_view key, ByteView value) {
  if (auto fits = check_key(key); !fits) return fits;
  if (auto fits = check_value(key, value.size()); !fits) return fits;
  Set request;
  request.key = key;
  request.value.assign(value.begin(), value.end());
  const auto answer = impl_->ask(std::move(request), impl_->options.timeout, "setting key " + quoted(key));
  if (!answer) return answer.error();
  return ok;
}

Result<Bytes> Client::get(std::string_view key) {
  return get(key, impl_->options.timeout);
}

Result<Bytes> Client::get(std::string_view key, milliseconds timeout) {
  if (auto fits = check_key(key); !fits) return fits.error();
  Get request;
  request.key = key;
  request.timeout_ms = to_ms(timeout);
  const auto answer = impl_->ask(std::move(request), timeout, "the request for key " + quoted(key));
  if (!answer) return answer.error();
  if (const auto* value = std::get_if<Value>(&*answer)) return *value->value;
  return make_error(Errc::protocol, "the server answered with another type", where_of(impl_->options));
}

Result<void> Client::wait(const std::vector<std::string>& keys, milliseconds timeout) {
  std::size_t bytes = 0;
  for (const std::string& key : keys) {
    if (auto fits = check_key(key); !fits) return fits;
    bytes += key.size() + sizeof(std::uint32_t);
  }
  if (keys.size() > kMaxWaitKeys || bytes > kMaxValueBytes) {
    return make_error(Errc::too_large, fmt::format("waiting for {} keys of {} bytes; the limits are {} and {}",
                                                   keys.size(), bytes, kMaxWaitKeys, kMaxValueBytes));
  }
  Wait request;
  request.timeout_ms = to_ms(timeout);
  request.keys = keys;
  const auto answer = impl_->ask(std::move(request), timeout, fmt::format("waiting for {} keys", keys.size()));
  if (!answer) return answer.error();
  return ok;
}

Result<std::int64_t> Client::add(std::string_view key, std::int64_t delta) {
  if (auto fits = check_key(key); !fits) return fits.error();
  Add request;
  request.key = key;
  request.delta = delta;
  const auto answer = impl_->ask(std::move(request), impl_->options.timeout, "adding to key " + quoted(key));
  if (!answer) return answer.error();
  if (const auto* sum = std::get_if<Number>(&*answer)) return sum->value;
  return make_error(Errc::protocol, "the server answered with another type", where_of(impl_->options));
}

Result<void> Client::barrier(std::string_view name) {
  if (auto fits = check_key(name, "barrier name"); !fits) return fits;
  Barrier request;
  request.name = name;
  request.timeout_ms = to_ms(impl_->options.timeout);
  const auto answer = impl_->ask(std::move(request), impl_->options.timeout, "barrier " + quoted(name));
  if (!answer) return answer.error();
  return ok;
}

bool Client::ended() const {
  const std::scoped_lock lock(impl_->mutex);
  return impl_->end_reason.has_value();
}

void Client::on_end(std::function<void(const Error& reason)> callback) {
  Error reason;
  {
    const std::scoped_lock lock(impl_->mutex);
    if (!impl_->end_reason) {
      impl_->end_callback = std::move(callback);
      return;
    }
    reason = *impl_->end_reason;
  }
  callback(reason);
}

}  // namespace llmlaunch::rendezvous
