// The part of `Session` that signs in: how each way is put to libssh. Which one is tried when is sign_in.cpp's.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "launcher/ssh/session.hpp"

namespace llmlaunch::launcher::ssh {

ino_t inode_of(int fd) {
  // Not fstat, which ThreadSanitizer takes for a use of the file: that it may be another thread's is why this asks.
  struct statx info {};
  return ::statx(fd, "", AT_EMPTY_PATH, STATX_INO, &info) == 0 ? static_cast<ino_t>(info.stx_ino) : 0;
}

Result<SignIn> Session::sign_in_answer(int answer) const {
  if (closed_ || answer == SSH_AUTH_ERROR) return failure("authentication");
  if (answer == SSH_AUTH_SUCCESS) return SignIn::accepted;
  return answer == SSH_AUTH_PARTIAL ? SignIn::partial : SignIn::denied;
}

// libssh has one more way to say SSH_AGAIN here.
template <class Call>
asio::awaitable<Result<SignIn>> Session::repeat_sign_in(Call call) {
  static_assert(static_cast<int>(SSH_AUTH_AGAIN) != static_cast<int>(SSH_AGAIN));
  const int answer = co_await repeat([&call] {
    const int now = call();
    return now == SSH_AUTH_AGAIN ? SSH_AGAIN : now == SSH_AUTH_ERROR ? SSH_ERROR : now;
  });
  co_return sign_in_answer(answer == SSH_ERROR ? SSH_AUTH_ERROR : answer);
}

asio::awaitable<Result<SignIn>> Session::sign_in_with(ssh_key key) {
  return offer(key, true);
}

asio::awaitable<Result<SignIn>> Session::would_take(ssh_key key) {
  return offer(key, false);
}

asio::awaitable<Result<SignIn>> Session::offer(ssh_key key, bool sign) {
  KeyHandle own;
  if (worker_) {
    own = copy_of(key);
    if (!own) co_return make_error(Errc::out_of_resources, "libssh made no copy of a key");
    key = own.get();
  }
  auto offered = do_offer(key, sign);
  Result<SignIn> answer = co_await there(std::move(offered));
  co_return answer;
}

asio::awaitable<Result<SignIn>> Session::do_offer(ssh_key key, bool sign) {
  const auto call = [this, key, sign] {
    return sign ? ssh_userauth_publickey(session_.get(), nullptr, key)
                : ssh_userauth_try_publickey(session_.get(), nullptr, key);
  };
  return repeat_sign_in(call);
}

asio::awaitable<Result<SignIn>> Session::sign_in_with_nothing() {
  const auto ask = [this] { return ssh_userauth_none(session_.get(), nullptr); };
  return there(repeat_sign_in(ask));
}

asio::awaitable<Result<SignIn>> Session::sign_in_with_password(const Secret& password) {
  const auto send = [this, &password] { return ssh_userauth_password(session_.get(), nullptr, password.c_str()); };
  return there(repeat_sign_in(send));
}

asio::awaitable<Result<SignIn>> Session::sign_in_with_answer(const Secret& answer) {
  return there(do_answer(answer));
}

// One round of questions may be none at all, and often a last one is. The answer is given once: a server that asks for
// it again did not take it.
asio::awaitable<Result<SignIn>> Session::do_answer(const Secret& answer) {
  const auto go_on = [this] {
    const int now = ssh_userauth_kbdint(session_.get(), nullptr, nullptr);
    return now == SSH_AUTH_AGAIN ? SSH_AGAIN : now == SSH_AUTH_ERROR ? SSH_ERROR : now;
  };
  bool given = false;
  int now = co_await repeat(go_on);
  while (now == SSH_AUTH_INFO) {
    const int questions = ssh_userauth_kbdint_getnprompts(session_.get());
    char is_shown = 0;
    const char* question = questions > 0 ? ssh_userauth_kbdint_getprompt(session_.get(), 0, &is_shown) : "";
    if (questions > 1 || is_shown != 0)
      co_return make_error(Errc::unsupported, fmt::format("sshd asks '{}', which is more than one hidden question",
                                                          question == nullptr ? "" : question));
    if (questions == 1 && std::exchange(given, true)) co_return SignIn::denied;
    if (questions == 1 && ssh_userauth_kbdint_setanswer(session_.get(), 0, answer.c_str()) < 0)
      co_return failure("authentication");
    now = co_await repeat(go_on);
  }
  co_return sign_in_answer(now == SSH_ERROR ? SSH_AUTH_ERROR : now);
}

asio::awaitable<Result<SignIn>> Session::sign_in_with_agent(int agent_socket, asio::thread_pool& pool) {
  return there(do_sign_in_with_agent(agent_socket, pool));
}

asio::awaitable<Result<SignIn>> Session::do_sign_in_with_agent(int agent_socket, asio::thread_pool& pool) {
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

}  // namespace llmlaunch::launcher::ssh
