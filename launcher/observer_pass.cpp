// rendezvous.json: written by the head when its rendezvous listens, read by `llmlaunch store`.
#include "launcher/observer_pass.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "launcher/log_files.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {
namespace {

// Ours has some 300 bytes.
constexpr std::size_t kMaxPassBytes = 16 * 1024;

Error unreadable(const char* field) {
  return make_error(Errc::protocol, fmt::format("its \"{}\" is missing or not what llmlaunch writes there", field));
}

// Of a file or directory that only we may have written, and of a file that only we may have read.
Result<void> check_owner(int fd, const std::string& path, mode_t kind, mode_t forbidden) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return system_error(errno, "fstat " + path);
  if ((info.st_mode & S_IFMT) != kind)
    return make_error(Errc::refused, fmt::format("{} is no {}", path, kind == S_IFREG ? "regular file" : "directory"),
                      {}, "llmlaunch did not make it: take it away");
  if (info.st_uid != ::geteuid())
    return make_error(Errc::refused,
                      fmt::format("{} belongs to user {}, and this is user {}", path, info.st_uid, ::geteuid()), {},
                      "a job's store is its owner's alone");
  if ((info.st_mode & forbidden) != 0)
    return make_error(Errc::refused,
                      fmt::format("{} has mode {:04o}: others may change or read it", path,
                                  static_cast<unsigned>(info.st_mode & 07777)),
                      {}, "llmlaunch makes run directories with mode 0700; set that again, if the job is yours");
  return ok;
}

Result<std::string> read_small(int fd, const std::string& path) {
  std::string text;
  std::array<char, 4096> piece;
  while (text.size() <= kMaxPassBytes) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(errno, "read " + path);
    if (got == 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
  return make_error(Errc::protocol, fmt::format("{} has more than {} bytes", path, kMaxPassBytes));
}

bool is_token(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

}  // namespace

std::string observer_pass_text(const ObserverPass& pass) {
  const nlohmann::ordered_json json = {{"job_id", pass.job_id},   {"generation", number(pass.generation)},
                                       {"head", pass.head},       {"pid", pass.pid},
                                       {"address", pass.address}, {"port", pass.port},
                                       {"token", pass.token}};
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Result<ObserverPass> parse_observer_pass(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return make_error(Errc::protocol, "it is no JSON object");
  ObserverPass pass;
  const std::pair<const char*, std::string*> texts[] = {
      {"job_id", &pass.job_id}, {"head", &pass.head}, {"address", &pass.address}, {"token", &pass.token}};
  for (const auto& [name, into] : texts) {
    const auto field = json.find(name);
    if (field == json.end() || !field->is_string()) return unreadable(name);
    *into = field->get<std::string>();
  }
  const auto whole = [&json](const char* name, std::uint64_t most) -> std::optional<std::uint64_t> {
    const auto field = json.find(name);
    if (field == json.end() || !field->is_number_unsigned() || field->get<std::uint64_t>() > most) return std::nullopt;
    return field->get<std::uint64_t>();
  };
  const auto generation = whole("generation", std::numeric_limits<std::uint32_t>::max());
  if (!generation) return unreadable("generation");
  const auto pid = whole("pid", std::numeric_limits<std::int32_t>::max());
  if (!pid) return unreadable("pid");
  const auto port = whole("port", std::numeric_limits<std::uint16_t>::max());
  if (!port || *port == 0) return unreadable("port");
  if (pass.address.empty()) return unreadable("address");
  if (!is_token(pass.token)) return unreadable("token");
  pass.generation = Generation{static_cast<std::uint32_t>(*generation)};
  pass.pid = static_cast<std::int64_t>(*pid);
  pass.port = static_cast<std::uint16_t>(*port);
  return pass;
}

Result<ObserverPass> read_observer_pass(const std::string& run_directory) {
  const UniqueFd directory(::open(run_directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string path = run_directory + "/" + kObserverPassFile;
  if (!directory) {
    const int refusal = errno;
    if (refusal == ENOENT || refusal == ENOTDIR)
      return make_error(Errc::not_found, fmt::format("there is no directory {}", run_directory));
    if (refusal == EACCES)
      return make_error(
          Errc::refused,
          fmt::format("{} may not be entered: {}", run_directory, std::generic_category().message(refusal)), {},
          "a job's store is its owner's alone");
    return system_error(refusal, "open " + run_directory);
  }
  struct stat info {};
  if (::fstatat(directory.value(), kObserverPassFile, &info, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
    return make_error(Errc::not_found, fmt::format("there is no {}", path));
  // First whose directory it is: in another's, the name may lead to what to open does harm.
  if (auto ours = check_owner(directory.value(), run_directory, S_IFDIR, S_IWGRP | S_IWOTH); !ours) return ours.error();
  constexpr int kWithoutWaiting = O_NONBLOCK;  // for a FIFO's writer
  const UniqueFd file(
      ::openat(directory.value(), kObserverPassFile, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kWithoutWaiting));
  if (!file) {
    if (errno == ENOENT) return make_error(Errc::not_found, fmt::format("there is no {}", path));
    return system_error(errno, "open " + path);
  }
  if (auto ours = check_owner(file.value(), path, S_IFREG, S_IRWXG | S_IRWXO); !ours) return ours.error();
  const auto text = read_small(file.value(), path);
  if (!text) return text.error();
  auto pass = parse_observer_pass(*text);
  if (pass) return pass;
  Error error = pass.error();
  error.where = path;
  error.hint = "it was not written by this version of llmlaunch";
  return error;
}

Result<PlacedPass> PlacedPass::place(const std::string& run_directory, const ObserverPass& pass) {
  PlacedPass placed;
  const std::string path = run_directory + "/" + kObserverPassFile;
  if (auto written = replace_file(path, observer_pass_text(pass)); !written) return written.error();
  placed.path_ = path;
  return placed;
}

PlacedPass& PlacedPass::operator=(PlacedPass&& other) noexcept {
  std::string later = std::exchange(other.path_, {});
  if (path_ != later) withdraw();  // that of the next generation lies in the same place
  path_ = std::move(later);
  return *this;
}

void PlacedPass::withdraw() {
  const std::string path = std::exchange(path_, {});
  if (path.empty() || ::unlink(path.c_str()) == 0 || errno == ENOENT) return;
  log_warning("cannot remove {}, which has the job's token: {}", path,
              std::error_code(errno, std::generic_category()).message());
}

}  // namespace llmlaunch::launcher
