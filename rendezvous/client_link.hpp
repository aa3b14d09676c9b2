/// \file
/// `ClientLink`: a rank's connection to the rendezvous once it is admitted: requests from any thread, and one thread
/// that reads answers and pushes. What the requests are is client.cpp's. Private to it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "rendezvous/client_join.hpp"

namespace llmlaunch::rendezvous {

class ClientLink {
 public:
  /// Starts the reading thread.
  ClientLink(ClientOptions options, Joined joined);
  ~ClientLink();  ///< leaves in order
  ClientLink(const ClientLink&) = delete;
  ClientLink& operator=(const ClientLink&) = delete;

  const ClientOptions& options() const { return options_; }

  /// The answer to a request, whose number is set here. `timeout` is what the server was asked to wait; it answers
  /// first, as it knows who is missing. `subject` stands in the message of a server that does not: "barrier 'x'".
  template <class Request>
  Result<Message> ask(Request request, std::chrono::milliseconds timeout, const std::string& subject) {
    Call call;
    const Result<std::uint32_t> number = begin(call);
    if (!number) return number.error();
    request.request = *number;
    return answer_to(call, *number, Message(std::move(request)), timeout, subject);
  }

  /// Sends a request for whose answer nobody waits. Should the server refuse it, the call that waits meanwhile, or the
  /// next one, fails with `what` and the reason in front of its own; after `leave` it is a warning in the log.
  template <class Request>
  Result<void> post(Request request, const std::string& what) {
    const Result<std::uint32_t> number = begin_posted(what);
    if (!number) return number.error();
    request.request = *number;
    return send_posted(Message(std::move(request)));
  }

  /// A watch: its changes go to `changes`, from before the request is answered until `unwatch`.
  struct Changes {
    std::deque<Change> queue;
    std::size_t bytes = 0;
    std::optional<Error> end;  // no further change comes
    bool known_to_server = true;
    std::condition_variable news;
    int descriptor = -1;  // an eventfd once somebody asked for one; readable while `raised`
    bool raised = false;
  };
  Result<std::uint32_t> watch(Watch request, Changes& changes, const std::string& subject);
  void unwatch(std::uint32_t number, const Changes& changes);
  /// The oldest change, waiting for it; errors as Watcher::next.
  Result<Change> next_change(Changes& changes, std::chrono::milliseconds timeout, const std::string& subject);
  /// As Watcher::descriptor.
  Result<int> descriptor_of(Changes& changes);

  /// `unsupported` when the server does not know what came with this minor version of the protocol.
  Result<void> needs_minor(std::uint16_t minor, const char* what) const;

  /// Says goodbye; calls fail from here on. Idempotent.
  void leave();
  bool ended();
  /// As Client::on_end.
  void on_end(std::function<void(const Error& reason)> callback);

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  // A request that waits for its answer. Lives on the caller's stack; its fields are guarded by `mutex_`.
  struct Call {
    std::condition_variable answered;
    std::optional<Message> answer;
  };

  Result<std::uint32_t> begin(Call& call, Changes* changes = nullptr);
  Result<std::uint32_t> begin_posted(const std::string& what);
  Result<void> send_posted(const Message& request);
  std::uint32_t fresh_number();
  void cancel(std::uint32_t number);
  void answer_posted(const std::string& what, const Message& answer);
  Result<Message> answer_to(Call& call, std::uint32_t number, const Message& request, std::chrono::milliseconds timeout,
                            const std::string& subject);
  Result<void> send(const Message& message, TimePoint deadline);
  void read();
  void receive(Message message);
  void end(Error reason);
  void tell_end();
  bool keep_change(Message& message);
  bool is_over(const Changes& changes) const { return changes.end || end_reason_ || leaving_; }
  void tell(Changes& changes);
  void show_state(Changes& changes);

  const ClientOptions options_;
  const std::uint16_t server_minor_;
  Connection connection_;
  MessageDecoder decoder_;  // the reader thread's

  std::mutex sending_;  // held while a message is written, never together with `mutex_`

  std::mutex mutex_;
  std::uint32_t next_request_ = 1;
  std::map<std::uint32_t, Call*> calls_;
  std::map<std::uint32_t, Changes*> watches_;
  std::map<std::uint32_t, std::string> posted_;  // requests whose answers nobody waits for, and what each was to do
  std::optional<Error> late_refusal_;            // of a posted request, until a call has told it
  std::optional<Error> end_reason_;              // the generation has ended or the connection is lost
  std::function<void(const Error&)> end_callback_;
  bool leaving_ = false;
  bool reader_done_ = false;
  std::condition_variable reader_ended_;

  std::thread reader_;  // last: everything it touches exists before it
};

}  // namespace llmlaunch::rendezvous
