// Fork and exec of the setup shell. The script is an anonymous file in memory: no path on the host, no command line.
#include "launcher/agent/setup_process.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "launcher/agent/process.hpp"
#include "launcher/agent/setup_script.hpp"
#include "rendezvous/base/child_signals.hpp"
#include "rendezvous/base/write_all.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr int kExitNoShell = 127;
const std::string kScriptPath = "/proc/self/fd/" + std::to_string(kSetupScriptFd);

Result<UniqueFd> script_file(const std::string& script) {
  UniqueFd file(::memfd_create("llmlaunch-setup", MFD_CLOEXEC));
  if (!file) return system_error(errno, "memfd_create for the setup lines");
  if (const int failed = write_all(file.value(), script); failed != 0)
    return system_error(failed, "write of the setup lines");
  return file;
}

// Prepared before the fork.
struct Child {
  const char* shell;
  char* const* argv;
  char* const* env;
  const char* workdir;  // nullptr: stay
  int script, report, noise;
  pid_t agent;
};

[[noreturn]] void become_shell(const Child& child) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != child.agent) ::_exit(kExitNoShell);
  const int null = ::open("/dev/null", O_RDONLY);
  // Away from the numbers that they are to have.
  const int script = ::fcntl(child.script, F_DUPFD_CLOEXEC, kSetupReportFd + 1);
  const int report = ::fcntl(child.report, F_DUPFD_CLOEXEC, kSetupReportFd + 1);
  const bool good = null >= 0 && ::dup2(null, STDIN_FILENO) >= 0 && ::dup2(child.noise, STDOUT_FILENO) >= 0 &&
                    ::dup2(child.noise, STDERR_FILENO) >= 0 && ::dup2(script, kSetupScriptFd) >= 0 &&
                    ::dup2(report, kSetupReportFd) >= 0;
  if (!good || (child.workdir != nullptr && ::chdir(child.workdir) != 0)) ::_exit(kExitNoShell);
  if (null > STDERR_FILENO && null != kSetupScriptFd && null != kSetupReportFd) ::close(null);
  reset_signals(IgnoredSignals::defaulted);
  ::execve(child.shell, child.argv, child.env);
  ::_exit(kExitNoShell);
}

std::vector<char*> exec_pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Result<SetupProcess> start_setup(const std::string& shell, const std::string& script,
                                 const std::vector<std::string>& environment, const std::string& workdir) {
  const Result<UniqueFd> file = script_file(script);
  if (!file) return file.error();
  int report[2], noise[2];
  if (::pipe2(report, O_CLOEXEC) != 0) return system_error(errno, "pipe for the setup lines' report");
  SetupProcess process;
  process.report.reset(report[0]);
  const UniqueFd report_end(report[1]);
  if (::pipe2(noise, O_CLOEXEC) != 0) return system_error(errno, "pipe for the setup lines' output");
  process.noise.reset(noise[0]);
  const UniqueFd noise_end(noise[1]);
  for (const int fd : {report[0], noise[0]})
    if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return system_error(errno, "O_NONBLOCK for a setup pipe");

  const std::vector<std::string> argv = {"-" + shell.substr(shell.rfind('/') + 1), kScriptPath};  // "-bash": a login
  const std::vector<char*> argv_pointers = exec_pointers(argv), env_pointers = exec_pointers(environment);
  const Child child{shell.c_str(),
                    argv_pointers.data(),
                    env_pointers.data(),
                    workdir.empty() ? nullptr : workdir.c_str(),
                    file->value(),
                    report[1],
                    noise[1],
                    ::getpid()};
  process.pid = ::fork();
  if (process.pid < 0) return system_error(errno, "fork for the setup lines");
  if (process.pid == 0) become_shell(child);
  ::setpgid(process.pid, process.pid);  // the child does the same: whoever comes first
  return process;
}

}  // namespace llmlaunch::launcher::agent
