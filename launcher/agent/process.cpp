// Fork, exec, /proc. What happens in the child between fork and exec uses only calls that are safe there, on memory
// prepared before the fork.
#include "launcher/agent/process.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <unordered_map>
#include <unordered_set>

#include "launcher/agent/cgroup_fork.hpp"
#include "rendezvous/base/child_signals.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher::agent {
namespace {

// Each round stops all that the last one found, so that only those forked between the two are new in the next.
constexpr int kMaxStopRounds = 50;

// What the child tells when it could not become the program.
struct ChildError {
  enum Step : int { none, null_device, descriptors, workdir, limits, affinity, exec } step = none;
  int error = 0;
};

struct ChildPlan {
  const char* path;
  char* const* argv;
  char* const* shell_argv;  // /bin/sh path argument…, for a script without "#!", as execvp does
  char* const* env;
  const char* workdir;       // nullptr: stay
  int in, out, err, report;  // in: -1 for /dev/null
  pid_t agent;
  const RankConditions* conditions;
  const std::vector<unsigned long>* cpus;  // as a bit mask; empty: as the agent's
};

[[noreturn]] void give_up(const ChildPlan& plan, ChildError::Step step) {
  const ChildError report{step, errno};
  // A write that fails leaves the parent with a closed pipe and a child that ended with 127.
  [[maybe_unused]] const ssize_t written = ::write(plan.report, &report, sizeof(report));
  ::_exit(127);
}

void take_conditions(const ChildPlan& plan, bool in_cgroup) {
  const RankConditions& conditions = *plan.conditions;
  // Outside of the cgroup the rank is still in its process group, and below the agent.
  if (!in_cgroup && conditions.cgroup_entrance >= 0) {
    [[maybe_unused]] const ssize_t moved = ::write(conditions.cgroup_entrance, "0", 1);
  }
  if (conditions.umask != kNoUmask) ::umask(conditions.umask);
  for (const RankLimit& limit : conditions.limits)
    if (::setrlimit(static_cast<__rlimit_resource>(limit.resource), &limit.value) != 0)
      give_up(plan, ChildError::limits);
  if (plan.cpus->empty()) return;
  const auto* mask = reinterpret_cast<const cpu_set_t*>(plan.cpus->data());
  if (::sched_setaffinity(0, plan.cpus->size() * sizeof(unsigned long), mask) != 0) give_up(plan, ChildError::affinity);
}

// While an exec hangs, this process would hold the agent's other descriptors, the stdin of other ranks among them,
// whose end they then did not see. On kernels before 5.9 it does; the exec itself closes all of them.
void keep_report_alone(ChildPlan& plan) {
  constexpr int kPlace = STDERR_FILENO + 1;
  if (plan.report != kPlace && ::dup3(plan.report, kPlace, O_CLOEXEC) < 0) give_up(plan, ChildError::descriptors);
  plan.report = kPlace;
#ifdef SYS_close_range
  ::syscall(SYS_close_range, unsigned{kPlace + 1}, UINT_MAX, 0u);
#endif
}

[[noreturn]] void become_rank(ChildPlan plan, bool in_cgroup) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != plan.agent) ::_exit(127);  // the agent died before the line above
  const int in = plan.in >= 0 ? plan.in : ::open("/dev/null", O_RDONLY);
  if (in < 0 || ::dup2(in, STDIN_FILENO) < 0) give_up(plan, ChildError::null_device);
  if (in != STDIN_FILENO) ::close(in);
  if (::dup2(plan.out, STDOUT_FILENO) < 0 || ::dup2(plan.err, STDERR_FILENO) < 0)
    give_up(plan, ChildError::descriptors);
  if (plan.workdir != nullptr && ::chdir(plan.workdir) != 0) give_up(plan, ChildError::workdir);
  take_conditions(plan, in_cgroup);
  keep_report_alone(plan);
  reset_signals(IgnoredSignals::defaulted);
  ::execve(plan.path, plan.argv, plan.env);
  if (errno == ENOEXEC) ::execve("/bin/sh", plan.shell_argv, plan.env);
  give_up(plan, ChildError::exec);
}

std::vector<char*> pointers_to(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

Error child_error(const ChildError& report, const std::string& path, const std::string& workdir) {
  switch (report.step) {
    case ChildError::workdir: return system_error(report.error, "chdir to '" + workdir + "'");
    case ChildError::null_device: return system_error(report.error, "stdin of the rank");
    case ChildError::limits: return system_error(report.error, "setrlimit");
    case ChildError::affinity: return system_error(report.error, "sched_setaffinity");
    case ChildError::exec: {
      Error error = system_error(report.error, "exec of '" + path + "'");
      if (report.error == ENOENT)
        error.hint = "the file is there, so its interpreter (after '#!') or loader is missing";
      if (report.error == E2BIG)
        error.code = make_error_code(Errc::too_large);
      else if (report.error == EACCES || report.error == ENOEXEC)
        error.code = make_error_code(Errc::not_executable);
      else if (report.error != ENOMEM && report.error != EAGAIN)
        error.code = make_error_code(Errc::no_program);
      return error;
    }
    default: return system_error(report.error, "dup2 of the output pipes");
  }
}

// The start of "/proc/N/stat": pid, name in parentheses that may hold anything, state, parent's pid.
std::string stat_of(const std::string& pid) {
  const UniqueFd fd(::open(("/proc/" + pid + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[256];
  const ssize_t size = fd ? ::read(fd.value(), text, sizeof(text)) : -1;
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

std::vector<unsigned long> mask_of(const CpuList& cpus) {
  constexpr unsigned kBits = sizeof(unsigned long) * 8;
  std::vector<unsigned long> mask;
  for (const unsigned cpu : cpus) {
    if (cpu / kBits >= mask.size()) mask.resize(cpu / kBits + 1);
    mask[cpu / kBits] |= 1ul << (cpu % kBits);
  }
  return mask;
}

}  // namespace

CpuList allowed_cpus() {
  std::vector<unsigned long> mask(kMaxCpus / (sizeof(unsigned long) * 8));
  const std::size_t bytes = mask.size() * sizeof(unsigned long);
  CpuList cpus;
  auto* set = reinterpret_cast<cpu_set_t*>(mask.data());
  if (::sched_getaffinity(0, bytes, set) != 0) return cpus;
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu)
    if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
  return cpus;
}

Result<RankProcess> start_rank(const std::string& path, const std::vector<std::string>& argv,
                               const std::vector<std::string>& env, const std::string& workdir,
                               const RankConditions& conditions) {
  int in[2] = {-1, -1}, out[2], err[2], report[2];
  RankProcess rank;
  if (conditions.wants_input && ::pipe2(in, O_CLOEXEC) != 0) return system_error(errno, "pipe for stdin");
  rank.in.reset(in[1]);
  const UniqueFd in_end(in[0]);
  if (::pipe2(out, O_CLOEXEC) != 0) return system_error(errno, "pipe for stdout");
  rank.out.reset(out[0]);
  const UniqueFd out_end(out[1]);
  if (::pipe2(err, O_CLOEXEC) != 0) return system_error(errno, "pipe for stderr");
  rank.err.reset(err[0]);
  const UniqueFd err_end(err[1]);
  if (::pipe2(report, O_CLOEXEC) != 0) return system_error(errno, "pipe for the exec report");
  rank.report.reset(report[0]);
  const UniqueFd report_end(report[1]);
  for (const int fd : {out[0], err[0], in[1], report[0]})
    if (fd >= 0 && ::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return system_error(errno, "O_NONBLOCK for a rank's pipe");

  std::vector<std::string> shell = {"/bin/sh", path};
  shell.insert(shell.end(), argv.begin() + 1, argv.end());
  const std::vector<char*> argv_pointers = pointers_to(argv);
  const std::vector<char*> shell_pointers = pointers_to(shell);
  const std::vector<char*> env_pointers = pointers_to(env);
  const std::vector<unsigned long> cpus = mask_of(conditions.cpus);
  const ChildPlan plan{path.c_str(),
                       argv_pointers.data(),
                       shell_pointers.data(),
                       env_pointers.data(),
                       workdir.empty() ? nullptr : workdir.c_str(),
                       in[0],
                       out[1],
                       err[1],
                       report[1],
                       ::getpid(),
                       &conditions,
                       &cpus};
  const CgroupFork forked = fork_in_cgroup(conditions.cgroup);
  rank.pid = forked.pid;
  if (rank.pid < 0) return system_error(errno, "fork", {}, "too many processes of this user on the host (ulimit -u)?");
  if (rank.pid == 0) become_rank(plan, forked.inside);
  ::setpgid(rank.pid, rank.pid);  // the child does the same: whoever comes first
  return rank;
}

std::optional<Result<void>> exec_outcome(RankProcess& rank, const std::string& path, const std::string& workdir) {
  ChildError failure;
  ssize_t got = 0;
  do got = ::read(rank.report.value(), &failure, sizeof(failure));
  while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return std::nullopt;
  rank.report.reset();
  if (got == 0) return ok;
  if (got != static_cast<ssize_t>(sizeof(failure))) return make_error(Errc::internal, "a cut report of exec");
  return child_error(failure, path, workdir);
}

pid_t parent_of(pid_t pid) {
  const std::string stat = stat_of(std::to_string(pid));
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 4 > stat.size()) return -1;
  return static_cast<pid_t>(std::atoi(stat.c_str() + name_end + 4));  // ") S 123"
}

std::vector<pid_t> descendants() {
  std::unordered_multimap<pid_t, pid_t> children;
  DIR* directory = ::opendir("/proc");
  if (directory == nullptr) return {};
  while (const dirent* entry = ::readdir(directory)) {
    const auto pid = parse_whole<pid_t>(entry->d_name);
    if (!pid) continue;
    if (const pid_t parent = parent_of(*pid); parent > 0) children.emplace(parent, *pid);
  }
  ::closedir(directory);
  std::vector<pid_t> found = {::getpid()};
  std::unordered_set<pid_t> known = {::getpid()};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [first, last] = children.equal_range(found[i]);
    for (auto child = first; child != last; ++child)
      if (known.insert(child->second).second) found.push_back(child->second);
  }
  found.erase(found.begin());
  return found;
}

std::string name_of(pid_t pid) {
  const std::string stat = stat_of(std::to_string(pid));
  const std::size_t name_end = stat.rfind(')');
  return name_end == std::string::npos ? std::to_string(pid) : stat.substr(0, name_end + 1);
}

void signal_descendants(int signal) {
  std::unordered_set<pid_t> stopped;
  for (int round = 0; signal == SIGKILL && round < kMaxStopRounds; ++round) {
    const std::size_t before = stopped.size();
    for (const pid_t pid : descendants())
      if (stopped.insert(pid).second) ::kill(pid, SIGSTOP);
    if (stopped.size() == before) break;
  }
  for (const pid_t pid : descendants()) ::kill(pid, signal);
}

Result<void> close_inherited_descriptors() {
  int null = ::open("/dev/null", O_RDWR);
  if (null < 0) return system_error(errno, "open /dev/null");
  while (null <= STDERR_FILENO) {
    null = ::dup(null);
    if (null < 0) return system_error(errno, "dup of /dev/null");
  }
  ::close(null);
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, 3u, UINT_MAX, 0u) == 0) return ok;
#endif
  DIR* directory = ::opendir("/proc/self/fd");  // kernels before 5.9
  if (directory == nullptr) return system_error(errno, "open /proc/self/fd");
  std::vector<int> inherited;
  while (const dirent* entry = ::readdir(directory)) {
    const int fd = std::atoi(entry->d_name);
    if (fd > STDERR_FILENO && fd != ::dirfd(directory)) inherited.push_back(fd);
  }
  ::closedir(directory);
  for (const int fd : inherited) ::close(fd);
  return ok;
}

}  // namespace llmlaunch::launcher::agent
