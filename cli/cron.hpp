/// \file
/// `--cron`: silence, and one summary fit for mail when something failed. Used by run.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launcher/launch.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/error.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {

/// A mail of cron that is longer is not read.
inline constexpr std::size_t kMaxSummaryLines = 40;

/// What llmlaunch has said meanwhile, but for what is no warning. The first and the last of many; the same line once.
class SaidLines {
 public:
  void add(LogLevel level, std::string_view line);
  /// Each with its end "(3 times)" where it was said more often.
  std::vector<std::string> lines() const;
  std::size_t left_out() const { return left_out_; }

 private:
  struct Line {
    std::string text;
    std::size_t times = 1;
  };
  std::vector<Line> lines_;
  std::size_t left_out_ = 0;
};

/// What failed and where, its last lines, what was said before, where the logs are. `plan` is null when there was none.
/// Long texts lose their middle. Ends with a newline.
std::string cron_summary(const Error& failure, int exit_status, const launcher::LaunchPlan* plan,
                         const std::string& run_directory, const SaidLines& said);

/// From now on llmlaunch's own lines are kept in `said` instead of being printed. The job's sink replaces it while it
/// runs, and LaunchOptions::on_said takes over.
void keep_what_is_said(SaidLines& said);

}  // namespace llmlaunch::cli
