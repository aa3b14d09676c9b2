/// \file
/// `JobCgroup`: a control group (v2) of the job's own below the agent's, where the agent may make one. It ends in one
/// step what no walk through /proc can keep up with: a fork bomb, whatever session or parent its processes chose.
///
/// Without the right to make one (no cgroup v2, a login session that is root's) everything works as before, by process
/// groups and the subreaper.
#pragma once

#include <string>

#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

/// Where the process `cgroup_text` (/proc/self/cgroup) belongs in the cgroup2 file system that `mounts_text`
/// (/proc/self/mountinfo) names; empty when there is none. Pure.
std::string own_cgroup_directory(std::string_view cgroup_text, std::string_view mounts_text);
/// "llmlaunch-<job>-<host>" in characters that a file name and a person can take.
std::string cgroup_name(std::string_view job_id, std::string_view host);

/// A page that agent and watchman share, made before they part: where the job's cgroup is, for the one that survives.
class CgroupPath {
 public:
  /// Without memory for it there is no cgroup.
  CgroupPath();
  void set(const std::string& path);
  std::string value() const;

 private:
  char* page_ = nullptr;  // for as long as the process lives
};

class JobCgroup {
 public:
  explicit JobCgroup(CgroupPath path) : shared_(path) {}
  JobCgroup(const JobCgroup&) = delete;
  JobCgroup& operator=(const JobCgroup&) = delete;
  ~JobCgroup() { remove(); }

  /// Tries to make it. False: none is to be had here.
  bool make(std::string_view job_id, std::string_view host);
  /// A descriptor of its directory, for fork_in_cgroup; -1 without one.
  int directory() const { return directory_.value(); }
  /// A descriptor of its cgroup.procs: a process that writes "0" moves itself. -1 without one.
  int entrance() const { return entrance_.value(); }
  /// SIGKILL to everything inside. Nothing happens without one.
  void kill() const;
  /// Removes it; possible once everything inside has been reaped.
  void remove();

 private:
  CgroupPath shared_;
  std::string path_;
  UniqueFd directory_, entrance_;  // the first one also holds it, see left_cgroups.hpp
};

/// What the watchman does with a cgroup that its agent left behind; "" does nothing.
void kill_cgroup(const std::string& path);
void remove_cgroup(const std::string& path);

}  // namespace llmlaunch::launcher::agent
