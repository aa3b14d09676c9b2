/// \file
/// `Session`: one libssh session over a socket of ours, driven by the event loop; the only place that waits for libssh.
/// Who to connect to, which keys to offer and what to run is decided elsewhere.
///
/// What libssh 0.10 needs, each found by running it:
/// * It makes its descriptor blocking after the connection was made; O_NONBLOCK is set again around each of its calls.
/// * TCP_NODELAY is ours to set, and TCP_QUICKACK wears off: until the agent runs it is set again before each wait.
///   Each of the two costs 40 ms per host when it is missing.
/// * Readiness of the descriptor is not all: packets that were read early lie in channel buffers. After every wake-up
///   both streams are read until there is nothing.
/// * No deadline of its own is in force when it does not block. `close` from outside ends whatever waits.
/// * A session belongs to one thread at a time; only signing with ssh-agent leaves the event loop's (see
/// `sign_in_with`).
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
#include "rendezvous/asio.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

struct SessionOptions {
  std::string user;
  std::string host;                 ///< for libssh's own messages; nothing is looked up
  std::string host_key_algorithms;  ///< in order of preference, separated by commas
};

/// For `co_spawn` on a thread pool. A function and not a lambda: a coroutine must not capture.
template <class Call>
asio::awaitable<std::invoke_result_t<Call>> call_there(Call call) {
  co_return call();
}

/// A step with a host that did not end in time.
Error too_slow(const std::string& doing, const std::string& address, std::chrono::milliseconds limit);

/// What a server answers to one way of signing in.
enum class SignIn { accepted, denied, partial };

class Session : public std::enable_shared_from_this<Session> {
 public:
  using Socket = asio::ip::tcp::socket;

  static Result<std::shared_ptr<Session>> make(Socket socket, const SessionOptions& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Banner and key exchange. `Errc::closed`: the server hung up before its key was there (sshd's MaxStartups does it).
  asio::awaitable<Result<void>> exchange_keys();
  Result<HostKey> server_key() const;

  /// Offers one key and signs with it.
  asio::awaitable<Result<SignIn>> sign_in_with(ssh_key key);
  /// The same with every key that the agent behind `agent_socket` shows. libssh talks to an agent blocking, so this
  /// runs on `pool`; close the other end of the socket to end it. Takes the descriptor over.
  asio::awaitable<Result<SignIn>> sign_in_with_agent(int agent_socket, asio::thread_pool& pool);
  /// "publickey, password"; empty before the first refusal.
  std::string accepted_methods() const;
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
  void settle() { hurried_ = false; }

  /// Ends everything at once: pending calls give `Errc::canceled`. Idempotent.
  void close();

  std::string local_address() const { return local_address_; }
  std::string remote_address() const { return remote_address_; }

 private:
  Session(Socket socket, SessionHandle session, int descriptor);
  Result<void> configure(const SessionOptions& options);

  template <class Call>
  asio::awaitable<int> repeat(Call call);
  asio::awaitable<void> wait();
  void look_at_first_words();
  void wake();
  void arm(Socket::wait_type what, bool& armed);
  void before_call();
  void after_call();
  void close_agent_socket();
  bool lost() const;
  bool peer_hung_up() const;
  Error failure(std::string_view doing) const;
  Result<SignIn> sign_in_answer(int answer) const;

  static asio::awaitable<void> pump(std::shared_ptr<Session> self);
  void move_bytes();
  bool is_over() const;
  void take_stderr();
  void take_stdout();
  void give_stdin();

  Socket socket_;
  SessionHandle session_;
  int descriptor_;         // libssh's own copy of the socket
  int agent_socket_ = -1;  // handed to libssh, with what it was then
  ino_t agent_inode_ = 0;
  ssh_channel channel_ = nullptr;  // freed by ssh_free
  std::string local_address_, remote_address_;
  std::function<void(std::string_view)> stderr_sink_;

  asio::steady_timer signal_;  // libssh may go on
  asio::steady_timer reader_signal_, writer_signal_;
  bool woken_ = false;
  bool read_armed_ = false, write_armed_ = false;
  bool hurried_ = true;
  bool keys_exchanged_ = false;
  std::string first_words_;  // of the server, before the key exchange
  bool closed_ = false;

  std::optional<std::span<std::byte>> reading_;  // who waits for stdout, with the place for it
  std::size_t read_ = 0;
  ByteView writing_;  // what is not yet sent
  bool stdout_ended_ = false;
  bool gone_ = false;  // the connection is; what was received before can still be read
  std::optional<Error> broken_;
};

}  // namespace llmlaunch::launcher::ssh
