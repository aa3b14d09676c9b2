// The cache of pushed files. A file gets its name only when size and SHA-256 agree, by an atomic rename, so that two
// agents may fill the same cache at once and a broken connection leaves nothing that could be run.
#define OPENSSL_SUPPRESS_DEPRECATED  // the plain SHA256 functions link statically in 10 KB, the EVP ones in 3 MB
#include "launcher/agent/file_cache.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <span>

#include "launcher/agent/exec_spec.hpp"
#include "launcher/agent/small_file.hpp"
#include "rendezvous/base/unique_fd.hpp"
#include "rendezvous/base/write_all.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr std::string_view kPartSuffix = ".part";
// A push takes minutes: what nobody has written to for a day is of an agent that was killed.
constexpr std::time_t kLeftAfterSeconds = 86'400;

std::string hex_of(std::span<const unsigned char> bytes) {
  std::string text;
  for (const unsigned char byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string finish(SHA256_CTX& hash) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256_Final(digest, &hash);
  return hex_of(digest);
}

// For files that are being written: hosts may share one home and, in containers, name and pids as well.
std::string random_name() {
  unsigned char bytes[8];
  ssize_t got = 0;
  do got = ::getrandom(bytes, sizeof(bytes), 0);
  while (got < 0 && errno == EINTR);
  return hex_of(bytes);
}

void remove_left_parts(const std::string& directory) {
  DIR* entries = ::opendir(directory.c_str());
  if (entries == nullptr) return;
  const std::time_t before = std::time(nullptr) - kLeftAfterSeconds;
  while (const dirent* entry = ::readdir(entries)) {
    struct stat info {};
    if (!std::string_view(entry->d_name).ends_with(kPartSuffix)) continue;
    if (::fstatat(::dirfd(entries), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || info.st_mtime > before) continue;
    ::unlinkat(::dirfd(entries), entry->d_name, 0);  // of a directory nothing; another agent may be faster
  }
  ::closedir(entries);
}

// Ours and nobody else's to write, and programs may run there. Empty, or why not.
std::string refusal_of(const std::string& directory, mode_t forbidden) {
  struct stat info {};
  // Not what a link leads to: its owner could lead it elsewhere between here and the exec.
  if (::lstat(directory.c_str(), &info) != 0) return std::error_code(errno, std::generic_category()).message();
  if (!S_ISDIR(info.st_mode)) return "not a directory";
  if (info.st_uid != ::geteuid()) return "belongs to another user";
  if ((info.st_mode & forbidden) != 0) return "open to other users";
  struct statvfs mount {};
  if (::statvfs(directory.c_str(), &mount) == 0 && (mount.f_flag & ST_NOEXEC) != 0) return "mounted noexec";
  if (::faccessat(AT_FDCWD, directory.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    return std::error_code(errno, std::generic_category()).message();
  return {};
}

Error not_written(int error, const FileSpec& file, const std::string& path, const std::string& where) {
  const bool full = error == ENOSPC || error == EDQUOT;
  return system_error(error, "write " + std::to_string(file.size) + " bytes to " + path, where,
                      full ? "make room there, or set XDG_CACHE_HOME on this host to a directory that has it" : "");
}

}  // namespace

struct FileCache::Writing {
  std::uint32_t index = 0;
  std::string temporary;
  UniqueFd fd;
  SHA256_CTX hash{};
  std::uint64_t written = 0;

  ~Writing() {
    if (fd) ::unlink(temporary.c_str());
  }
};

FileCache::FileCache(const std::vector<std::string>& env, const std::string& own_directory) {
  if (!own_directory.empty() && refusal_of(own_directory, 0077).empty()) {
    directory_ = own_directory;
    return;
  }
  if (const std::string cache = env_value(env, "XDG_CACHE_HOME"); cache.starts_with('/'))
    candidates_.push_back(cache + "/llmlaunch");
  if (const std::string home = env_value(env, "HOME"); home.starts_with('/'))
    candidates_.push_back(home + "/.cache/llmlaunch");
  const std::string temporary = env_value(env, "TMPDIR");
  candidates_.push_back((temporary.starts_with('/') ? temporary : "/tmp") + "/llmlaunch-" +
                        std::to_string(::geteuid()));
}

// The first candidate that can be used, made when it is not there.
void FileCache::make_directory() {
  refusals_.clear();
  for (const std::string& candidate : candidates_) {
    make_directories(candidate);
    const std::string refusal = refusal_of(candidate, 0022);
    if (refusal.empty()) {
      directory_ = candidate;
      return;
    }
    refusals_ += (refusals_.empty() ? "" : "; ") + candidate + ": " + refusal;
  }
}

FileCache::~FileCache() = default;

std::string FileCache::path_of(const FileSpec& file) const {
  // Where no file is yet, it will be the first place, unless that cannot be used.
  const std::string& top = directory_.empty() && !candidates_.empty() ? candidates_.front() : directory_;
  return top + "/" + file.hash + "/" + file.name;
}

std::string FileCache::find(const FileSpec& file) {
  if (!directory_.empty()) return holds(file) ? path_of(file) : std::string();
  for (const std::string& candidate : candidates_) {
    if (!refusal_of(candidate, 0022).empty()) continue;
    directory_ = candidate;
    if (holds(file)) return path_of(file);
    directory_.clear();
  }
  return {};
}

bool FileCache::holds(const FileSpec& file) const {
  const std::string path = path_of(file);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat info {};
  if (!fd || ::fstat(fd.value(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) return false;
  if (static_cast<std::uint64_t>(info.st_size) != file.size || (info.st_mode & 0777) != 0700) return false;
  SHA256_CTX hash;
  SHA256_Init(&hash);
  std::vector<unsigned char> piece(64u << 10);
  while (true) {
    const ssize_t got = ::read(fd.value(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;
    SHA256_Update(&hash, piece.data(), static_cast<std::size_t>(got));
  }
  return finish(hash) == file.hash;
}

Result<void> FileCache::write(std::uint32_t index, const FileSpec& file, const FileChunk& chunk) {
  const std::string where = "pushed file '" + file.name + "'";
  if (directory_.empty()) make_directory();
  if (directory_.empty())
    return make_error(Errc::io, "no directory to keep it in (" + refusals_ + ")", where, "set XDG_CACHE_HOME");
  auto place = std::find_if(writing_.begin(), writing_.end(), [index](const auto& w) { return w->index == index; });
  if (place == writing_.end()) {
    auto fresh = std::make_unique<Writing>();
    fresh->index = index;
    const std::string parent = directory_ + "/" + file.hash;
    make_directories(parent);
    remove_left_parts(parent);
    fresh->temporary = parent + "/" + file.name + "." + random_name() + std::string(kPartSuffix);
    fresh->fd = UniqueFd(::open(fresh->temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0700));
    if (!fresh->fd) return system_error(errno, "create " + fresh->temporary, where);
    if (::fchmod(fresh->fd.value(), 0700) != 0) return system_error(errno, "chmod " + fresh->temporary, where);
    SHA256_Init(&fresh->hash);
    writing_.push_back(std::move(fresh));
    place = std::prev(writing_.end());
  }
  Writing& writing = **place;
  writing.written += chunk.data.size();
  if (writing.written > file.size)
    return make_error(Errc::protocol, "more bytes came than the " + std::to_string(file.size) + " announced", where);
  SHA256_Update(&writing.hash, chunk.data.data(), chunk.data.size());
  if (const int failed = write_all(writing.fd.value(), as_text(chunk.data)); failed != 0)
    return not_written(failed, file, writing.temporary, where);
  if (!chunk.last) return ok;
  if (writing.written != file.size)
    return make_error(
        Errc::protocol,
        std::to_string(writing.written) + " bytes came of the " + std::to_string(file.size) + " announced", where);
  if (const std::string hash = finish(writing.hash); hash != file.hash)
    return make_error(Errc::protocol, "the content that came has another SHA-256, " + hash, where);
  if (::rename(writing.temporary.c_str(), path_of(file).c_str()) != 0)
    return system_error(errno, "rename " + writing.temporary, where);
  writing.fd.reset();
  writing_.erase(place);
  return ok;
}

}  // namespace llmlaunch::launcher::agent
