// Starts and ends a ProxyCommand; see proxy_command.hpp.
#include "launcher/ssh/proxy_command.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "launcher/descriptor_limit.hpp"
#include "launcher/line_cutter.hpp"
#include "launcher/ssh/transport.hpp"
#include "rendezvous/base/child_signals.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// A command whose connection has ended goes at once; one that was told to go has this long.
constexpr std::chrono::milliseconds kPatience{1'000};
// For what it still has to pass on, when its stdin has ended.
constexpr std::chrono::milliseconds kFarewell{500};
// How often it is looked at meanwhile. Its stderr may be another file, and may be closed, so that no descriptor tells.
constexpr std::chrono::milliseconds kExitGlance{10};

// What happens between fork and exec: only calls that are safe there. All signals are blocked until none has a handler
// any more: the head's would tell the head, through a pipe that both have, of a Ctrl-C that it heard of itself.
[[noreturn]] void become_command(const char* shell, const char* command, int channel, int errors, pid_t head) {
  ::dup2(channel, STDIN_FILENO);
  ::dup2(channel, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  // Sockets of other hosts must not stay open here: their ends would not be seen.
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  ::setsid();  // a process group of its own, and no terminal
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != head) ::_exit(127);  // it died before it could be watched
  reset_signals(IgnoredSignals::kept);    // as in ssh
  DescriptorLimit::restore_in_child();
  ::execl(shell, shell, "-c", command, static_cast<char*>(nullptr));
  ::_exit(127);
}

}  // namespace

ProxyCommand::ProxyCommand(asio::any_io_executor executor, pid_t pid, Noise noise)
    : executor_(std::move(executor)), pid_(pid), noise_(std::move(noise)) {}

ProxyCommand::~ProxyCommand() {
  reap();
}

Result<ProxyCommand::Started> ProxyCommand::start(asio::any_io_executor executor, const std::string& command,
                                                  Noise noise) {
  auto pair = make_socket_pair(executor);
  if (!pair) return pair.error();
  const UniqueFd theirs(pair->theirs);
  int errors[2];
  if (::pipe2(errors, O_CLOEXEC) != 0) return system_error(errno, "pipe for a ProxyCommand");
  asio::posix::stream_descriptor said(executor, errors[0]);
  const UniqueFd saying(errors[1]);
  const char* own = std::getenv("SHELL");
  const std::string shell = own != nullptr && *own == '/' ? own : "/bin/sh";
  const std::string line = "exec " + command;
  const pid_t head = ::getpid();
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) become_command(shell.c_str(), line.c_str(), theirs.value(), saying.value(), head);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return system_error(error, "fork for a ProxyCommand");
  std::shared_ptr<ProxyCommand> started(new ProxyCommand(executor, pid, std::move(noise)));
  spawn_or_die(executor, "stderr of a ProxyCommand", follow_errors(started, std::move(said)));
  return Started{std::move(started), std::move(pair->ours)};
}

asio::awaitable<void> ProxyCommand::follow_errors(std::shared_ptr<ProxyCommand> self,
                                                  asio::posix::stream_descriptor errors) {
  LineCutter lines;
  const auto show = [&self](std::string_view line) {
    if (!self->closed_) self->noise_(line);
  };
  std::string piece(4096, '\0');
  while (true) {
    const auto [error, size] = co_await errors.async_read_some(asio::buffer(piece), await_tuple);
    if (error) break;
    lines.feed(std::string_view(piece).substr(0, size), show);
  }
  lines.flush(show);
  self->has_said_all_ = true;
}

// Leaves it a zombie, so that its group still is what its number says.
bool ProxyCommand::has_ended() {
  siginfo_t info{};
  const bool asked = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
  if (!asked || info.si_pid == 0) return !asked;
  status_ = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
  return true;
}

// Its words come with its end, and may be taken later. Whoever else has its stderr may keep it open.
asio::awaitable<std::optional<int>> ProxyCommand::await_end() {
  const auto self = shared_from_this();
  const auto status = co_await await_end_within(kPatience);
  asio::steady_timer glance(executor_);
  const auto until = std::chrono::steady_clock::now() + kFarewell;
  while (status && !has_said_all_ && std::chrono::steady_clock::now() < until) {
    glance.expires_after(kExitGlance);
    co_await glance.async_wait(await_tuple);
  }
  co_return status;
}

asio::awaitable<std::optional<int>> ProxyCommand::await_end_within(std::chrono::milliseconds patience) {
  const auto self = shared_from_this();
  asio::steady_timer glance(executor_);
  const auto until = std::chrono::steady_clock::now() + patience;
  while (pid_ > 0 && !has_ended() && std::chrono::steady_clock::now() < until) {
    glance.expires_after(kExitGlance);
    co_await glance.async_wait(await_tuple);
  }
  co_return status_;
}

void ProxyCommand::close() {
  if (std::exchange(closed_, true) || pid_ <= 0) return;
  spawn_or_die(executor_, "end of a ProxyCommand", end(shared_from_this()));
}

asio::awaitable<void> ProxyCommand::end(std::shared_ptr<ProxyCommand> self) {
  const auto ended = co_await self->await_end_within(kFarewell);
  if (!ended && self->pid_ > 0) {
    ::kill(-self->pid_, SIGTERM);
    (void)co_await self->await_end_within(kPatience);
  }
  self->reap();
}

// Whatever is left of its group goes with it.
void ProxyCommand::reap() {
  if (pid_ <= 0) return;
  ::kill(-pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

}  // namespace llmlaunch::launcher::ssh
