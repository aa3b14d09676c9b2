// Reads PT_INTERP, runs that loader in its listing mode, and picks what hosts get out of its lines.
#include "launcher/pushed_libraries.hpp"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "launcher/agent/protocol.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {
namespace {

// sonames of glibc on x86-64 and AArch64; it adds none any more, as all of it moved into libc.so.6.
constexpr std::string_view kGlibc[] = {
    "libBrokenLocale.so.1", "libanl.so.1",     "libc.so.6",       "libc_malloc_debug.so.0",
    "libdl.so.2",           "libm.so.6",       "libmvec.so.1",    "libnsl.so.1",
    "libnss_compat.so.2",   "libnss_db.so.2",  "libnss_dns.so.2", "libnss_files.so.2",
    "libnss_hesiod.so.2",   "libpthread.so.0", "libresolv.so.2",  "librt.so.1",
    "libthread_db.so.1",    "libutil.so.1"};
constexpr std::string_view kPartsOfTheSystem[] = {"ld-linux", "linux-vdso", "libcuda.so.", "libnvidia-"};

// A line is below 300 bytes, and a program of ours has some twenty libraries: more than this is another program.
constexpr std::size_t kMaxListingBytes = 256u << 10;

template <class T>
bool read_object(int fd, std::uint64_t offset, T& into) {
  return ::pread(fd, &into, sizeof(T), static_cast<off_t>(offset)) == static_cast<ssize_t>(sizeof(T));
}

// The loader that the kernel would start for this file; empty when there is none: a static program, a script.
Result<std::string> loader_of(const std::string& program) {
  const UniqueFd fd(::open(program.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return system_error(errno, "cannot open " + program);
  Elf64_Ehdr header{};
  const bool is_elf = read_object(fd.value(), 0, header) && std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
                      header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_phentsize == sizeof(Elf64_Phdr);
  if (!is_elf) return std::string();
  for (std::uint64_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    if (!read_object(fd.value(), header.e_phoff + i * sizeof(segment), segment)) break;
    if (segment.p_type != PT_INTERP) continue;
    std::array<char, PATH_MAX> path{};
    const std::size_t size = std::min<std::size_t>(segment.p_filesz, path.size() - 1);
    if (::pread(fd.value(), path.data(), size, static_cast<off_t>(segment.p_offset)) < 0)
      return system_error(errno, "cannot read " + program);
    return std::string(path.data());
  }
  return std::string();
}

Result<std::string> read_all(int fd) {
  std::string text;
  std::array<char, 4096> piece{};
  for (;;) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(errno, "read");
    if (got == 0) return text;
    if (text.size() < kMaxListingBytes) text.append(piece.data(), static_cast<std::size_t>(got));
  }
}

// Starts `loader --list program` with both its outputs on `out`.
Result<pid_t> start_loader(const std::string& loader, const std::string& program, int out) {
  posix_spawn_file_actions_t actions;
  if (const int failed = ::posix_spawn_file_actions_init(&actions); failed != 0)
    return system_error(failed, "posix_spawn_file_actions_init");
  int failed = ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
    if (failed == 0) failed = ::posix_spawn_file_actions_adddup2(&actions, out, fd);
  std::string words[] = {loader, "--list", program};
  char* const argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  // Nothing but the search path: LD_PRELOAD would be listed, LD_DEBUG be mixed in.
  const char* path = std::getenv("LD_LIBRARY_PATH");
  std::string variable = std::string("LD_LIBRARY_PATH=") + (path == nullptr ? "" : path);
  char* const env[] = {variable.data(), nullptr};
  pid_t pid = 0;
  if (failed == 0) failed = ::posix_spawn(&pid, loader.c_str(), &actions, nullptr, argv, env);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return system_error(failed, "start of its loader " + loader);
  return pid;
}

// The loader's words about a program that it cannot load: the lines that list nothing.
std::string complaint_in(std::string_view listing) {
  std::string words;
  while (!listing.empty()) {
    const std::string_view line = listing.substr(0, listing.find('\n'));
    listing.remove_prefix(std::min(listing.size(), line.size() + 1));
    if (!line.empty() && line.front() != '\t') words += (words.empty() ? "" : "; ") + std::string(line);
  }
  return words;
}

Result<std::string> listing_of(const std::string& loader, const std::string& program) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error(errno, "pipe");
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  const Result<pid_t> pid = start_loader(loader, program, in.value());
  in.reset();
  if (!pid) return pid.error();
  Result<std::string> text = read_all(out.value());
  int status = 0;
  while (::waitpid(*pid, &status, 0) < 0)
    if (errno != EINTR) return system_error(errno, "wait for its loader " + loader);
  if (!text || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) return text;
  const std::string words = complaint_in(*text);
  const char* hint =
      "it must load on this machine, from where hosts get its libraries: install what is missing, or set "
      "LD_LIBRARY_PATH";
  return make_error(Errc::unsupported, words.empty() ? fmt::format("its loader {} failed", loader) : words, {}, hint);
}

}  // namespace

bool stays_on_host(std::string_view soname) {
  return std::find(std::begin(kGlibc), std::end(kGlibc), soname) != std::end(kGlibc) ||
         std::any_of(std::begin(kPartsOfTheSystem), std::end(kPartsOfTheSystem),
                     [soname](std::string_view begin) { return soname.starts_with(begin); });
}

// A line of a library: "\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f…)".
std::vector<PushedProgram> libraries_in(std::string_view listing) {
  constexpr std::string_view kArrow = " => ";
  std::vector<PushedProgram> found;
  while (!listing.empty()) {
    std::string_view line = listing.substr(0, listing.find('\n'));
    listing.remove_prefix(std::min(listing.size(), line.size() + 1));
    const std::size_t arrow = line.find(kArrow);
    const std::size_t address = line.rfind(" (0x");
    if (!line.starts_with('\t') || arrow == line.npos || address == line.npos || address < arrow + kArrow.size())
      continue;
    const std::string_view name = line.substr(1, arrow - 1);
    const std::string_view path = line.substr(arrow + kArrow.size(), address - arrow - kArrow.size());
    if (name.find('/') != name.npos || path.find('/') == path.npos || stays_on_host(name)) continue;
    found.push_back({std::string(name), std::string(path)});
  }
  return found;
}

Result<std::vector<PushedProgram>> libraries_of(const std::string& program) {
  const auto failed = [&program](Error error) {
    error.what = fmt::format("cannot tell which libraries {} needs: {}", program, error.what);
    return error;
  };
  const Result<std::string> loader = loader_of(program);
  if (!loader) return loader.error();
  if (loader->empty()) return std::vector<PushedProgram>();
  const Result<std::string> listing = listing_of(*loader, program);
  if (!listing) return failed(listing.error());
  std::vector<PushedProgram> found = libraries_in(*listing);
  if (found.size() >= agent::kMaxFilesPerHost)  // the program itself is one more
    return make_error(Errc::too_large, fmt::format("{} needs {} libraries; a host is sent {} files at most", program,
                                                   found.size(), agent::kMaxFilesPerHost));
  return found;
}

}  // namespace llmlaunch::launcher
