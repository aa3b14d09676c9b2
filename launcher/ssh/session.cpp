// The loop around libssh; see session.hpp for what it has to know.
#include "launcher/ssh/session.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace llmlaunch::launcher::ssh {
namespace {

// GCM is the fastest where the CPU has AES instructions; libssh itself would begin with chacha20.
constexpr const char* kCiphers =
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr";
// After this long without an answer the kernel gives the connection up; the agents' pings notice a dead host earlier.
constexpr unsigned kUserTimeoutMs = 60'000;
// Of a host whose stderr never ends, the loop takes 64 KiB before it looks at other hosts.
constexpr int kStderrPieces = 16;
// What OpenSSH says instead of its version when it has too many connections, or one too many from us.
constexpr std::string_view kMaxStartups = "Exceeded MaxStartups";
constexpr std::string_view kPenalty = "Not allowed at this time";
// How libssh reports what the server says when it ends a connection.
constexpr std::string_view kGoodbye = "Received SSH_MSG_DISCONNECT: ";

void set_option(int fd, int level, int option, int value) {
  // Advice to the kernel: without it everything works, only slower.
  (void)::setsockopt(fd, level, option, &value, sizeof(value));
}

ino_t inode_of(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
}

}  // namespace

Error too_slow(const std::string& doing, const std::string& address, std::chrono::milliseconds limit) {
  return make_error(
      Errc::timed_out,
      fmt::format("{} with {} was not done within {:g} s", doing, address, static_cast<double>(limit.count()) / 1000),
      {}, "the host is overloaded, or what answers there is no sshd; llmlaunch.timeouts has the limits");
}

Session::Session(Socket socket, SessionHandle session, int descriptor)
    : socket_(std::move(socket)),
      session_(std::move(session)),
      descriptor_(descriptor),
      signal_(socket_.get_executor()),
      reader_signal_(socket_.get_executor()),
      writer_signal_(socket_.get_executor()) {
  boost::system::error_code gone;  // then the first wait says so
  local_address_ = socket_.local_endpoint(gone).address().to_string();
  remote_address_ = socket_.remote_endpoint(gone).address().to_string();
}

Session::~Session() {
  close();
  const ino_t ours = descriptor_ >= 0 ? inode_of(descriptor_) : 0;
  session_.reset();
  close_agent_socket();
  // Most ways through libssh leave a descriptor that it was given open, some close it (fixed in 0.11).
  if (ours != 0 && inode_of(descriptor_) == ours) ::close(descriptor_);
}

Result<std::shared_ptr<Session>> Session::make(Socket socket, const SessionOptions& options) {
  SessionHandle handle(ssh_new());
  if (!handle) return make_error(Errc::out_of_resources, "no memory for an ssh session");
  const int descriptor = ::fcntl(socket.native_handle(), F_DUPFD_CLOEXEC, 3);
  if (descriptor < 0) return system_error(errno, "dup of a socket");
  set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(kUserTimeoutMs));
  std::shared_ptr<Session> session(new Session(std::move(socket), std::move(handle), descriptor));
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
  if (hurried_) set_option(descriptor_, IPPROTO_TCP, TCP_QUICKACK, 1);
}

void Session::after_call() {
  const int flags = ::fcntl(descriptor_, F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) ::fcntl(descriptor_, F_SETFL, flags | O_NONBLOCK);
}

template <class Call>
asio::awaitable<int> Session::repeat(Call call) {
  while (!closed_) {
    before_call();
    const int answer = call();
    after_call();
    if (answer != SSH_AGAIN) co_return answer;
    if (lost()) break;
    co_await wait();
  }
  co_return SSH_ERROR;
}

void Session::arm(Socket::wait_type what, bool& armed) {
  if (std::exchange(armed, true)) return;
  socket_.async_wait(what, [self = shared_from_this(), &armed](const boost::system::error_code&) {
    armed = false;
    self->wake();
  });
}

asio::awaitable<void> Session::wait() {
  if (closed_) co_return;
  before_call();
  arm(Socket::wait_read, read_armed_);
  if ((ssh_get_status(session_.get()) & SSH_WRITE_PENDING) != 0) arm(Socket::wait_write, write_armed_);
  if (!woken_) {
    signal_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await signal_.async_wait(await_tuple);
  }
  woken_ = false;
  if (!keys_exchanged_ && first_words_.empty() && !closed_) look_at_first_words();
}

// libssh passes over lines before the version, and says only that the connection was closed.
void Session::look_at_first_words() {
  std::array<char, 128> words{};
  const ssize_t got = ::recv(descriptor_, words.data(), words.size(), MSG_PEEK | MSG_DONTWAIT);
  if (got > 0) first_words_.assign(words.data(), static_cast<std::size_t>(got));
}

void Session::wake() {
  woken_ = true;
  signal_.cancel();
}

void Session::close() {
  if (std::exchange(closed_, true)) return;
  boost::system::error_code ignored;  // of a socket that is given up
  // Both: the first ends what libssh has, also on another thread, the second what waits here.
  socket_.shutdown(Socket::shutdown_both, ignored);
  socket_.close(ignored);
  wake();
  reader_signal_.cancel();
  writer_signal_.cancel();
}

// --- errors --------------------------------------------------------------------------------------------------------

// libssh goes on asking for patience after it has read sshd's goodbye.
bool Session::lost() const {
  return keys_exchanged_ && ssh_is_connected(session_.get()) == 0;
}

bool Session::peer_hung_up() const {
  std::byte next{};
  const ssize_t got = ::recv(descriptor_, &next, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

Error Session::failure(std::string_view doing) const {
  if (closed_) return make_error(Errc::canceled, "the connection was closed");
  const std::string said = ssh_get_error(session_.get());
  if (said.starts_with(kGoodbye)) {  // "Received SSH_MSG_DISCONNECT: 2:Too many authentication failures"
    const std::size_t colon = said.find(':', kGoodbye.size());
    const std::string reason = said.substr(colon == said.npos ? kGoodbye.size() : colon + 1);
    return make_error(Errc::refused, fmt::format("sshd ended the connection during {}: {}", doing, reason));
  }
  if (!keys_exchanged_ && !first_words_.empty() && !first_words_.starts_with("SSH-")) {
    const std::string words = first_words_.substr(0, first_words_.find_first_of("\r\n"));
    if (words.starts_with(kMaxStartups) || words.starts_with(kPenalty))
      return make_error(Errc::closed, fmt::format("sshd takes no connection now: {}", words));
    return make_error(Errc::protocol,
                      fmt::format("what answers at {} is no sshd: it says '{}'", remote_address_, words), {},
                      "check the host's 'port' and 'address'");
  }
  const bool socket_failed = said.empty() || said.starts_with("Socket ");
  if (socket_failed && peer_hung_up())
    return make_error(Errc::closed, fmt::format("sshd closed the connection during {}", doing));
  return make_error(Errc::protocol, fmt::format("{} failed: {}", doing, said.empty() ? "no reason was given" : said));
}

// --- key exchange and host key -------------------------------------------------------------------------------------

asio::awaitable<Result<void>> Session::exchange_keys() {
  const int answer = co_await repeat([this] { return ssh_connect(session_.get()); });
  if (answer != SSH_OK || closed_) co_return failure("the key exchange");
  keys_exchanged_ = true;
  co_return ok;
}

Result<HostKey> Session::server_key() const {
  ssh_key raw = nullptr;
  if (ssh_get_server_publickey(session_.get(), &raw) != SSH_OK) return failure("reading the host key");
  const KeyHandle key(raw);
  Bytes blob = public_blob(key.get());
  if (blob.empty()) return failure("reading the host key");
  return HostKey{type_name(key.get()), std::move(blob)};
}

// --- signing in ----------------------------------------------------------------------------------------------------

Result<SignIn> Session::sign_in_answer(int answer) const {
  if (closed_ || answer == SSH_AUTH_ERROR) return failure("authentication");
  if (answer == SSH_AUTH_SUCCESS) return SignIn::accepted;
  return answer == SSH_AUTH_PARTIAL ? SignIn::partial : SignIn::denied;
}

asio::awaitable<Result<SignIn>> Session::sign_in_with(ssh_key key) {
  static_assert(static_cast<int>(SSH_AUTH_AGAIN) != static_cast<int>(SSH_AGAIN));
  const int answer = co_await repeat([this, key] {
    const int now = ssh_userauth_publickey(session_.get(), nullptr, key);
    return now == SSH_AUTH_AGAIN ? SSH_AGAIN : now == SSH_AUTH_ERROR ? SSH_ERROR : now;
  });
  co_return sign_in_answer(answer == SSH_ERROR ? SSH_AUTH_ERROR : answer);
}

asio::awaitable<Result<SignIn>> Session::sign_in_with_agent(int agent_socket, asio::thread_pool& pool) {
  const auto self = shared_from_this();
  close_agent_socket();
  agent_socket_ = agent_socket;
  agent_inode_ = inode_of(agent_socket);
  if (ssh_set_agent_socket(session_.get(), agent_socket) != SSH_OK) {
    co_return failure("handing ssh-agent to libssh");
  }
  int answer = SSH_AUTH_AGAIN;
  while (answer == SSH_AUTH_AGAIN && !closed_) {
    before_call();
    answer = co_await asio::co_spawn(
        pool, call_there([session = session_.get()] { return ssh_userauth_agent(session, nullptr); }),
        asio::use_awaitable);
    after_call();
    if (answer == SSH_AUTH_AGAIN && lost()) answer = SSH_AUTH_ERROR;
    if (answer == SSH_AUTH_AGAIN) co_await wait();
  }
  co_return sign_in_answer(answer);
}

// libssh closes the socket of its agent when the session ends, and not when it gets another one.
void Session::close_agent_socket() {
  if (agent_socket_ >= 0 && agent_inode_ != 0 && inode_of(agent_socket_) == agent_inode_) ::close(agent_socket_);
  agent_socket_ = -1;
}

std::string Session::accepted_methods() const {
  constexpr std::array<std::pair<int, const char*>, 5> kMethods = {
      {{SSH_AUTH_METHOD_PUBLICKEY, "publickey"},
       {SSH_AUTH_METHOD_PASSWORD, "password"},
       {SSH_AUTH_METHOD_INTERACTIVE, "keyboard-interactive"},
       {SSH_AUTH_METHOD_HOSTBASED, "hostbased"},
       {SSH_AUTH_METHOD_GSSAPI_MIC, "gssapi-with-mic"}}};
  const int methods = ssh_userauth_list(session_.get(), nullptr);
  std::vector<std::string_view> names;
  for (const auto& [bit, name] : kMethods)
    if ((methods & bit) != 0) names.emplace_back(name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string Session::banner() const {
  const TextHandle text(ssh_get_issue_banner(session_.get()));
  std::string banner = text ? text.get() : "";
  while (!banner.empty() && (banner.back() == '\n' || banner.back() == '\r')) banner.pop_back();
  return banner;
}

// --- the command ---------------------------------------------------------------------------------------------------

asio::awaitable<Result<void>> Session::exec(const std::string& command) {
  channel_ = ssh_channel_new(session_.get());
  if (channel_ == nullptr) co_return make_error(Errc::out_of_resources, "no memory for an ssh channel");
  const int opened = co_await repeat([this] { return ssh_channel_open_session(channel_); });
  if (opened != SSH_OK || closed_) co_return failure("opening a session channel");
  const int started = co_await repeat([this, &command] { return ssh_channel_request_exec(channel_, command.c_str()); });
  if (started != SSH_OK || closed_) co_return failure("starting a command");
  spawn_or_die(socket_.get_executor(), "ssh session", pump(shared_from_this()));
  co_return ok;
}

// One coroutine moves all bytes of the session; reader and writer only leave what they want and wait.
asio::awaitable<void> Session::pump(std::shared_ptr<Session> self) {
  while (!self->is_over()) {
    self->before_call();
    self->move_bytes();
    self->after_call();
    if (!self->is_over()) co_await self->wait();
  }
  self->reader_signal_.cancel();
  self->writer_signal_.cancel();
}

bool Session::is_over() const {
  return closed_ || gone_ || broken_;
}

void Session::move_bytes() {
  take_stderr();
  take_stdout();
  give_stdin();
  // Sending reads as well: what came in meanwhile is in the channel's buffers, and no event will tell.
  take_stdout();
  gone_ = gone_ || ssh_is_connected(session_.get()) == 0 || ssh_channel_is_closed(channel_) != 0;
  if (gone_) take_stderr();
}

void Session::take_stderr() {
  std::array<char, 4096> piece;
  for (int turns = 0; turns < kStderrPieces; ++turns) {
    const int got = ssh_channel_read_nonblocking(channel_, piece.data(), piece.size(), 1);
    if (got <= 0) return;  // an error is stdout's to tell
    if (stderr_sink_) stderr_sink_(std::string_view(piece.data(), static_cast<std::size_t>(got)));
  }
  wake();  // there may be more, after the others had their turn
}

// Only as much as the reader has room for: what is not read closes the channel's window, and so slows the host down.
void Session::take_stdout() {
  while (reading_ && read_ < reading_->size() && !stdout_ended_ && !broken_) {
    const auto room = reading_->subspan(read_);
    const int got = ssh_channel_read_nonblocking(channel_, room.data(), static_cast<std::uint32_t>(room.size()), 0);
    if (got > 0)
      read_ += static_cast<std::size_t>(got);
    else if (got == SSH_EOF || (got == 0 && ssh_channel_is_eof(channel_) != 0))
      stdout_ended_ = true;
    else if (got < 0)
      broken_ = failure("the transfer");
    else if (gone_)
      broken_ = make_error(Errc::closed, "sshd closed the connection");
    else
      break;
  }
  if (reading_ && (read_ > 0 || stdout_ended_ || broken_)) reader_signal_.cancel();
}

void Session::give_stdin() {
  while (!writing_.empty() && !broken_) {
    const int put = ssh_channel_write(channel_, writing_.data(), static_cast<std::uint32_t>(writing_.size()));
    if (put == 0 || put == SSH_AGAIN) return;
    if (put > 0) {
      writing_ = writing_.subspan(static_cast<std::size_t>(put));
    } else {
      // The command or the connection is gone. The reader gets what came before, and then the reason.
      gone_ = true;
      return;
    }
  }
  writer_signal_.cancel();
}

asio::awaitable<Result<std::size_t>> Session::read_some(std::span<std::byte> buffer) {
  const auto self = shared_from_this();
  read_ = 0;
  reading_ = buffer;
  if (is_over() && !closed_) take_stdout();
  wake();
  while (read_ == 0 && !stdout_ended_ && !broken_ && !closed_) {
    reader_signal_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await reader_signal_.async_wait(await_tuple);
  }
  reading_.reset();
  if (read_ > 0) co_return read_;
  if (closed_) co_return make_error(Errc::canceled, "the connection was closed");
  if (broken_) co_return *broken_;
  co_return std::size_t{0};
}

asio::awaitable<Result<void>> Session::write(ByteView bytes) {
  const auto self = shared_from_this();
  writing_ = bytes;
  wake();
  while (!writing_.empty() && !is_over()) {
    writer_signal_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await writer_signal_.async_wait(await_tuple);
  }
  const bool all = std::exchange(writing_, {}).empty();
  if (closed_) co_return make_error(Errc::canceled, "the connection was closed");
  if (broken_) co_return *broken_;
  if (!all) co_return make_error(Errc::closed, "the command on the host has ended");
  co_return ok;
}

}  // namespace llmlaunch::launcher::ssh
