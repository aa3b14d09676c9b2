/// \file
/// What one exec of a rank gets: argv and environment put together and checked, and the file that argv[0] means. The
/// checks run for every rank before any is started, so that a host that cannot run the job says so in time.
#pragma once

#include <cstdlib>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/agent/rank_limits.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::agent {

/// Is the whole Prepare something this agent can carry out: a command, ranks, names and values without NUL, files with
/// plain names and hashes? Looks at nothing but its argument.
Result<void> check_prepare(const Prepare& prepare);
/// Names that are not empty and have no '=' and NUL, values without NUL.
Result<void> check_env(const EnvList& env);

/// "NAME=value" of `inherited`, overlaid by each list in turn; the last value of a name wins, the place stays. Of what
/// is inherited the secret of machines that are started one by one is left out: a host's profile may set it.
std::vector<std::string> overlay_env(const std::vector<std::string>& inherited,
                                     std::initializer_list<const EnvList*> layers);
/// The first "NAME=value" entry of this name, or nullptr. Points into `env`.
const std::string* find_env(const std::vector<std::string>& env, std::string_view name);
/// Its value; empty when it is not there.
std::string env_value(const std::vector<std::string>& env, std::string_view name);

/// Puts directories of pushed libraries in front of LD_LIBRARY_PATH; what the user set comes after them. Nothing
/// happens without directories. Errc::invalid_argument for a ':' or ';' in one: the loader would split it there.
Result<void> prepend_library_path(std::vector<std::string>& env, const std::vector<std::string>& directories);

/// What the kernel takes: one string, and all of argv and environment with their pointers.
struct ExecLimits {
  std::size_t string_bytes = 0;
  std::size_t total_bytes = 0;
};
/// Of a rank with these limits: Linux takes a quarter of the stack limit, at least 128 KiB and at most 6 MiB.
ExecLimits exec_limits(const std::vector<RankLimit>& limits);
/// Errc::too_large that names sizes and the longest string, by the variable's name and never its value.
Result<void> check_exec_size(const std::vector<std::string>& argv, const std::vector<std::string>& env,
                             const ExecLimits& limits);

/// The directory that a workdir means on this machine: "~" and "~/x" are its HOME and x there. Where there is none, the
/// directory of the agent stands for it, which ssh starts in the login directory.
std::string directory_of(const std::string& workdir, const char* home = std::getenv("HOME"));
/// The file that execvp would run for `name` in `workdir`, with the rank's own PATH. Errors: Errc::no_program
/// or not_executable, with a hint where a file of that name is in `workdir` or the name is a whole command.
Result<std::string> find_program(const std::string& name, const std::vector<std::string>& env,
                                 const std::string& workdir);
/// What runs a Python program: `find_program`, and for the plain name "python3" a "python" where there is no other.
Result<std::string> find_python(const std::string& name, const std::vector<std::string>& env,
                                const std::string& workdir);
/// Can Python read the script, seen from `workdir`? Python's own word for a missing one is status 2, which scripts use.
/// Errors: Errc::no_program or not_executable, as for a program.
Result<void> check_script(const std::string& script, const std::string& workdir);
/// Is `workdir`, as it was written, a directory that this user may enter? Empty means where the agent stands. Errors:
/// Errc::no_workdir with both names, the written one and where it was looked for.
Result<void> check_workdir(const std::string& workdir);

}  // namespace llmlaunch::launcher::agent
