// Files as a whole. Called for data sets, checkpoints, files of settings and what grows beside the training.
#include "trainer/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

namespace llmlaunch::trainer {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using OpenFile = std::unique_ptr<std::FILE, CloseFile>;

}  // namespace

// Only what has an end of its own: a pipe may wait for a writer forever, and a terminal for somebody who types. Opened
// without waiting, for a named pipe waits already there.
Result<UniqueFd> open_to_read(const std::string& path) {
  UniqueFd descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!descriptor) return system_error(errno, "open", path);
  struct stat info {};
  if (::fstat(descriptor.value(), &info) != 0) return system_error(errno, "stat", path);
  if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) return descriptor;  // reading tells of a folder
  return make_error(Errc::invalid_config,
                    fmt::format("is a {} and not a file", S_ISFIFO(info.st_mode) ? "pipe" : "device"), path,
                    "write what it gives into a file, and name that");
}

Error with_folder(Error error) {
  std::error_code failed;
  const std::filesystem::path folder = std::filesystem::current_path(failed);
  const bool is_missing = error.code == Errc::not_found || error.code == std::errc::no_such_file_or_directory;
  if (is_missing && !failed && !error.where.empty() && std::filesystem::path(error.where).is_relative()) {
    error.what += fmt::format(" (looked for in {})", folder.string());
  }
  return error;
}

Result<Bytes> read_whole_file(const std::string& path, std::size_t limit, const std::string& hint) {
  auto descriptor = open_to_read(path);
  if (!descriptor) return descriptor.error();
  const OpenFile file(::fdopen(descriptor->value(), "rb"));
  if (!file) return system_error(errno, "open", path);
  static_cast<void>(descriptor->release());  // the stream's now
  Bytes bytes;
  std::array<std::byte, 65536> piece;
  for (;;) {
    const std::size_t count = std::fread(piece.data(), 1, piece.size(), file.get());
    if (std::ferror(file.get()) != 0) return system_error(errno, "read", path);
    if (count == 0) return bytes;
    if (count > limit - bytes.size()) {
      return make_error(Errc::invalid_config, fmt::format("is larger than the limit of {} bytes", limit), path, hint);
    }
    bytes.insert(bytes.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(count));
  }
}

Result<void> write_whole_file(const std::string& path, ByteView bytes) {
  OpenFile file(std::fopen(path.c_str(), "wbe"));
  if (!file) return system_error(errno, "open", path);
  if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) {
    return system_error(errno, "write", path);
  }
  // What is buffered, or a quota, may fail only here.
  if (std::fclose(file.release()) != 0) return system_error(errno, "write", path);
  return ok;
}

Result<void> sync_to_disk(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return system_error(errno, "open", path);
  const int synced = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  // A file system that has no such thing says so.
  if (synced != 0 && reason != EINVAL && reason != EOPNOTSUPP) return system_error(reason, "fsync", path);
  return ok;
}

Result<void> make_folders(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failed;
  fs::path folder = fs::absolute(path, failed);
  if (failed) return system_error(failed.value(), "mkdir", path);
  if (!folder.has_filename()) folder = folder.parent_path();  // "run/"
  std::error_code ignored;                                    // what cannot be looked at is found by mkdir
  if (fs::is_directory(folder, ignored)) return ok;
  const fs::path parent = folder.parent_path();
  if (parent != folder) {
    if (auto made = make_folders(parent.string()); !made) return made;
  }
  // Another process may have made it meanwhile, and need not have synced it yet.
  if (!fs::create_directory(folder, failed) && failed) {
    if (failed == std::errc::file_exists && fs::is_symlink(folder, ignored)) {
      return Error{failed,
                   fmt::format("is a link to {}, which is not there", fs::read_symlink(folder, ignored).string()),
                   folder.string(), "make that folder, or mount what has it, or name another one"};
    }
    return system_error(failed.value(), "mkdir", folder.string());
  }
  auto synced = sync_to_disk(parent.string());
  if (!synced && synced.error().code == std::errc::permission_denied) return ok;
  return synced;
}

Result<std::string> digest(ByteView bytes) {
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), hash, &length, EVP_sha256(), nullptr) != 1) {
    const char* reason = ERR_reason_error_string(ERR_get_error());
    return make_error(Errc::unsupported,
                      fmt::format("libcrypto makes no SHA-256: {}", reason ? reason : "no reason given"), {},
                      "look at OPENSSL_CONF and openssl.cnf on this host; `openssl sha256 FILE` must work there");
  }
  std::string text;
  for (unsigned int i = 0; i < length; ++i) text += fmt::format("{:02x}", hash[i]);
  return text;
}

}  // namespace llmlaunch::trainer
