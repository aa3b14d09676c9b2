/// \file
/// `Session`: one libssh session over a socket of ours, driven by an event loop; the only place that waits for libssh.
/// Who to connect to, which keys to offer and what to run is decided elsewhere.
///
/// It lives on the loop of its user, or with `SessionOptions::worker` on that thread. Its user sees no difference: all
/// calls are made from the user's loop, go over to the worker as a coroutine, and their results and the command's
/// stderr come back to that loop.
///
/// What libssh 0.10 needs, each found by running it:
/// * It makes its descriptor blocking after the connection was made; O_NONBLOCK is set again around each of its calls.
/// * TCP_NODELAY is ours to set, and TCP_QUICKACK wears off: until the agent runs it is set again before each wait.
///   Each of the two costs 40 ms per host when it is missing.
/// * Readiness of the descriptor is not all: packets that were read early lie in channel buffers. After every wake-up
///   both streams are read until there is nothing.
/// * No deadline of its own is in force when it does not block. `close` from outside ends whatever waits.
/// * A session belongs to one thread at a time; only signing with ssh-agent leaves its loop's (see
/// `sign_in_with_agent`). The calls here that are no coroutines look into libssh on the user's thread; they are for
/// times in which none of the others is pending, and before `exec`.
/// * One ssh_key must not be used by two threads: a session on a worker has its own copy of each.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "launcher/ssh/known_hosts.hpp"
#include "launcher/ssh/libssh.hpp"
#include "launcher/ssh/secret.hpp"
#include "launcher/ssh/transport.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

struct SessionOptions {
  std::string user;
  std::string host;                 ///< for libssh's own messages; nothing is looked up
  std::string host_key_algorithms;  ///< in order of preference, separated by commas
  /// After so long without an answer from the network the connection is given up; for TCP alone.
  std::chrono::milliseconds alive_limit{60'000};
  /// The thread to live on; null: the one of the transport's executor. Not for transports with `ended` or `on_close`,
  /// and not for who uses `carry`: those are the event loop's.
  std::shared_ptr<asio::io_context> worker = nullptr;
};

/// For `co_spawn` on a thread pool. A function and not a lambda: a coroutine must not capture.
template <class Call>
asio::awaitable<std::invoke_result_t<Call>> call_there(Call call) {
  co_return call();
}

/// Which file a descriptor is, 0 for none: libssh closes some that it was given, and the number may be another's by
/// then.
ino_t inode_of(int fd);

/// A step with a host that did not end in time.
Error too_slow(const std::string& doing, const std::string& address, std::chrono::milliseconds limit);

/// What a server answers to one way of signing in.
enum class SignIn { accepted, denied, partial };

class Session : public std::enable_shared_from_this<Session> {
 public:
  using Stream = asio::posix::stream_descriptor;

  static Result<std::shared_ptr<Session>> make(Transport transport, const SessionOptions& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Until the server has said that it is one: its version. Errors as those of `exchange_keys`, the next step.
  asio::awaitable<Result<void>> await_banner();
  /// `Errc::closed`: the server hung up before its key was there (sshd's MaxStartups does it).
  asio::awaitable<Result<void>> exchange_keys();
  Result<HostKey> server_key() const;

  /// Offers one key and signs with it, or with its certificate when it has one.
  asio::awaitable<Result<SignIn>> sign_in_with(ssh_key key);
  /// Whether the server would take the key or certificate; the private half is not needed.
  asio::awaitable<Result<SignIn>> would_take(ssh_key key);
  /// By the method `password`.
  asio::awaitable<Result<SignIn>> sign_in_with_password(const Secret& password);
  /// By the method `keyboard-interactive`, when it comes to one hidden question. `Errc::unsupported` names what else
  /// was asked.
  asio::awaitable<Result<SignIn>> sign_in_with_answer(const Secret& answer);
  /// Without anything: some servers need no more, and all say what they accept.
  asio::awaitable<Result<SignIn>> sign_in_with_nothing();
  /// The same with every key that the agent behind `agent_socket` shows. libssh talks to an agent blocking, so this
  /// runs on `pool`; close the other end of the socket to end it. Takes the descriptor over.
  asio::awaitable<Result<SignIn>> sign_in_with_agent(int agent_socket, asio::thread_pool& pool);
  /// "publickey, password"; empty before the first refusal.
  std::string accepted_methods() const;
  /// Bits SSH_AUTH_METHOD_…; 0 before the first refusal.
  int accepted_bits() const { return ssh_userauth_list(session_.get(), nullptr); }
  /// What the server prints before anybody signs in, without its last newline.
  std::string banner() const;

  /// Starts the command and then moves bytes. Once, after signing in.
  asio::awaitable<Result<void>> exec(const std::string& command);

  /// At least one byte of the command's stdout, 0 at its end. One reader at a time.
  asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> buffer);
  /// All bytes to the command's stdin. One writer at a time, also while a read is pending.
  asio::awaitable<Result<void>> write(ByteView bytes);
  /// The command's stderr, as it comes.
  void on_stderr(std::function<void(std::string_view)> sink) { stderr_sink_ = std::move(sink); }
  /// ACKs are as urgent as before no longer.
  void settle();

  /// Ends everything at once: pending calls give `Errc::canceled`. Idempotent.
  void close();

  /// Of the head and of the host, see `Transport`.
  const std::string& head_address() const { return head_address_; }
  const std::string& host_address() const { return host_address_; }
  /// For messages.
  const std::string& peer() const { return peer_; }

  // For who moves bytes instead of `exec`, see forwards.hpp.
  /// From now on `move` is called whenever libssh may have something or can take something; at last `ended`, once.
  void carry(std::function<void()> move, std::function<void(const Error&)> ended);
  asio::any_io_executor executor() { return stream_.get_executor(); }
  ssh_session handle() { return session_.get(); }
  /// Calls `move` again.
  void wake();
  /// Bytes wait here that the network has not taken: who has more to send holds it back.
  bool is_clogged() const { return (ssh_get_status(session_.get()) & SSH_WRITE_PENDING) != 0; }
  /// The socket has bytes that libssh has not read.
  bool has_unread() const;

 private:
  Session(Transport transport, SessionHandle session, int descriptor, std::shared_ptr<asio::io_context> worker);
  Result<void> configure(const SessionOptions& options);

  template <class T>
  asio::awaitable<T> there(asio::awaitable<T> body);
  asio::awaitable<Result<void>> do_await_banner();
  asio::awaitable<Result<void>> do_exchange_keys();
  asio::awaitable<Result<SignIn>> do_offer(ssh_key key, bool sign);
  asio::awaitable<Result<SignIn>> do_answer(const Secret& answer);
  asio::awaitable<Result<SignIn>> do_sign_in_with_agent(int agent_socket, asio::thread_pool& pool);
  asio::awaitable<Result<void>> do_exec(const std::string& command);
  asio::awaitable<Result<std::size_t>> do_read_some(std::span<std::byte> buffer);
  asio::awaitable<Result<void>> do_write(ByteView bytes);
  asio::awaitable<Result<SignIn>> offer(ssh_key key, bool sign);
  void do_close();
  void tell_stderr(std::string_view text);

  template <class Call>
  asio::awaitable<int> repeat(Call call);
  asio::awaitable<void> wait();
  void look_at_first_words();
  void arm(Stream::wait_type what, bool& armed);
  void before_call();
  void after_call();
  void close_agent_socket();
  bool lost() const;
  bool peer_hung_up() const;
  Error failure(std::string_view doing) const;
  Result<SignIn> sign_in_answer(int answer) const;
  template <class Call>
  asio::awaitable<Result<SignIn>> repeat_sign_in(Call call);

  static asio::awaitable<void> pump(std::shared_ptr<Session> self);
  void move_bytes();
  bool is_over() const;
  void take_stderr();
  void take_stdout();
  void give_stdin();

  std::shared_ptr<asio::io_context> worker_;  // before all that is its
  asio::any_io_executor home_;                // the user's
  Stream stream_;
  int socket_;  // of the stream, -1 when that is closed; its flags and options are those of libssh's copy
  SessionHandle session_;
  int descriptor_;         // libssh's own copy of the socket, which it may have closed
  ino_t inode_;            // of that
  int agent_socket_ = -1;  // handed to libssh, with what it was then
  ino_t agent_inode_ = 0;
  ssh_channel channel_ = nullptr;  // freed by ssh_free
  std::string head_address_, host_address_, peer_;
  std::shared_ptr<const std::optional<Error>> way_ended_;
  std::function<void()> close_way_;
  std::function<void(std::string_view)> stderr_sink_;
  std::function<void()> carried_;
  std::function<void(const Error&)> carrying_ended_;

  asio::steady_timer signal_;  // libssh may go on
  asio::steady_timer reader_signal_, writer_signal_;
  bool woken_ = false;
  bool read_armed_ = false, write_armed_ = false;
  bool hurried_ = true;
  bool keys_exchanged_ = false;
  std::string first_words_;  // of the server, before the key exchange
  bool closing_ = false;     // the user's
  bool closed_ = false;      // ours
  std::size_t unheard_ = 0;  // bytes of stderr on their way to the user

  std::optional<std::span<std::byte>> reading_;  // who waits for stdout, with the place for it
  std::size_t read_ = 0;
  ByteView writing_;  // what is not yet sent
  bool stdout_ended_ = false;
  bool gone_ = false;  // the connection is; what was received before can still be read
  std::optional<Error> broken_;
};

// Runs it where the session lives. What it refers to must stay until it is done, as for every coroutine.
template <class T>
asio::awaitable<T> Session::there(asio::awaitable<T> body) {
  const auto self = shared_from_this();
  if (!worker_) {
    T done = co_await std::move(body);
    co_return done;
  }
  T done = co_await asio::co_spawn(*worker_, std::move(body), asio::use_awaitable);
  co_return done;
}

template <class Call>
asio::awaitable<int> Session::repeat(Call call) {
  while (!closed_) {
    before_call();
    const int answer = call();
    after_call();
    if (answer == SSH_ERROR) look_at_first_words();
    if (answer != SSH_AGAIN) co_return answer;
    if (lost()) break;
    co_await wait();
  }
  co_return SSH_ERROR;
}

}  // namespace llmlaunch::launcher::ssh
