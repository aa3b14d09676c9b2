// The table below "3 of 64 hosts failed", and that of all hosts. Linear in the number of hosts, but for the folding of
// their names.
#include "launcher/exec_story.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "launcher/hostlist.hpp"
#include "launcher/job_state.hpp"
#include "launcher/same_reason.hpp"

namespace llmlaunch::launcher {
namespace {

using Kind = HostEnd::Kind;

// Lines of a table; of a hundred hosts with reasons of their own, some tell the story.
constexpr std::size_t kMaxLines = 20;

// Worse is higher; the status decides between equals.
int badness(const HostEnd& end) {
  switch (end.kind) {
    case Kind::failed:
      return status_of_host(end) == kStatusUnavailable || status_of_host(end) == kStatusInternal ? 3 : 1;
    case Kind::lost:
    case Kind::stopped:
    case Kind::not_started: return 3;
    case Kind::timed_out: return 2;
    case Kind::signaled:
    case Kind::exited: return 1;
  }
  return 0;
}

// "unreachable" is for what ssh could not do; a host that answered and has no such program was reached, and so was one
// that became ready, as its time to connect tells.
std::string label_of_failure(const HostEnd& end) {
  const Error& error = *end.failure;
  const bool reached = end.connect.count() > 0 || error.code == Errc::no_program ||
                       error.code == Errc::not_executable || error.code == Errc::no_workdir ||
                       error.code == Errc::invalid_argument || error.code == Errc::too_large ||
                       error.code == Errc::out_of_resources;
  return reached ? "cannot start" : "unreachable";
}

std::string label_of(const HostEnd& end) {
  switch (end.kind) {
    case Kind::failed: return label_of_failure(end);
    case Kind::lost: return "lost";
    case Kind::timed_out: return "timed out";
    case Kind::stopped: return "stopped";
    case Kind::signaled: return signal_name(end.value) + (end.core_dumped ? " (core dumped)" : "");
    case Kind::exited: return fmt::format("exit {}", end.value);
    case Kind::not_started: return "not started";
  }
  return {};
}

// Without the host's name, which stands before it.
std::string story_reason(const HostEnd& end) {
  if (!end.failure) return {};
  const Error& error = *end.failure;
  const std::string what = error.what.empty() ? error.code.message() : error.what;
  const bool other_place = !error.where.empty() && error.where != end.host && error.where != "host " + end.host;
  return other_place ? error.where + ": " + what : what;
}

struct StoryLine {
  std::string label, reason, hint;
  int badness = 0;
  int status = 0;
  std::vector<std::string> hosts;
  std::vector<std::string> reasons, hints;  // of each of them
};

bool ended_well(const HostEnd& end) {
  return end.kind == Kind::exited && end.value == 0;
}

// Hosts that ended alike, worst first, then by their first host.
std::vector<StoryLine> story_lines(const std::vector<HostEnd>& hosts) {
  std::vector<StoryLine> lines;
  std::map<std::tuple<std::string, std::string, std::string>, std::size_t> places;
  for (const HostEnd& end : hosts) {
    if (ended_well(end)) continue;
    StoryLine line;
    line.label = label_of(end);
    line.reason = story_reason(end);
    line.hint = end.failure ? end.failure->hint : "";
    line.badness = badness(end);
    line.status = status_of_host(end);
    std::string reason = line.reason, hint = line.hint;
    const auto [place, is_new] = places.emplace(
        std::tuple(line.label, reason_key(line.reason, end.host), reason_key(line.hint, end.host)), lines.size());
    if (is_new) lines.push_back(std::move(line));
    lines[place->second].hosts.push_back(end.host);
    lines[place->second].reasons.push_back(std::move(reason));
    lines[place->second].hints.push_back(std::move(hint));
  }
  for (StoryLine& line : lines) {
    line.hint = hint_of_many(line.hint, line.hosts.front(), line.hints, line.reasons);
    line.reason = reason_of_many(line.reason, line.hosts.front(), line.reasons);
  }
  std::stable_sort(lines.begin(), lines.end(), [](const StoryLine& a, const StoryLine& b) {
    return std::pair(a.badness, a.status) > std::pair(b.badness, b.status);
  });
  return lines;
}

std::string table_of(const std::vector<StoryLine>& lines) {
  std::string text;
  const std::size_t shown = lines.size() > kMaxLines ? kMaxLines - 1 : lines.size();
  for (std::size_t i = 0; i < shown; ++i) {
    const StoryLine& line = lines[i];
    text += fmt::format("\n   {}: {}", line.label, compress_hostlist(line.hosts));
    if (!line.reason.empty()) text += ": " + line.reason;
    const bool hint_follows = i + 1 < shown && lines[i + 1].hint == line.hint;
    if (!line.hint.empty() && !hint_follows) text += "\n      hint: " + line.hint;
  }
  if (shown == lines.size()) return text;
  std::vector<std::string> rest;
  for (std::size_t i = shown; i < lines.size(); ++i)
    rest.insert(rest.end(), lines[i].hosts.begin(), lines[i].hosts.end());
  return text + fmt::format("\n   other reasons, {} hosts: {}", rest.size(), compress_hostlist(rest));
}

}  // namespace

int status_of_host(const HostEnd& end) {
  switch (end.kind) {
    case Kind::exited: return end.value;
    case Kind::signaled: return 128 + end.value;
    case Kind::timed_out: return kStatusTimedOut;
    case Kind::failed:
      if (end.failure->code == Errc::no_program) return kStatusNoProgram;
      if (end.failure->code == Errc::not_executable) return kStatusNotExecutable;
      return end.failure->code == Errc::internal ? kStatusInternal : kStatusUnavailable;
    case Kind::lost:
    case Kind::stopped:
    case Kind::not_started: return kStatusUnavailable;
  }
  return kStatusInternal;
}

int exec_status(const std::vector<HostEnd>& hosts) {
  std::pair worst{0, 0};
  for (const HostEnd& end : hosts)
    if (!ended_well(end)) worst = std::max(worst, std::pair(badness(end), status_of_host(end)));
  return worst.second;
}

std::optional<Error> exec_failure(const std::vector<HostEnd>& hosts) {
  const std::vector<StoryLine> lines = story_lines(hosts);
  if (lines.empty()) return std::nullopt;
  std::size_t failed = 0;
  for (const StoryLine& line : lines) failed += line.hosts.size();
  Error error = make_error(
      Errc::rank_failed,
      fmt::format("{} of {} host{} failed", failed, hosts.size(), hosts.size() == 1 ? "" : "s") + table_of(lines));
  const auto unreached = std::find_if(hosts.begin(), hosts.end(), [](const HostEnd& end) { return end.failure; });
  if (unreached != hosts.end()) error.code = unreached->failure->code;
  return error;
}

std::string exec_table(const std::vector<HostEnd>& hosts) {
  const auto seconds = [](bool happened, std::chrono::milliseconds time) {
    return happened ? fmt::format("{:.2f}", static_cast<double>(time.count()) / 1000) : std::string("-");
  };
  std::size_t name_width = std::string_view("host").size(), end_width = std::string_view("end").size();
  for (const HostEnd& end : hosts) {
    name_width = std::max(name_width, end.host.size());
    end_width = std::max(end_width, label_of(end).size());
  }
  std::string text = fmt::format("{:<{}}  {:<{}}  status  connect s  run s\n", "host", name_width, "end", end_width);
  for (const HostEnd& end : hosts) {
    const bool ran = end.kind != Kind::failed && end.kind != Kind::not_started;
    text += fmt::format("{:<{}}  {:<{}}  {:>6}  {:>9}  {:>5}\n", end.host, name_width, label_of(end), end_width,
                        status_of_host(end), seconds(end.connect.count() > 0, end.connect), seconds(ran, end.run));
  }
  return text;
}

Error exec_stopped(const std::vector<HostEnd>& hosts, const Error& why) {
  std::vector<std::string> well;
  std::size_t ended = 0;
  for (const HostEnd& end : hosts) {
    if (ended_well(end)) well.push_back(end.host);
    ended += end.kind == Kind::stopped || end.kind == Kind::not_started ? 0 : 1;
  }
  Error error = why;
  error.what += fmt::format(": {} of {} host{} had ended", ended, hosts.size(), hosts.size() == 1 ? "" : "s");
  if (!well.empty()) error.what += "\n   exit 0: " + compress_hostlist(well);
  error.what += table_of(story_lines(hosts));
  return error;
}

}  // namespace llmlaunch::launcher
