// Hashing and reading a program that is pushed. A file that changes while it is sent is found out by the host, which
// checks the hash of what it got.
#include "launcher/pushed_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

namespace llmlaunch::launcher {
namespace {

Result<std::size_t> read_at(int fd, std::span<std::byte> into, std::uint64_t offset, const std::string& path) {
  for (;;) {
    const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return system_error(errno, "cannot read " + path);
  }
}

Result<std::string> sha256_of(int fd, std::uint64_t size, const std::string& path) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1)
    return make_error(Errc::out_of_resources, "no memory to hash " + path);
  Bytes piece(agent::kFileChunkBytes);
  for (std::uint64_t offset = 0; offset < size;) {
    const Result<std::size_t> got = read_at(fd, piece, offset, path);
    if (!got) return got.error();
    if (*got == 0) return make_error(Errc::io, path + " became shorter while it was read");
    EVP_DigestUpdate(context.get(), piece.data(), *got);
    offset += *got;
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &length);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

}  // namespace

Result<PushedFile> PushedFile::open(const PushedProgram& program) {
  PushedFile file;
  file.path_ = program.local_path;
  file.fd_.reset(::open(program.local_path.c_str(), O_RDONLY | O_CLOEXEC));
  const char* hint = "it is built and installed together with llmlaunch";
  if (!file.fd_) return system_error(errno, "cannot open " + program.local_path, {}, hint);
  struct stat info {};
  if (::fstat(file.fd_.value(), &info) != 0) return system_error(errno, "cannot read " + program.local_path);
  if (!S_ISREG(info.st_mode)) return make_error(Errc::io, program.local_path + " is not a file", {}, hint);
  file.spec_.name = program.name;
  file.spec_.size = static_cast<std::uint64_t>(info.st_size);
  Result<std::string> hash = sha256_of(file.fd_.value(), file.spec_.size, file.path_);
  if (!hash) return hash.error();
  file.spec_.hash = std::move(*hash);
  return file;
}

Result<agent::FileChunk> PushedFile::read(std::uint32_t index, std::uint64_t offset) const {
  agent::FileChunk chunk;
  chunk.index = index;
  const std::uint64_t left = spec_.size - std::min(offset, spec_.size);
  chunk.data.resize(static_cast<std::size_t>(std::min<std::uint64_t>(left, agent::kFileChunkBytes)));
  std::size_t filled = 0;
  while (filled < chunk.data.size()) {
    const Result<std::size_t> got = read_at(fd_.value(), std::span(chunk.data).subspan(filled), offset + filled, path_);
    if (!got) return got.error();
    if (*got == 0) return make_error(Errc::io, path_ + " became shorter while it was sent");
    filled += *got;
  }
  chunk.last = offset + filled >= spec_.size;
  return chunk;
}

}  // namespace llmlaunch::launcher
