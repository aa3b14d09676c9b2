// The text of a failure for people who were not there.
#include "cli/cron.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "cli/report.hpp"
#include "launcher/hostlist.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

// Of warnings in a summary; the failure has the rest of it.
constexpr std::size_t kMaxSaidLines = 12;
// A job of weeks may say the like of "connection lost" for ever.
constexpr std::size_t kMaxKeptLines = 64;
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

/// The first half and the last, with a word about the rest between them, and about what was `missing` there before.
void cut_middle(std::vector<std::string>& lines, std::size_t most, std::size_t missing = 0) {
  if (lines.size() <= most) return;
  const std::size_t head = most / 2, tail = most - head - 1;
  const std::size_t gone = lines.size() - head - tail;
  const auto at = lines.begin() + static_cast<std::ptrdiff_t>(head);
  lines.erase(at, at + static_cast<std::ptrdiff_t>(gone));
  lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(head),
               fmt::format("   … {} lines left out", gone + missing));
}

}  // namespace

void SaidLines::add(LogLevel level, std::string_view line) {
  if (level >= LogLevel::info) return;
  const auto same = std::find_if(lines_.begin(), lines_.end(), [line](const Line& one) { return one.text == line; });
  if (same != lines_.end()) {
    ++same->times;
    return;
  }
  lines_.push_back({std::string(line)});
  if (lines_.size() <= kMaxKeptLines) return;
  lines_.erase(lines_.begin() + kMaxKeptLines / 2);
  ++left_out_;
}

std::vector<std::string> SaidLines::lines() const {
  std::vector<std::string> all;
  for (const auto& [text, times] : lines_) all.push_back(times == 1 ? text : fmt::format("{} ({} times)", text, times));
  return all;
}

std::string cron_summary(const Error& failure, int exit_status, const launcher::LaunchPlan* plan,
                         const std::string& run_directory, const SaidLines& said) {
  std::vector<std::string> rest;
  for (const std::string& text : said.lines())
    for (auto& line : mail_lines_of(text)) rest.push_back(std::move(line));
  cut_middle(rest, kMaxSaidLines, said.left_out());
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

void keep_what_is_said(SaidLines& said) {
  set_log_sink([&said](LogLevel level, std::string_view line) {
    said.add(level, fmt::format("llmlaunch: {}{}", level == LogLevel::warning ? "warning: " : "", line));
  });
}

}  // namespace llmlaunch::cli
