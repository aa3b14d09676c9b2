// Reads the files of an ssh configuration; the one part of it that touches the disk.
#include <fcntl.h>
#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "launcher/ssh/ssh_config_lines.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

Result<std::string> read_all(int fd, const std::string& path) {
  std::string text, piece(16384, '\0');
  while (text.size() <= kMaxConfigBytes) {  // the parser refuses what is longer
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(errno, "read", path);
    if (got == 0) break;
    text.append(piece, 0, static_cast<std::size_t>(got));
  }
  return text;
}

// Nothing for a file that is not there, and for a directory, which ssh reads as empty.
Result<std::optional<std::string>> read_file(const std::string& path, bool check_owner) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd && (errno == ENOENT || errno == ENOTDIR)) return std::optional<std::string>();
  if (!fd || ::fstat(fd.value(), &info) != 0)
    return system_error(errno, "cannot be read", path, "make it readable, or set llmlaunch.ssh.config_file: none");
  if (S_ISDIR(info.st_mode)) return std::optional<std::string>();
  const bool ours = info.st_uid == 0 || info.st_uid == ::getuid();
  if (check_owner && (!ours || (info.st_mode & 022) != 0))
    return make_error(Errc::invalid_config,
                      fmt::format("others may write to it (owner {}, mode {:04o}); ssh refuses such a file too",
                                  info.st_uid, info.st_mode & 07777),
                      path, fmt::format("chmod 600 {}", path));
  auto text = read_all(fd.value(), path);
  if (!text) return text.error();
  return std::optional<std::string>(std::move(*text));
}

Result<std::vector<IncludedFile>> read_pattern(const std::string& pattern) {
  struct Paths : glob_t {
    Paths() : glob_t{} {}
    ~Paths() { ::globfree(this); }
  } paths;
  const int status = ::glob(pattern.c_str(), 0, nullptr, &paths);
  std::vector<IncludedFile> files;
  if (status == GLOB_NOMATCH) return files;
  if (status != 0) return make_error(Errc::io, fmt::format("cannot look for {}", pattern));
  for (std::size_t i = 0; i < paths.gl_pathc; ++i) {
    auto text = read_file(paths.gl_pathv[i], true);
    if (!text) return text.error();
    if (*text) files.push_back({paths.gl_pathv[i], std::move(**text)});
  }
  return files;
}

}  // namespace

std::vector<ConfigFile> config_files(const std::optional<std::string>& config_file, const std::string& home) {
  const std::string own = home + "/.ssh";
  if (!config_file) return {{own + "/config", own, false, true}, {"/etc/ssh/ssh_config", "/etc/ssh", false, false}};
  if (*config_file == "none") return {};
  const bool in_home = config_file->starts_with("~/");
  return {{in_home ? home + config_file->substr(1) : *config_file, own, true, false}};
}

Result<SshConfig> SshConfig::load(const std::vector<ConfigFile>& files, LocalUser user) {
  SshConfig config;
  config.user_ = std::move(user);
  const IncludeReader include = read_pattern;
  ConfigParser parser(config.user_, include);
  ConfigLines all;
  for (const ConfigFile& file : files) {
    auto text = read_file(file.path, file.check_owner);
    if (!text) return text.error();
    if (!*text && file.required)
      return make_error(Errc::not_found, "there is no such ssh configuration", file.path,
                        "llmlaunch.ssh.config_file names it");
    auto lines = parser.parse(*text ? **text : std::string(), file);
    if (!lines) return lines.error();
    all.files.push_back(std::move(*lines));
  }
  config.lines_ = std::make_shared<const ConfigLines>(std::move(all));
  config.notes_ = parser.take_notes();
  return config;
}

}  // namespace llmlaunch::launcher::ssh
