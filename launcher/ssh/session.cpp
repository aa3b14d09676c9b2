// The loop around libssh; see session.hpp for what it has to know.
#include "launcher/ssh/session.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "rendezvous/base/tcp_tuning.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// GCM is the fastest where the CPU has AES instructions; libssh itself would begin with chacha20.
constexpr const char* kCiphers =
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr";
// What OpenSSH says instead of its version when it has too many connections, or one too many from us.
constexpr std::string_view kMaxStartups = "Exceeded MaxStartups";
constexpr std::string_view kPenalty = "Not allowed at this time";
// How libssh reports what the server says when it ends a connection.
constexpr std::string_view kGoodbye = "Received SSH_MSG_DISCONNECT: ";
// What it says of a socket that was closed before its first look at it: strerror(0).
constexpr std::string_view kNoReason = "Success";

void set_option(int fd, int level, int option, int value) {
  // Advice to the kernel: without it everything works, only slower.
  (void)::setsockopt(fd, level, option, &value, sizeof(value));
}

}  // namespace

Error too_slow(const std::string& doing, const std::string& address, std::chrono::milliseconds limit) {
  return make_error(
      Errc::timed_out,
      fmt::format("{} with {} was not done within {:g} s", doing, address, static_cast<double>(limit.count()) / 1000),
      {}, "the host is overloaded, or what answers there is no sshd; llmlaunch.timeouts has the limits");
}

Session::Session(Transport transport, SessionHandle session, int descriptor, std::shared_ptr<asio::io_context> worker)
    : worker_(std::move(worker)),
      home_(transport.stream.get_executor()),
      stream_(worker_ ? Stream(*worker_, transport.stream.release()) : std::move(transport.stream)),
      socket_(stream_.native_handle()),
      session_(std::move(session)),
      descriptor_(descriptor),
      inode_(inode_of(descriptor)),
      head_address_(std::move(transport.head_address)),
      host_address_(std::move(transport.host_address)),
      peer_(std::move(transport.peer)),
      way_ended_(std::move(transport.ended)),
      close_way_(std::move(transport.on_close)),
      signal_(stream_.get_executor()),
      reader_signal_(stream_.get_executor()),
      writer_signal_(stream_.get_executor()) {}

Session::~Session() {
  do_close();
  session_.reset();
  close_agent_socket();
  // Most ways through libssh leave a descriptor that it was given open, some close it (fixed in 0.11).
  // One that it has closed may have its number at another session by now.
  if (inode_ != 0 && inode_of(descriptor_) == inode_) ::close(descriptor_);
}

Result<std::shared_ptr<Session>> Session::make(Transport transport, const SessionOptions& options) {
  SessionHandle handle(ssh_new());
  if (!handle) return make_error(Errc::out_of_resources, "no memory for an ssh session");
  const int descriptor = ::fcntl(transport.stream.native_handle(), F_DUPFD_CLOEXEC, 3);
  if (descriptor < 0) return system_error(errno, "dup of a socket");
  tune_connection(descriptor, options.alive_limit);
  std::shared_ptr<Session> session(new Session(std::move(transport), std::move(handle), descriptor, options.worker));
  if (auto configured = session->configure(options); !configured) return configured.error();
  return session;
}

Result<void> Session::configure(const SessionOptions& options) {
  ssh_session session = session_.get();
  const bool no = false;
  const int log_nothing = SSH_LOG_NOLOG;
  const auto set = [&](enum ssh_options_e option, const void* value) {
    return ssh_options_set(session, option, value) == SSH_OK;
  };
  // ~/.ssh/config and known_hosts are read by ourselves; libssh would read both again for each session.
  const bool done = set(SSH_OPTIONS_PROCESS_CONFIG, &no) && set(SSH_OPTIONS_LOG_VERBOSITY, &log_nothing) &&
                    set(SSH_OPTIONS_HOST, options.host.c_str()) && set(SSH_OPTIONS_USER, options.user.c_str()) &&
                    set(SSH_OPTIONS_KNOWNHOSTS, "/dev/null") && set(SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null") &&
                    set(SSH_OPTIONS_CIPHERS_C_S, kCiphers) && set(SSH_OPTIONS_CIPHERS_S_C, kCiphers) &&
                    set(SSH_OPTIONS_HOSTKEYS, options.host_key_algorithms.c_str()) && set(SSH_OPTIONS_FD, &descriptor_);
  if (!done)
    return make_error(Errc::invalid_argument, fmt::format("libssh refused a setting: {}", ssh_get_error(session)));
  ssh_set_blocking(session, 0);
  return ok;
}

// --- waiting -------------------------------------------------------------------------------------------------------

void Session::before_call() {
  look_at_first_words();
  if (hurried_) set_option(socket_, IPPROTO_TCP, TCP_QUICKACK, 1);
}

void Session::after_call() {
  const int flags = ::fcntl(socket_, F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) ::fcntl(socket_, F_SETFL, flags | O_NONBLOCK);
}

void Session::arm(Stream::wait_type what, bool& armed) {
  if (std::exchange(armed, true)) return;
  stream_.async_wait(what, [self = shared_from_this(), &armed](const boost::system::error_code&) {
    armed = false;
    self->wake();
  });
}

asio::awaitable<void> Session::wait() {
  if (closed_) co_return;
  before_call();
  arm(Stream::wait_read, read_armed_);
  if (is_clogged()) arm(Stream::wait_write, write_armed_);
  if (!woken_) {
    signal_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await signal_.async_wait(await_tuple);
  }
  woken_ = false;
}

// libssh passes over lines before the version, and says only that the connection was closed. So they are looked at
// before it reads, and after it has failed: a socket whose peer has hung up is one that it does not read.
void Session::look_at_first_words() {
  if (keys_exchanged_ || !first_words_.empty() || closed_) return;
  std::array<char, 128> words{};
  const ssize_t got = ::recv(socket_, words.data(), words.size(), MSG_PEEK | MSG_DONTWAIT);
  if (got > 0) first_words_.assign(words.data(), static_cast<std::size_t>(got));
}

void Session::wake() {
  woken_ = true;
  signal_.cancel();
}

void Session::close() {
  if (std::exchange(closing_, true)) return;
  if (!worker_) return do_close();
  asio::post(*worker_, [self = shared_from_this()] { self->do_close(); });
}

void Session::settle() {
  if (!worker_) {
    hurried_ = false;
    return;
  }
  asio::post(*worker_, [self = shared_from_this()] { self->hurried_ = false; });
}

void Session::do_close() {
  if (std::exchange(closed_, true)) return;
  boost::system::error_code ignored;  // of a socket that is given up
  // Both: the first ends what libssh has, also on another thread, the second what waits here.
  if (stream_.is_open()) ::shutdown(stream_.native_handle(), SHUT_RDWR);
  stream_.close(ignored);
  socket_ = -1;
  if (close_way_) close_way_();
  wake();
  reader_signal_.cancel();
  writer_signal_.cancel();
}

// --- errors --------------------------------------------------------------------------------------------------------

// libssh goes on asking for patience after it has read sshd's goodbye.
bool Session::lost() const {
  return keys_exchanged_ && ssh_is_connected(session_.get()) == 0;
}

bool Session::has_unread() const {
  std::byte next{};
  return ::recv(socket_, &next, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

// Also when there are bytes of it that nobody has read.
bool Session::peer_hung_up() const {
  pollfd socket{socket_, POLLRDHUP, 0};
  return ::poll(&socket, 1, 0) > 0 && (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Error Session::failure(std::string_view doing) const {
  if (closed_) return make_error(Errc::canceled, "the connection was closed");
  if (way_ended_ && *way_ended_) return **way_ended_;
  std::string said = ssh_get_error(session_.get());
  if (said == kNoReason) said.clear();
  if (said.starts_with(kGoodbye)) {  // "Received SSH_MSG_DISCONNECT: 2:Too many authentication failures"
    const std::size_t colon = said.find(':', kGoodbye.size());
    const std::string reason = said.substr(colon == said.npos ? kGoodbye.size() : colon + 1);
    return make_error(Errc::refused, fmt::format("sshd ended the connection during {}: {}", doing, reason));
  }
  if (!keys_exchanged_ && !first_words_.empty() && !first_words_.starts_with("SSH-")) {
    const std::string words = first_words_.substr(0, first_words_.find_first_of("\r\n"));
    if (words.starts_with(kMaxStartups) || words.starts_with(kPenalty))
      return make_error(Errc::closed, fmt::format("sshd takes no connection now: {}", words));
    return make_error(Errc::protocol, fmt::format("what answers at {} is no sshd: it says '{}'", peer_, words), {},
                      "check the host's 'port' and 'address'");
  }
  const bool socket_failed = said.empty() || said.starts_with("Socket ");
  if (socket_failed && peer_hung_up())
    return make_error(Errc::closed, fmt::format("sshd closed the connection during {}", doing));
  return make_error(Errc::protocol, fmt::format("{} failed: {}", doing, said.empty() ? "no reason was given" : said));
}

// --- key exchange and host key -------------------------------------------------------------------------------------

asio::awaitable<Result<void>> Session::await_banner() {
  return there(do_await_banner());
}

asio::awaitable<Result<void>> Session::do_await_banner() {
  const int answer = co_await repeat([this] {
    const int now = ssh_connect(session_.get());
    return now == SSH_AGAIN && ssh_get_serverbanner(session_.get()) != nullptr ? SSH_OK : now;
  });
  if (answer != SSH_OK || closed_) co_return failure("the wait for its banner");
  co_return ok;
}

asio::awaitable<Result<void>> Session::exchange_keys() {
  return there(do_exchange_keys());
}

asio::awaitable<Result<void>> Session::do_exchange_keys() {
  const int answer = co_await repeat([this] { return ssh_connect(session_.get()); });
  if (answer != SSH_OK || closed_) co_return failure("the key exchange");
  keys_exchanged_ = true;
  co_return ok;
}

Result<HostKey> Session::server_key() const {
  // Not `failure`: what that looks at is the worker's.
  const auto failed = [] { return make_error(Errc::protocol, "reading the host key failed"); };
  ssh_key raw = nullptr;
  if (ssh_get_server_publickey(session_.get(), &raw) != SSH_OK) return failed();
  const KeyHandle key(raw);
  Bytes blob = public_blob(key.get());
  if (blob.empty()) return failed();
  return HostKey{type_name(key.get()), std::move(blob)};
}

}  // namespace llmlaunch::launcher::ssh
