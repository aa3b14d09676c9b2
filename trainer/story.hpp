/// \file
/// What a rank tells of its training: lines and progress on stdout, records for reports and checkpoints. Mostly rank
/// 0's; the others are silent unless --log_level_replica says otherwise.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "rendezvous/base/result.hpp"
#include "trainer/course.hpp"
#include "trainer/options.hpp"
#include "trainer/progress.hpp"
#include "trainer/reports.hpp"
#include "trainer/schedule.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer {

/// What one step that is logged has to say beside the loss.
struct StepFacts {
  std::optional<double> gradient_norm;
  double learning_rate = 0;
};

class Story {
 public:
  using Clock = ProgressLine::Clock;

  /// Options and world outlive it.
  Story(const TrainOptions& options, const World& world, const TrainingLength& length);
  Story(const Story&) = delete;
  Story& operator=(const Story&) = delete;

  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    if (is_first_ || options_.replicas_speak) progress_.say(fmt::format(format, std::forward<Args>(args)...));
  }
  /// On stderr, above the line of progress.
  void warn(const std::string& text);

  /// The training begins after that many steps of earlier runs, or with the test of the last of them. The error of a
  /// report that cannot be opened.
  Result<void> begin(std::uint64_t steps_done, bool tests_again);
  /// So many images were trained on, over all ranks.
  void add_images(std::uint64_t count) { images_ += count; }
  /// A step is done. One that is logged has its line and its record, with the mean loss since the last of them. Where
  /// the line of progress is drawn, only the last step has a line of its own.
  void step_done(std::uint64_t step, std::optional<double> mean_loss, const StepFacts& facts);
  /// Time that was none of training: a test.
  void leave_out(Clock::duration time) { logged_at_ += time; }
  /// A record of a test, for reports and history.
  void keep(LogRecord record);
  /// Whether anybody wants this rank's records.
  bool keeps_records() const;

  double epochs_after(std::uint64_t step) const;
  /// Ends the line of progress.
  void end_line() { progress_.end(); }
  /// The error of records that could not be written.
  Result<void> finish() const { return reports_.finish(); }

  Course course;  ///< of rank 0

 private:
  void draw(std::uint64_t step, bool at_once);

  const TrainOptions& options_;
  const bool is_first_;  // rank 0
  const TrainingLength length_;
  ProgressLine progress_;
  Reports reports_;
  std::uint64_t begun_step_ = 0;
  std::uint64_t images_ = 0;          // since the last line
  std::optional<double> last_loss_;   // of the last line
  std::optional<double> last_speed_;  // at the last line
  Clock::time_point begun_at_;
  Clock::time_point logged_at_;
};

}  // namespace llmlaunch::trainer
