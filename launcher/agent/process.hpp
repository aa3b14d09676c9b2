/// \file
/// System calls about processes: start a rank, find and signal what is below the agent.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "launcher/agent/cpu_topology.hpp"
#include "launcher/agent/rank_limits.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

struct RankProcess {
  pid_t pid = -1;
  UniqueFd out;  ///< read ends, non-blocking
  UniqueFd err;
  UniqueFd in;      ///< write end, non-blocking; closed when its stdin is /dev/null
  UniqueFd report;  ///< read end, non-blocking, for exec_outcome; closed when that is known
};

/// What a rank's process is like beside its program.
struct RankConditions {
  std::vector<RankLimit> limits;
  std::uint32_t umask = kNoUmask;
  CpuList cpus;     ///< empty: those of the agent
  int cgroup = -1;  ///< descriptors of JobCgroup
  int cgroup_entrance = -1;
  bool wants_input = false;  ///< a pipe as stdin
};

/// Forks and executes `path` in its own process group, with /dev/null or a pipe as stdin, pipes as stdout and stderr,
/// every signal at its default, no other descriptor, and SIGKILL as soon as the agent dies. Returns when it has forked:
/// an exec may hang for as long as the file system does that its program lies on. Not to be in the cgroup is no
/// failure.
Result<RankProcess> start_rank(const std::string& path, const std::vector<std::string>& argv,
                               const std::vector<std::string>& env, const std::string& workdir,
                               const RankConditions& conditions);

/// What became of the exec: nothing as long as it is not known; ok; or the step that failed, as its errno, and then the
/// process has ended or is about to. Also ok when the process was killed on the way, as its exit tells. `report` is
/// readable when there is an answer, and closed by it.
std::optional<Result<void>> exec_outcome(RankProcess& rank, const std::string& path, const std::string& workdir);

/// The CPUs that this process may run on.
CpuList allowed_cpus();

/// 0: it has none, as the first one of the machine. -1: there is no such process.
pid_t parent_of(pid_t pid);
/// All processes below this one, of any group or session, as /proc shows them now.
std::vector<pid_t> descendants();
/// "4711 (python3)", for a person.
std::string name_of(pid_t pid);
/// Sends the signal to all of them. Errors mean "gone meanwhile" and are no news. Before SIGKILL all are stopped, until
/// a look finds nobody new: what is being killed one by one must not fork meanwhile.
void signal_descendants(int signal);

/// Closes every descriptor from 3 on, and puts /dev/null where 0, 1 or 2 are closed. A head that starts the agent
/// beside its ssh connections may leak them: while somebody holds one, the host at its other end does not see the head
/// die.
Result<void> close_inherited_descriptors();

}  // namespace llmlaunch::launcher::agent
