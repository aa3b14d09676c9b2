/// \file
/// What rank 0 prints on stdout: lines, and below them, where that is wanted, one that is drawn again in its place: on
/// stdout's terminal, or through a pipe on that of llmlaunch.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "trainer/options.hpp"

namespace llmlaunch::trainer {

class ProgressLine {
 public:
  using Clock = std::chrono::steady_clock;

  /// `redraws`: as `redraws_progress` says. `columns`: how wide the line may be; 0: as `out`, a terminal, says. `out`
  /// outlives this.
  ProgressLine(std::FILE* out, bool redraws, std::size_t columns = 0)
      : out_(out), redraws_(redraws), columns_(columns) {}
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  bool redraws() const { return redraws_; }
  /// A line that stays, above the one that is drawn again.
  void say(const std::string& line);
  /// Draws the line, unless it was drawn a moment ago; `at_once` draws it in any case.
  void draw(const std::string& text, Clock::time_point now, bool at_once);
  /// Makes room for what others write.
  void clear();
  /// Ends the line where it stands.
  void end();

 private:
  void put(const std::string& bytes);

  std::FILE* out_;
  bool redraws_;
  std::size_t columns_;
  std::string shown_;  // empty: the cursor is at the start of an empty line
  std::optional<Clock::time_point> drawn_at_;
};

/// `columns`: of the terminal on which llmlaunch shows the line, where `out` is the pipe that it reads; 0: it shows
/// none there.
bool redraws_progress(Progress wanted, std::FILE* out, std::size_t columns);

/// What llmlaunch says of its terminal (env::kColumns); 0 where it says nothing, or nothing that is a number.
std::size_t columns_from_launcher();

/// How far a job is.
struct ProgressFacts {
  std::uint64_t step = 0;
  std::uint64_t steps = 0;
  std::optional<double> loss;
  double samples_per_second = 0;
  double seconds_left = 0;
};

/// A loss with four digits behind the point, and a power of ten where it is huge; "nan" for one that is no number,
/// whatever its sign.
std::string shown_number(double value);

/// "step 120/938 loss 0.1234 (2100 samples/s, 1:02 left)"
std::string progress_text(const ProgressFacts& facts);

}  // namespace llmlaunch::trainer
