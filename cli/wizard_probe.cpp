// Forks for the work on hosts. What the child says on stderr is dropped in the background: its failures come as
// results.
#include "cli/wizard_probe.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>
#include <utility>

#include "cli/wizard_signals.hpp"
#include "launcher/survey_run.hpp"
#include "rendezvous/base/signal_code.hpp"
#include "rendezvous/base/write_all.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::HostSurvey;

// One host more than any survey has: the work as a whole failed.
constexpr const char* kWhole = "";

Error interrupted() {
  return {signal_code(caught_signal()), "interrupted", {}, {}};
}

[[noreturn]] void be_child(const Probe::Work& work, int out, bool foreground, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  if (!foreground) {
    ::setpgid(0, 0);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
      if (null >= 0) ::dup2(null, fd);
  }
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::signal(number, SIG_DFL);
  std::vector<HostSurvey> hosts;
  try {
    auto done = work();
    if (done)
      hosts = std::move(*done);
    else
      hosts.push_back({kWhole, std::nullopt, done.error(), {}});
  } catch (const std::exception& caught) {
    hosts = {
        {kWhole, std::nullopt, make_error(Errc::internal, std::string("a defect of llmlaunch: ") + caught.what()), {}}};
  }
  (void)write_all(out, launcher::to_wire(hosts));  // unless the parent is gone
  ::_exit(0);
}

}  // namespace

Result<Probe> Probe::start(const Work& work, bool foreground) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "pipe");
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  const int failed = errno;
  if (pid == 0) be_child(work, ends[1], foreground, parent);
  ::close(ends[1]);
  if (pid < 0) {
    ::close(ends[0]);
    return system_error(failed, "fork");
  }
  if (!foreground) ::setpgid(pid, pid);  // whoever comes first
  Probe probe;
  probe.pid_ = pid;
  probe.pipe_ = ends[0];
  return probe;
}

Probe& Probe::operator=(Probe&& other) noexcept {
  if (this == &other) return *this;
  cancel();
  pid_ = std::exchange(other.pid_, -1);
  pipe_ = std::exchange(other.pipe_, -1);
  text_ = std::move(other.text_);
  return *this;
}

bool Probe::take() {
  std::array<char, 65536> piece;
  const ssize_t got = ::read(pipe_, piece.data(), piece.size());
  if (got < 0 && errno == EINTR) return true;
  if (got > 0) text_.append(piece.data(), static_cast<std::size_t>(got));
  if (got <= 0) close_pipe();
  return got > 0;
}

Result<std::vector<HostSurvey>> Probe::result() {
  while (pipe_ >= 0) {
    pollfd wait{pipe_, POLLIN, 0};
    const int ready = ::poll(&wait, 1, -1);
    if (caught_signal() != 0) {
      cancel();
      return interrupted();
    }
    if (ready < 0 && errno != EINTR) return system_error(errno, "poll");
    if (ready > 0) take();
  }
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  if (caught_signal() != 0) return interrupted();
  if (text_.empty())
    return make_error(Errc::internal, WIFSIGNALED(status) ? "the survey's process was ended by signal " +
                                                                std::to_string(WTERMSIG(status))
                                                          : "the survey's process ended without a result");
  auto hosts = launcher::from_wire(std::exchange(text_, std::string()));
  if (hosts && hosts->size() == 1 && hosts->front().name == kWhole && hosts->front().failure)
    return *hosts->front().failure;
  return hosts;
}

void Probe::close_pipe() {
  if (pipe_ >= 0) ::close(std::exchange(pipe_, -1));
}

void Probe::cancel() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);  // it stops what runs on the hosts
  close_pipe();
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  text_.clear();
}

}  // namespace llmlaunch::cli
