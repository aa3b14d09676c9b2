// The text of a failure for people who were not there.
#include "cli/cron.hpp"

#include <fmt/format.h>

#include <string_view>

#include "cli/report.hpp"
#include "launcher/hostlist.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::size_t kMaxSaidLines = 6;
constexpr std::size_t kMaxLineBytes = 400;

std::vector<std::string> mail_lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string line(text.substr(0, end));
    if (line.size() > kMaxLineBytes) line = line.substr(0, kMaxLineBytes) + "…";
    lines.push_back(std::move(line));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

/// The first half and the last, with a word about the rest between them.
void cut_middle(std::vector<std::string>& lines, std::size_t most) {
  if (lines.size() <= most) return;
  const std::size_t head = most / 2, tail = most - head - 1;
  const std::size_t gone = lines.size() - head - tail;
  const auto at = lines.begin() + static_cast<std::ptrdiff_t>(head);
  lines.erase(at, at + static_cast<std::ptrdiff_t>(gone));
  lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(head), fmt::format("   … {} lines left out", gone));
}

}  // namespace

std::string cron_summary(const Error& failure, int exit_status, const launcher::LaunchPlan* plan,
                         const std::string& run_directory, const std::vector<std::string>& said) {
  std::vector<std::string> rest;
  for (std::size_t i = said.size() > kMaxSaidLines ? said.size() - kMaxSaidLines : 0; i < said.size(); ++i)
    for (auto& line : mail_lines_of(said[i])) rest.push_back(std::move(line));
  cut_middle(rest, kMaxSaidLines);
  if (plan != nullptr) {
    std::vector<std::string> names;
    for (const auto& host : plan->hosts) names.push_back(host.name);
    std::string hosts = launcher::compress_hostlist(names);
    if (hosts.size() > kMaxLineBytes) hosts = hosts.substr(0, kMaxLineBytes) + "…";
    rest.push_back(fmt::format("job:         {}, {} rank{} on {}", plan->job_id, plan->world_size,
                               plan->world_size == 1 ? "" : "s", hosts));
  }
  rest.push_back(fmt::format("exit status: {}", exit_status));
  if (!run_directory.empty()) rest.push_back(fmt::format("logs:        {}", run_directory));
  std::vector<std::string> lines = mail_lines_of(format_error(failure, false));
  cut_middle(lines, kMaxSummaryLines - rest.size());
  std::string text;
  for (const auto* part : {&lines, &rest})
    for (const std::string& line : *part) text += line + "\n";
  return text;
}

void keep_what_is_said(std::vector<std::string>& said) {
  set_log_sink([&said](LogLevel level, std::string_view line) {
    if (level < LogLevel::info) said.push_back(fmt::format("llmlaunch: {}", line));
  });
}

}  // namespace llmlaunch::cli
