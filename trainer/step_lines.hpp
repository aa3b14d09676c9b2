/// \file
/// Files of a job with a line of JSON for each step, {"step": 1, …}: what of them a job that goes on keeps. Used for
/// metrics.jsonl and the file of losses. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace llmlaunch::trainer {

/// In the folder of --logging_dir, or in output_dir.
inline constexpr const char* kMetricsFile = "metrics.jsonl";

/// How every line of such a file begins; the step follows.
inline constexpr std::string_view kStepLineStart = "{\"step\": ";

/// Larger files are none of ours.
inline constexpr std::size_t kMaxStepLines = std::size_t{1} << 30U;

/// The whole lines of the first `steps_done` steps. Others go: those of later steps, which are done anew, lines of
/// something else, and one without an end, which was being written when its job was killed. Where the last step's test
/// is made again, its line goes as well: an earlier run that went on from here wrote it, and came to no checkpoint.
std::string kept_step_lines(std::string_view text, std::uint64_t steps_done, bool tests_again = false);

/// How many lines of steps there are.
std::size_t count_step_lines(std::string_view text);

}  // namespace llmlaunch::trainer
