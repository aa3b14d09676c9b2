// How a job ended, in words and as an exit status: the part of `JobState` that people read. Decides nothing.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <unordered_map>

#include "launcher/hostlist.hpp"
#include "launcher/job_state.hpp"
#include "launcher/same_reason.hpp"

namespace llmlaunch::launcher {
namespace {

// Different reasons that are told one by one; of a hundred hosts that are down, ten tell the story.
constexpr std::size_t kMaxReasons = 10;

std::string how_many(std::size_t number, const char* noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

// "rank 3", "ranks 48-55", "ranks 0,7": as hostlist writes ranges.
std::string rank_range(const std::vector<std::uint32_t>& ranks) {
  return (ranks.size() == 1 ? "rank " : "ranks ") + ranks_in_words(ranks);
}

// What usually stands behind an end by this signal.
std::string signal_hint(int signal, const std::string& host) {
  switch (signal) {
    case SIGKILL: return "nobody here sent it; the kernel's out-of-memory killer does that: see dmesg on " + host;
    case SIGBUS: return "a full /dev/shm or a file that became shorter does that: see df /dev/shm on " + host;
    default: return {};
  }
}

// What the dynamic loader said of a program that could not even begin. It exits with 127, or with 1 for a version.
std::string loader_hint(const std::vector<std::string>& lines, const RankEnd& end) {
  const auto said = [&lines](std::string_view one, std::string_view other) {
    return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
      return line.find(one) != line.npos && line.find(other) != line.npos;
    });
  };
  if (end.kind != RankEnd::Kind::exited || (end.value != 1 && end.value != kStatusNoProgram)) return {};
  if (said("version `GLIBC_", "' not found") || said("symbol lookup error", "version GLIBC_")) {
    return fmt::format(
        "glibc on {} is older than the one that the program was built with; build it (for train: "
        "llmlaunch) on a system as old as that host's, or update the host",
        end.host);
  }
  if (end.value == kStatusNoProgram && said("error while loading shared libraries", "")) {
    return fmt::format(
        "install on {} what brings that library, or name its directory in LD_LIBRARY_PATH below "
        "llmlaunch.env",
        end.host);
  }
  return {};
}

int status_of(const Error& error) {
  if (error.code == Errc::no_program) return kStatusNoProgram;
  if (error.code == Errc::not_executable) return kStatusNotExecutable;
  if (error.code == Errc::internal) return kStatusInternal;
  return kStatusUnavailable;
}

}  // namespace

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name == nullptr ? fmt::format("signal {}", signal) : fmt::format("SIG{}", name);
}

std::string JobState::host_label(HostIndex host) const {
  if (each_host()) return "host " + hosts_[host].name;  // it has no place in a world
  return fmt::format("host {} (node_rank {}, {})", hosts_[host].name, host, rank_range(hosts_[host].ranks));
}

std::string JobState::rank_label(std::uint32_t rank) const {
  const RankEnd& end = ranks_[rank].end;
  if (end.pid == 0) return fmt::format("rank {} ({})", rank, end.host);
  return fmt::format("rank {} ({}, pid {})", rank, end.host, end.pid);
}

// One line, for the ranks that hear of it through the rendezvous and for the first line of the headline.
std::string JobState::cause_in_short(const Cause& cause) const {
  const auto because = [](const Error& error) { return error.what.empty() ? error.code.message() : error.what; };
  switch (cause.kind) {
    case Cause::Kind::rank: {
      const RankEnd& end = ranks_[cause.rank].end;
      std::string how = end.signaled ? fmt::format("was killed by {}{}", signal_name(end.value),
                                                   end.core_dumped ? " (core dumped)" : "")
                                     : fmt::format("exited with status {}", end.value);
      if (end.kind == RankEnd::Kind::stopped)
        how += ": its agent was told to end on the host (by SIGTERM, or its watchman was killed)";
      return rank_label(cause.rank) + " " + how;
    }
    case Cause::Kind::rank_start: return rank_label(cause.rank) + " could not be started: " + because(cause.error);
    case Cause::Kind::host:
    case Cause::Kind::start: return host_label(cause.host) + ": " + because(cause.error);
    case Cause::Kind::signal: return "interrupted by " + signal_name(cause.signal) + cause.error.what;
    case Cause::Kind::time_limit:
    case Cause::Kind::head: break;
  }
  return cause.error.where.empty() ? because(cause.error) : cause.error.where + ": " + because(cause.error);
}

std::string JobState::last_words(std::uint32_t rank) const {
  const char* stream = "stderr";
  std::vector<std::string> lines = ranks_[rank].err.lines();
  if (lines.empty()) {
    stream = "stdout";
    lines = ranks_[rank].out.lines();
  }
  std::string text;
  if (lines.empty()) {
    text = "\n   it wrote nothing";
  } else {
    text = fmt::format("\n   its last {} on {}:", lines.size() == 1 ? "line" : "lines", stream);
    for (const std::string& line : lines) text += "\n     | " + line;
    if (!run_directory_.empty() && logs_.per_rank)
      text += fmt::format("\n   all of it: {}/rank-{:05}.out, .err", run_directory_, rank);
    else if (!run_directory_.empty() && logs_.merged)
      text += fmt::format("\n   all of it: {}/merged.log", run_directory_);
  }
  return text;
}

// The last thing heard of each rank that was lost with its host: nothing of them will tell why.
std::string JobState::last_words_from(HostIndex host) const {
  constexpr std::size_t kMostRanks = 8;  // as many as GPUs in a common machine
  std::string text;
  std::size_t shown = 0;
  for (const std::uint32_t rank : hosts_[host].ranks) {
    if (ranks_[rank].end.kind != RankEnd::Kind::lost) continue;
    std::vector<std::string> lines = ranks_[rank].err.lines();
    if (lines.empty()) lines = ranks_[rank].out.lines();
    if (lines.empty() || ++shown > kMostRanks) continue;
    text += fmt::format("\n     rank {} | {}", rank, lines.back());
  }
  if (shown == 0) return text;
  if (shown > kMostRanks) text += fmt::format("\n     and {} more", how_many(shown - kMostRanks, "rank"));
  if (!run_directory_.empty() && (logs_.per_rank || logs_.merged)) text += "\n   all of it: " + run_directory_;
  return "\n   the last lines from there:" + text;
}

// What followed from the cause: counted, not told again.
std::string JobState::aftermath() const {
  std::size_t stopped = 0, failed = 0, lost = 0;
  for (std::uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    const bool is_cause =
        (cause_->kind == Cause::Kind::rank || cause_->kind == Cause::Kind::rank_start) && cause_->rank == rank;
    if (is_cause) continue;
    const RankEnd& end = ranks_[rank].end;
    if (end.kind == RankEnd::Kind::stopped) ++stopped;
    if (end.kind == RankEnd::Kind::signaled || (end.kind == RankEnd::Kind::exited && end.value != 0)) ++failed;
    if (end.kind == RankEnd::Kind::lost) ++lost;
  }
  std::string text;
  const auto add = [&text](const std::string& piece) { text += (text.empty() ? "\n   " : ", ") + piece; };
  if (stopped > 0) add(how_many(stopped, "rank") + " stopped by llmlaunch");
  if (failed > 0) add(how_many(failed, "rank") + " failed after that");
  if (lost > 0) add(how_many(lost, "rank") + " lost with " + (lost == 1 ? "its" : "their") + " connection");
  if (!left_behind_.empty()) {
    std::vector<std::string> names;
    std::vector<HostIndex> left = left_behind_;
    std::sort(left.begin(), left.end());
    for (const HostIndex host : left) names.push_back(hosts_[host].name);
    text += fmt::format(
        "\n   processes may be left on {}: nothing more was heard from there. What has an agent ends by itself; look "
        "for "
        "LLMLAUNCH_JOB_ID in their environment",
        compress_hostlist(names));
  }
  return text;
}

// Hosts that failed for one reason are one line. With several reasons each has its hint below it; a single one has it
// at the end, where a reader looks for what to do.
Error JobState::start_failures() const {
  struct Group {
    Error error;
    std::vector<HostIndex> hosts;
    std::vector<std::string> texts, hints;
  };
  std::vector<Group> groups;
  std::unordered_map<std::string, std::size_t> places;
  for (HostIndex host = 0; host < hosts_.size(); ++host) {
    if (!hosts_[host].failure) continue;
    const Error failure = start_failure(host);
    std::string key = reason_key(failure.what, hosts_[host].name) + reason_key(failure.hint, hosts_[host].name);
    const auto [place, is_new] = places.emplace(std::move(key), groups.size());
    if (is_new) groups.push_back({failure, {}, {}, {}});
    groups[place->second].hosts.push_back(host);
    groups[place->second].texts.push_back(failure.what);
    groups[place->second].hints.push_back(failure.hint);
  }
  for (Group& group : groups) {
    const std::string& first = hosts_[group.hosts.front()].name;
    group.error.hint = hint_of_many(group.error.hint, first, group.hints, group.texts);
    group.error.what = reason_of_many(group.error.what, first, group.texts);
  }
  Error error{groups.front().error.code, {}, label_of(groups.front().hosts), {}};
  const bool several = groups.size() > 1;
  const std::size_t shown = std::min(groups.size(), kMaxReasons);
  for (std::size_t i = 0; i < shown; ++i) {
    const Group& group = groups[i];
    error.what += i == 0 ? group.error.what : "\n   " + label_of(group.hosts) + ": " + group.error.what;
    const bool hint_follows = i + 1 < shown && groups[i + 1].error.hint == group.error.hint;
    if (several && !group.error.hint.empty() && !hint_follows) error.what += "\n      hint: " + group.error.hint;
  }
  if (shown < groups.size()) {
    std::vector<HostIndex> rest;
    for (std::size_t i = shown; i < groups.size(); ++i)
      rest.insert(rest.end(), groups[i].hosts.begin(), groups[i].hosts.end());
    std::sort(rest.begin(), rest.end());
    error.what += "\n   " + label_of(rest) + ": other reasons of the same kind";
  }
  error.what += "\n   no rank was started on any host";
  if (!several) error.hint = groups.front().error.hint;
  return error;
}

// What is said of one host, without its name: a layer below may have named it already, ours says more about it.
Error JobState::start_failure(HostIndex host) const {
  Error failure = *hosts_[host].failure;
  if (failure.what.empty()) failure.what = failure.code.message();
  const bool other_place =
      !failure.where.empty() && failure.where != hosts_[host].name && failure.where != "host " + hosts_[host].name;
  if (other_place) failure.what = failure.where + ": " + failure.what;
  return failure;
}

// "host gpu01 (node_rank 0, rank 0)", "3 hosts gpu[01-03]".
std::string JobState::label_of(const std::vector<HostIndex>& hosts) const {
  if (hosts.size() == 1) return host_label(hosts.front());
  std::vector<std::string> names;
  for (const HostIndex host : hosts) names.push_back(hosts_[host].name);
  return fmt::format("{} hosts {}", hosts.size(), compress_hostlist(names));
}

Error JobState::headline() const {
  const Cause& cause = *cause_;
  if (cause.kind == Cause::Kind::start) return start_failures();
  Error error{cause.error.code, cause_in_short(cause), {}, cause.error.hint};
  switch (cause.kind) {
    case Cause::Kind::rank: {
      const RankEnd& end = ranks_[cause.rank].end;
      error.code = make_error_code(Errc::rank_failed);
      error.what += last_words(cause.rank);
      if (end.signaled && end.kind == RankEnd::Kind::signaled) error.hint = signal_hint(end.value, end.host);
      if (error.hint.empty()) error.hint = loader_hint(ranks_[cause.rank].err.lines(), end);
      break;
    }
    case Cause::Kind::host: error.what += last_words_from(cause.host); break;
    case Cause::Kind::signal: error.code = make_error_code(Errc::interrupted); break;
    case Cause::Kind::time_limit: error.code = make_error_code(Errc::timed_out); break;
    default: break;
  }
  error.what += aftermath();
  if (phase_ == JobPhase::stopping &&
      std::none_of(hosts_.begin(), hosts_.end(), [](const Host& host) { return host.went; }))
    error.what += "\n   no rank had been started";
  return error;
}

int JobState::status() const {
  if (!cause_) return 0;
  switch (cause_->kind) {
    case Cause::Kind::rank: {
      const RankEnd& end = ranks_[cause_->rank].end;
      if (end.kind == RankEnd::Kind::stopped) return kStatusUnavailable;
      return end.signaled ? 128 + end.value : end.value;
    }
    case Cause::Kind::signal: return 128 + cause_->signal;
    case Cause::Kind::time_limit: return kStatusTimedOut;
    case Cause::Kind::head:  // of an exec: its stdout; of a job: the rendezvous
      return each_host() && cause_->error.code == Errc::io ? kStatusLogsIncomplete : status_of(cause_->error);
    default: return status_of(cause_->error);
  }
}

JobResult JobState::result() const {
  if (each_host()) return result_of_each();
  JobResult result;
  result.exit_status = status();
  if (cause_) result.failure = headline();
  for (const RankState& rank : ranks_) result.ranks.push_back(rank.end);
  result.run_directory = run_directory_;
  return result;
}

}  // namespace llmlaunch::launcher
