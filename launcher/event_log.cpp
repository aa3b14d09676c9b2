// Events as text, and their way out. Flags of a descriptor that was given belong to whoever gave it: a pipe is opened
// once more for a non-blocking copy (as in fd_writer.cpp).
#include "launcher/event_log.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "launcher/job_state.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher {
namespace {

using nlohmann::ordered_json;
using std::chrono::system_clock;

std::string utc_now() {
  const auto now = system_clock::now();
  const auto whole = std::chrono::floor<std::chrono::seconds>(now);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now - whole).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(system_clock::to_time_t(whole)), ms);
}

ordered_json event(const char* name, std::uint64_t seq) {
  return {{"seq", seq}, {"time", utc_now()}, {"event", name}};
}

std::string line_of(const ordered_json& json) {
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

bool is_json_number(const std::string& text) {
  return !text.empty() && text.size() <= 9 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= '0' && c <= '9'; });
}

Error cannot_log(const std::string& where, int error) {
  return system_error(error, "cannot write events to " + where, {}, "--json-events names a file or a descriptor");
}

Result<UniqueFd> open_descriptor(const std::string& number) {
  const int fd = std::atoi(number.c_str());
  struct stat info {};
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fstat(fd, &info) != 0 || (flags & O_ACCMODE) == O_RDONLY) {
    return make_error(Errc::usage, fmt::format("--json-events: descriptor {} is not open for writing", fd), {},
                      fmt::format("open it in the shell: llmlaunch run --json-events {} … {}>FILE; a file with that "
                                  "name is ./{}",
                                  fd, fd, fd));
  }
  UniqueFd own;
  if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode))
    own.reset(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  else
    own.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!own) return cannot_log("descriptor " + number, errno);
  return own;
}

}  // namespace

const char* stage_word(HostStage stage) {
  switch (stage) {
    case HostStage::waiting: return "waiting";
    case HostStage::connecting: return "connecting";
    case HostStage::authenticating: return "authenticating";
    case HostStage::starting: return "starting";
    case HostStage::pushing: return "pushing";
    case HostStage::checking: return "checking";
    case HostStage::ready: return "ready";
    case HostStage::running: return "running";
    case HostStage::exited: return "exited";
    case HostStage::failed: return "failed";
  }
  return "unknown";
}

Result<UniqueFd> open_events(const std::string& where) {
  if (is_json_number(where)) return open_descriptor(where);
  struct stat info {};
  // Opened for reading as well, a FIFO is there without a reader, and outlives one.
  const bool fifo = ::stat(where.c_str(), &info) == 0 && S_ISFIFO(info.st_mode);
  const int flags = fifo ? O_RDWR : O_WRONLY | O_CREAT | O_TRUNC;
  UniqueFd fd(::open(where.c_str(), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600));
  if (!fd) return cannot_log(where, errno);
  return fd;
}

Result<EventLog> EventLog::open(const std::string& run_directory, const std::string& json_events) {
  EventLog log;
  if (!json_events.empty()) {
    auto fd = open_events(json_events);
    if (!fd) return fd.error();
    Target target;
    target.fd = std::move(*fd);
    target.name = "--json-events";
    log.add(std::move(target));
  }
  if (!run_directory.empty()) {
    Target target;
    target.name = run_directory + "/events.jsonl";
    target.fd.reset(::open(target.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!target.fd) return system_error(errno, "cannot create " + target.name);
    log.add(std::move(target));
  }
  return log;
}

void EventLog::add(Target target) {
  struct stat info {};
  if (::fstat(target.fd.value(), &info) == 0) {
    target.is_socket = S_ISSOCK(info.st_mode);
    target.is_file = S_ISREG(info.st_mode);
  }
  targets_.push_back(std::move(target));
}

void EventLog::job_started(const LaunchPlan& plan, const std::string& run_directory) {
  ordered_json json = event("job_start", seq_);
  json["job_id"] = plan.job_id;
  json["llmlaunch_version"] = LLMLAUNCH_VERSION;
  json["world_size"] = plan.world_size;
  json["argv"] = without_secrets(plan.argv);
  json["run_directory"] = run_directory.empty() ? ordered_json(nullptr) : ordered_json(run_directory);
  ordered_json hosts = ordered_json::array();
  for (const HostPlan& host : plan.hosts) {
    ordered_json ranks = ordered_json::array();
    for (const RankPlan& rank : host.ranks) ranks.push_back(number(rank.rank));
    hosts.push_back({{"host", host.name}, {"node_rank", number(host.node_rank)}, {"ranks", std::move(ranks)}});
  }
  json["hosts"] = std::move(hosts);
  stages_.assign(plan.hosts.size(), HostStage::waiting);
  write(line_of(json));
}

void EventLog::host(const LaunchPlan& plan, std::size_t host, HostStage stage, const std::string& reason) {
  if (targets_.empty() || host >= stages_.size() || stages_[host] == stage) return;
  stages_[host] = stage;
  ordered_json json = event("host", seq_);
  json["host"] = plan.hosts[host].name;
  json["node_rank"] = number(plan.hosts[host].node_rank);
  json["state"] = stage_word(stage);
  json["reason"] = reason.empty() ? ordered_json(nullptr) : ordered_json(reason);
  write(line_of(json));
}

void EventLog::address(const HostPlan& host, const HostAddress& address) {
  ordered_json json = event("address", seq_);
  json["host"] = host.name;
  json["node_rank"] = number(host.node_rank);
  json["rendezvous"] = address.rendezvous;
  json["interface"] = address.interface.empty() ? ordered_json(nullptr) : ordered_json(address.interface);
  write(line_of(json));
}

void EventLog::rank_started(const HostPlan& host, const agent::Started& started) {
  ordered_json json = event("rank_start", seq_);
  json["rank"] = started.rank;
  json["host"] = host.name;
  json["pid"] = started.pid;
  write(line_of(json));
}

void EventLog::rank_exited(const HostPlan& host, const agent::Exited& exited) {
  ordered_json json = event("rank_exit", seq_);
  json["rank"] = exited.rank;
  json["host"] = host.name;
  json["status"] = exited.signaled ? ordered_json(nullptr) : ordered_json(exited.value);
  json["signal"] = exited.signaled ? ordered_json(signal_name(exited.value)) : ordered_json(nullptr);
  json["core_dumped"] = exited.core_dumped;
  json["stopped"] = exited.stopped;
  write(line_of(json));
}

void EventLog::stopping(const std::string& reason) {
  ordered_json json = event("stop", seq_);
  json["first_failure"] = reason;
  write(line_of(json));
}

void EventLog::job_ended(const JobResult& result) {
  ordered_json json = event("job_end", seq_);
  json["exit_status"] = result.exit_status;
  json["failure"] = result.failure ? ordered_json(to_string(*result.failure)) : ordered_json(nullptr);
  write(line_of(json));
  const auto until = std::chrono::steady_clock::now() + kEventPatience;
  for (Target& target : targets_) {
    while (!target.gone && !target.pending.empty()) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
      if (left <= 0) break;
      pollfd waits{target.fd.value(), POLLOUT, 0};
      if (::poll(&waits, 1, static_cast<int>(left)) > 0) push(target);
    }
  }
}

void EventLog::flush() {
  for (Target& target : targets_) push(target);
}

void EventLog::write(std::string line) {
  ++seq_;
  for (Target& target : targets_) {
    if (target.gone) continue;
    if (target.pending.size() + line.size() <= kMaxPendingEventBytes || target.is_file) target.pending += line;
    push(target);
  }
}

void EventLog::push(Target& target) {
  while (!target.gone && !target.pending.empty()) {
    const ssize_t put = target.is_socket ? ::send(target.fd.value(), target.pending.data(), target.pending.size(),
                                                  MSG_DONTWAIT | MSG_NOSIGNAL)
                                         : ::write(target.fd.value(), target.pending.data(), target.pending.size());
    if (put >= 0) {
      target.pending.erase(0, static_cast<std::size_t>(put));
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      const int error = errno;
      target.gone = true;
      target.pending.clear();
      // A reader that has seen enough is no trouble of the job's; a full disk is worth a word.
      if (error == EPIPE || error == ECONNRESET || error == EIO)
        log_info("{}: nobody reads the events any more", target.name);
      else
        log_error("{}: {}; the events end here", target.name, std::generic_category().message(error));
    }
  }
}

}  // namespace llmlaunch::launcher
