// Checks of a Prepare, the environment of a rank, and the rules of execvp, done before the fork so that an error has a
// sentence. Touches the file system only to look.
#include "launcher/agent/exec_spec.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <set>
#include <unordered_map>

#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr std::size_t kMaxArgStringBytes = 128u << 10;  // MAX_ARG_STRLEN of Linux: 32 pages, with the NUL
constexpr std::size_t kMaxFileNameBytes = 200;          // leaves room for the suffix of the temporary file
constexpr std::size_t kShownPathBytes = 1000;

bool has_nul(std::string_view text) {
  return text.find('\0') != std::string_view::npos;
}

bool is_hash(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxFileNameBytes && name != "." && name != ".." && !has_nul(name) &&
         name.find('/') == std::string_view::npos;
}

Error invalid(std::string what) {
  return make_error(Errc::invalid_argument, std::move(what));
}

std::string text_of(int errno_value) {
  return std::error_code(errno_value, std::generic_category()).message();
}

std::string in_directory(const std::string& path, const std::string& directory) {
  return path.starts_with('/') || directory.empty() ? path : directory + "/" + path;
}

// 0 when execve would take the file, else errno; EISDIR for a directory, which execve calls EACCES.
int program_errno(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return errno;
  if (S_ISDIR(info.st_mode)) return EISDIR;
  if (!S_ISREG(info.st_mode)) return EACCES;
  return ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

constexpr const char* kQuotesHint =
    "its name has blanks: write the program and its arguments without quotes around them all";

bool is_whole_command(const std::string& name) {
  return name.find(' ') != std::string::npos;
}

Error not_runnable(const std::string& path, int error) {
  if (error == EISDIR)
    return make_error(Errc::not_executable, "'" + path + "' is a directory, not a program", {}, "name the file to run");
  if (error == EACCES) {
    const bool python = path.ends_with(".py");
    return make_error(Errc::not_executable, "'" + path + "' is not executable", {},
                      python ? "run it as: python3 " + path : "chmod +x it, or name the program that runs it");
  }
  return make_error(Errc::no_program, "no program '" + path + "': " + text_of(error), {},
                    is_whole_command(path)
                        ? kQuotesHint
                        : "the command must exist on every host; llmlaunch.workdir is where a relative path starts");
}

// What to do about a name that is nowhere in PATH.
std::string missing_hint(const std::string& name, const std::string& workdir) {
  const int here = program_errno(in_directory("./" + name, workdir));
  if (here == 0) return "there is ./" + name + " in the working directory: write ./" + name;
  if (here == EACCES)
    return not_runnable("./" + name, here).hint + "; there is ./" + name + " in the working directory";
  if (is_whole_command(name)) return kQuotesHint;
  return "install it on this host, give its full path, or set PATH in llmlaunch.env";
}

}  // namespace

Result<void> check_env(const EnvList& env) {
  for (const auto& [name, value] : env) {
    if (name.empty()) return invalid("an environment variable without a name");
    if (has_nul(name) || name.find('=') != std::string::npos)
      return invalid("environment variable '" + name.substr(0, name.find('\0')) +
                     "': a name has no '=' and no NUL byte");
    if (has_nul(value)) return invalid("environment variable '" + name + "': the value has a NUL byte");
  }
  return ok;
}

Result<void> check_prepare(const Prepare& prepare) {
  if (prepare.argv.empty() || prepare.argv[0].empty()) return invalid("no command to run");
  for (std::size_t i = 0; i < prepare.argv.size(); ++i)
    if (has_nul(prepare.argv[i])) return invalid("argument " + std::to_string(i) + " has a NUL byte");
  if (has_nul(prepare.workdir)) return make_error(Errc::no_workdir, "the working directory's name has a NUL byte");
  if (prepare.ranks.empty()) return invalid("no ranks for this host");
  if (prepare.window_bytes == 0) return invalid("an output window of 0 bytes");
  if (auto checked = check_env(prepare.env); !checked) return checked;
  std::set<std::uint32_t> seen;
  for (const RankSpec& rank : prepare.ranks) {
    if (!seen.insert(rank.rank).second) return invalid("rank " + std::to_string(rank.rank) + " is listed twice");
    if (auto checked = check_env(rank.env); !checked) return checked;
  }
  for (const std::string& line : prepare.settings.setup)
    if (has_nul(line)) return invalid("a setup line with a NUL byte");
  for (const std::uint32_t rank : prepare.settings.stdin_ranks)
    if (seen.count(rank) == 0) return invalid("stdin for rank " + std::to_string(rank) + ", which is not on this host");
  for (const FileSpec& file : prepare.files) {
    if (!is_plain_name(file.name)) return invalid("a file to push whose name is no plain name: '" + file.name + "'");
    if (!is_hash(file.hash)) return invalid("file '" + file.name + "': the hash is not 64 hex digits");
  }
  const std::string& program = prepare.argv[0];
  if (!program.starts_with(kPushedArgvPrefix)) return ok;
  const std::string name = program.substr(kPushedArgvPrefix.size());
  const bool known = std::any_of(prepare.files.begin(), prepare.files.end(),
                                 [&name](const FileSpec& file) { return file.name == name; });
  if (!known) return invalid("the command is the pushed file '" + name + "', and no such file comes with the job");
  return ok;
}

std::vector<std::string> overlay_env(const std::vector<std::string>& inherited,
                                     std::initializer_list<const EnvList*> layers) {
  std::vector<std::string> env = inherited;
  // A secret, and what holds for the ranks of another llmlaunch, whose rank this one is.
  const std::string secret = std::string(env::kJoinToken) + "=", columns = std::string(env::kColumns) + "=";
  std::erase_if(env, [&](const std::string& entry) { return entry.starts_with(secret) || entry.starts_with(columns); });
  std::unordered_map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < env.size(); ++i) places.emplace(env[i].substr(0, env[i].find('=')), i);
  for (const EnvList* layer : layers) {
    for (const auto& [name, value] : *layer) {
      const auto [place, is_new] = places.emplace(name, env.size());
      if (is_new) env.emplace_back();
      env[place->second] = name + "=" + value;
    }
  }
  return env;
}

const std::string* find_env(const std::vector<std::string>& env, std::string_view name) {
  for (const std::string& entry : env)
    if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=') return &entry;
  return nullptr;
}

std::string env_value(const std::vector<std::string>& env, std::string_view name) {
  const std::string* entry = find_env(env, name);
  return entry ? entry->substr(name.size() + 1) : std::string();
}

Result<void> prepend_library_path(std::vector<std::string>& env, const std::vector<std::string>& directories) {
  constexpr std::string_view kAssign = "LD_LIBRARY_PATH=";
  std::string path(kAssign);
  for (const std::string& directory : directories) {
    if (directory.find_first_of(":;") != std::string::npos) {
      return make_error(
          Errc::invalid_argument,
          "the loader cannot look for pushed libraries in '" + directory + "': it splits names at ':' and ';'", {},
          "set XDG_CACHE_HOME on this host to a directory without them");
    }
    path += (path.size() == kAssign.size() ? "" : ":") + directory;
  }
  if (directories.empty()) return ok;
  const auto set =
      std::find_if(env.begin(), env.end(), [&](const std::string& entry) { return entry.starts_with(kAssign); });
  if (set == env.end()) {
    env.push_back(std::move(path));
  } else {  // an empty value is no path at all, where an empty part of one is the working directory
    const std::string users = set->substr(kAssign.size());
    *set = users.empty() ? path : path + ":" + users;
  }
  return ok;
}

ExecLimits exec_limits(const std::vector<RankLimit>& limits) {
  constexpr std::size_t kLeast = 128u << 10;
  constexpr std::size_t kMost = 6u << 20;
  rlimit stack = own_limit(RLIMIT_STACK);
  for (const RankLimit& limit : limits)
    if (limit.resource == RLIMIT_STACK) stack = limit.value;
  std::size_t total = kMost;
  if (stack.rlim_cur != RLIM_INFINITY) total = std::clamp<std::size_t>(stack.rlim_cur / 4, kLeast, kMost);
  return {kMaxArgStringBytes - 1, total};
}

Result<void> check_exec_size(const std::vector<std::string>& argv, const std::vector<std::string>& env,
                             const ExecLimits& limits) {
  const auto too_large = [](std::string what) { return make_error(Errc::too_large, std::move(what)); };
  const auto bytes_of = [](const std::vector<std::string>& strings) {
    std::size_t bytes = 0;
    for (const std::string& text : strings) bytes += text.size() + 1 + sizeof(char*);
    return bytes;
  };
  for (std::size_t i = 0; i < argv.size(); ++i) {
    if (argv[i].size() <= limits.string_bytes) continue;
    return too_large("argument " + std::to_string(i) + " has " + std::to_string(argv[i].size()) +
                     " bytes; the kernel takes " + std::to_string(limits.string_bytes));
  }
  for (const std::string& entry : env) {
    if (entry.size() <= limits.string_bytes) continue;
    return too_large("environment variable " + entry.substr(0, entry.find('=')) + " has " +
                     std::to_string(entry.size()) + " bytes with its name; the kernel takes " +
                     std::to_string(limits.string_bytes));
  }
  const std::size_t argv_bytes = bytes_of(argv);
  const std::size_t env_bytes = bytes_of(env);
  if (argv_bytes + env_bytes <= limits.total_bytes) return ok;
  Error error = too_large("the command's " + std::to_string(argv.size()) + " arguments (" + std::to_string(argv_bytes) +
                          " bytes) and its " + std::to_string(env.size()) + " environment variables (" +
                          std::to_string(env_bytes) + " bytes) are more than the kernel takes for one program, " +
                          std::to_string(limits.total_bytes) + " bytes");
  error.hint = "pass long values in a file; `ulimit -s` on the host raises the limit up to 6 MiB";
  return error;
}

Result<std::string> find_program(const std::string& name, const std::vector<std::string>& env,
                                 const std::string& workdir) {
  if (name.find('/') != std::string::npos) {
    if (const int error = program_errno(in_directory(name, workdir)); error != 0) return not_runnable(name, error);
    return name;
  }
  const std::string* entry = find_env(env, "PATH");
  const std::string path = entry ? entry->substr(5) : "/bin:/usr/bin";  // what execvp takes without a PATH
  std::optional<Error> nearly;
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find(':', start), path.size());
    const std::string directory = path.substr(start, end - start);
    start = end + 1;
    const std::string candidate = directory.empty() ? "./" + name : directory + "/" + name;
    const int error = program_errno(in_directory(candidate, workdir));
    if (error == 0) return candidate;
    if (error == EACCES && !nearly) nearly = not_runnable(candidate, error);
  }
  if (nearly) return *nearly;
  const std::string shown = path.size() <= kShownPathBytes ? path : std::string(cut_text(path, kShownPathBytes)) + "…";
  return make_error(Errc::no_program, "no program '" + name + "' in PATH (" + shown + ")", {},
                    missing_hint(name, workdir));
}

Result<std::string> find_python(const std::string& name, const std::vector<std::string>& env,
                                const std::string& workdir) {
  auto found = find_program(name, env, workdir);
  if (found || name != "python3" || found.error().code != Errc::no_program) return found;
  auto other = find_program("python", env, workdir);
  if (other) return other;
  Error error = found.error();
  error.what = "neither 'python3' nor 'python'" + error.what.substr(error.what.find(" in PATH"));
  error.hint = "install Python on this host, activate an environment in llmlaunch.setup, or name it: --python PATH";
  return error;
}

Result<void> check_script(const std::string& script, const std::string& workdir) {
  const std::string path = in_directory(script, workdir);
  const auto refuse = [&](Errc code, const std::string& why, std::string hint) {
    std::string place = workdir.empty() || script.starts_with('/') ? "" : " in " + workdir;
    return make_error(code, "script '" + script + "'" + place + ": " + why, {}, std::move(hint));
  };
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    const int error = errno;
    return refuse(error == EACCES ? Errc::not_executable : Errc::no_program, text_of(error),
                  "llmlaunch copies no programs: it must be on this host; --workdir says where ranks start");
  }
  if (S_ISDIR(info.st_mode)) return ok;  // with a __main__.py, which Python looks for
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0)
    return refuse(Errc::not_executable, text_of(errno), "let this user read it");
  return ok;
}

std::string directory_of(const std::string& workdir, const char* home) {
  if (workdir != "~" && !workdir.starts_with("~/")) return workdir;
  const bool known = home != nullptr && home[0] == '/';
  const std::string below = workdir.size() > 2 ? workdir.substr(2) : "";
  if (!known) return below.empty() ? "." : below;
  return below.empty() ? home : home + ("/" + below);
}

Result<void> check_workdir(const std::string& workdir) {
  if (workdir.empty()) return ok;
  const std::string path = directory_of(workdir);
  const auto no_workdir = [&](const std::string& why) {
    std::error_code unknown;  // where the agent stands; without it the name says enough
    const std::filesystem::path here = std::filesystem::current_path(unknown);
    const bool is_short = path != workdir || !path.starts_with('/');
    return make_error(Errc::no_workdir,
                      "working directory '" + workdir + "'" +
                          (is_short && !unknown ? " (" + (here / path).string() + ")" : "") + ": " + why,
                      {}, "create it on this host, or set llmlaunch.workdir to one that every host has");
  };
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return no_workdir(text_of(errno));
  if (!S_ISDIR(info.st_mode)) return no_workdir("not a directory");
  if (::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) != 0) return no_workdir(text_of(errno));
  return ok;
}

}  // namespace llmlaunch::launcher::agent
