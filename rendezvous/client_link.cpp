// Requests wait on their own condition, the reading thread wakes them. Waits for the server's word first and for its
// own deadline as the last resort, because the server knows who is missing.
#include "rendezvous/client_link.hpp"

#include <fmt/format.h>

#include <utility>

#include "rendezvous/base/log.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// How much longer than asked the client waits for the server's answer, which names what is missing.
constexpr milliseconds kAnswerGrace{10'000};
// How long leaving may take when the server does not react.
constexpr milliseconds kLeaveTimeout{2'000};
constexpr std::size_t kLinkReadBytes = 64 * 1024;

}  // namespace

ClientLink::ClientLink(ClientOptions options, Joined joined)
    : options_(std::move(options)),
      server_minor_(joined.minor),
      connection_(std::move(joined.connection)),
      decoder_(std::move(joined.decoder)),
      reader_([this] { read(); }) {}

ClientLink::~ClientLink() {
  leave();
}

// --- requests --------------------------------------------------------------------------------------------------------

Result<std::uint32_t> ClientLink::begin(Call& call, Changes* changes) {
  const std::scoped_lock lock(mutex_);
  if (end_reason_) return *end_reason_;
  if (late_refusal_) return *std::exchange(late_refusal_, std::nullopt);
  const std::uint32_t number = fresh_number();
  calls_.emplace(number, &call);
  if (changes != nullptr) watches_.emplace(number, changes);
  return number;
}

Result<std::uint32_t> ClientLink::begin_posted(const std::string& what) {
  const std::scoped_lock lock(mutex_);
  if (end_reason_) return *end_reason_;
  if (late_refusal_) return *std::exchange(late_refusal_, std::nullopt);
  const std::uint32_t number = fresh_number();
  posted_.emplace(number, what);
  return number;
}

Result<void> ClientLink::send_posted(const Message& request) {
  if (auto sent = send(request, steady_clock::now() + bounded(options_.timeout)); !sent) {
    end(sent.error());
    const std::scoped_lock lock(mutex_);
    return *end_reason_;
  }
  return ok;
}

// The mutex is held.
std::uint32_t ClientLink::fresh_number() {
  std::uint32_t number = 0;
  do number = next_request_++;
  while (number == 0 || calls_.contains(number) || watches_.contains(number) || posted_.contains(number));
  return number;
}

void ClientLink::cancel(std::uint32_t number) {
  if (auto sent = send(Cancel{number}, steady_clock::now() + kLeaveTimeout); !sent) end(sent.error());
}

Result<Message> ClientLink::answer_to(Call& call, std::uint32_t number, const Message& request, milliseconds timeout,
                                      const std::string& subject) {
  timeout = bounded(timeout);
  const TimePoint deadline = steady_clock::now() + timeout + kAnswerGrace;
  if (auto sent = send(request, deadline); !sent) end(sent.error());

  std::unique_lock lock(mutex_);
  call.answered.wait_until(lock, deadline, [&] { return call.answer || end_reason_ || late_refusal_; });
  calls_.erase(number);
  if (late_refusal_) {
    const Error refusal = *std::exchange(late_refusal_, std::nullopt);
    const bool open = !call.answer && !end_reason_;
    lock.unlock();
    if (open) cancel(number);
    return refusal;
  }
  if (call.answer) {
    if (const auto* failure = std::get_if<Failure>(&*call.answer)) return error_of(*failure, options_);
    return std::move(*call.answer);
  }
  if (end_reason_) return *end_reason_;
  lock.unlock();
  cancel(number);
  return make_error(Errc::timed_out,
                    fmt::format("no answer to {} within {}", subject, name_duration(timeout + kAnswerGrace)),
                    where_of(options_), "the launcher on the head node may be stopped or overloaded");
}

// A message that is not sent whole leaves the stream without meaning: the caller ends it.
Result<void> ClientLink::send(const Message& message, TimePoint deadline) {
  const Bytes bytes = encode(message);
  const std::scoped_lock lock(sending_);
  return connection_.send(bytes, deadline);
}

Result<void> ClientLink::needs_minor(std::uint16_t minor, const char* what) const {
  if (server_minor_ >= minor) return ok;
  return make_error(Errc::unsupported,
                    fmt::format("the launcher speaks version {}.{} of the rendezvous protocol, which has no {}",
                                kProtocolVersion, server_minor_, what),
                    where_of(options_), "use the same llmlaunch on the head and in the program");
}

// --- the reading thread ----------------------------------------------------------------------------------------------

void ClientLink::read() {
  Bytes buffer(kLinkReadBytes);
  while (true) {
    auto message = decoder_.next();
    if (!message) {
      end(message.error());
      break;
    }
    if (*message) {
      receive(std::move(**message));
      tell_end();
      continue;
    }
    const auto got = connection_.receive(buffer, std::nullopt);
    if (!got) {
      end(got.error());
      break;
    }
    decoder_.feed(std::span(buffer).first(*got));
  }
  tell_end();
  const std::scoped_lock lock(mutex_);
  reader_done_ = true;
  reader_ended_.notify_all();
}

void ClientLink::receive(Message message) {
  if (const auto* ended = std::get_if<Ended>(&message)) {
    return end(make_error(Errc::generation_ended,
                          fmt::format("generation {} has ended: {}", number(ended->generation), ended->reason),
                          where_of(options_)));
  }
  if (const auto* failure = std::get_if<Failure>(&message); failure != nullptr && failure->request == 0) {
    return end(error_of(*failure, options_));
  }
  const std::uint32_t request = std::visit(
      [](const auto& reply) -> std::uint32_t {
        if constexpr (requires { reply.request; })
          return reply.request;
        else
          return 0;
      },
      message);
  const std::scoped_lock lock(mutex_);
  if (keep_change(message)) return;
  if (auto posted = posted_.extract(request)) return answer_posted(posted.mapped(), message);
  const auto call = calls_.find(request);
  if (call == calls_.end()) return;  // given up, or of a newer protocol
  call->second->answer = std::move(message);
  call->second->answered.notify_one();
}

// The mutex is held. One refusal is told at a time: those behind it have the same reason.
void ClientLink::answer_posted(const std::string& what, const Message& answer) {
  const auto* failure = std::get_if<Failure>(&answer);
  if (failure == nullptr || late_refusal_ || end_reason_) return;
  late_refusal_ = error_of(*failure, options_);
  late_refusal_->what = what + ": " + late_refusal_->what;
  if (!calls_.empty()) calls_.begin()->second->answered.notify_one();
}

// The first reason stays, and waiting calls see it. A lost connection is shut down, so that the reader comes to its
// end whichever thread noticed.
void ClientLink::end(Error reason) {
  const std::scoped_lock lock(mutex_);
  if (end_reason_) return;
  if (reason.where.empty()) {
    reason.where = where_of(options_);
    reason.what = "connection lost: " + reason.what;
    if (reason.code.category() != error_category()) reason.code = make_error_code(Errc::closed);
  }
  end_reason_ = std::move(reason);
  for (const auto& [request, call] : calls_) call->answered.notify_one();
  for (const auto& [request, changes] : watches_) tell(*changes);
  if (end_reason_->code != Errc::generation_ended) connection_.shut_down();
}

// On the reader's thread: the callback hears the end once, outside the lock.
void ClientLink::tell_end() {
  std::function<void(const Error&)> callback;
  std::optional<Error> reason;
  {
    const std::scoped_lock lock(mutex_);
    if (!end_reason_ || leaving_) return;
    reason = end_reason_;
    callback = std::exchange(end_callback_, nullptr);
  }
  if (callback) callback(*reason);
}

void ClientLink::leave() {
  bool lost = false;
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(leaving_, true)) return;
    for (const auto& [request, changes] : watches_) tell(*changes);
    lost = end_reason_ && end_reason_->code != Errc::generation_ended;
  }
  const TimePoint deadline = steady_clock::now() + kLeaveTimeout;
  // The server closes after a Leave; its end of the stream says that it has read ours.
  if (!lost && send(Leave{}, deadline)) {
    connection_.finish_sending();
    std::unique_lock lock(mutex_);
    reader_ended_.wait_until(lock, deadline, [this] { return reader_done_; });
  }
  connection_.shut_down();
  reader_.join();
  if (late_refusal_) log_warning("{}", to_string(*late_refusal_));
}

bool ClientLink::ended() {
  const std::scoped_lock lock(mutex_);
  return end_reason_.has_value();
}

void ClientLink::on_end(std::function<void(const Error& reason)> callback) {
  Error reason;
  {
    const std::scoped_lock lock(mutex_);
    if (!end_reason_) {
      end_callback_ = std::move(callback);
      return;
    }
    reason = *end_reason_;
  }
  callback(reason);
}

}  // namespace llmlaunch::rendezvous
