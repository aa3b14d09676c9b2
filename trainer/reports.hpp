/// \file
/// What --report_to writes, beside the training: metrics.jsonl and TensorBoard's event files. Used by rank 0, by one
/// thread. A job that goes on from a checkpoint goes on with its files, and no step is in them twice.
///
///     metrics.jsonl   {"step": 10, "epoch": 0.5, "loss": 0.7, "grad_norm": 1.2, …, "time": 1700000000.125} a line;
///                     `time` is that of the line, in seconds since 1970; a number that is none is null
///     runs/events.out.tfevents.SECONDS.HOST.PID   train/loss, eval/loss, … ; with --logging_dir in that folder itself
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/append_file.hpp"
#include "trainer/course.hpp"
#include "trainer/write_tally.hpp"

namespace llmlaunch::trainer {

/// Which reports there are; an empty folder: none.
struct ReportFolders {
  std::string json;
  std::string tensorboard;
};

class Reports {
 public:
  /// `on_failure` is told of each file's first record that could not be written: training goes on without it.
  Reports(ReportFolders folders, std::function<void(const Error&)> on_failure);

  /// Makes folders and files, and keeps of metrics.jsonl what the first `steps_done` steps say. Where a job that starts
  /// anew overwrites records, it warns. The system's error. `tests_again`: the test of the last of them is to come, and
  /// an earlier run may have told of one; `history` has what else there is of that step.
  Result<void> begin(std::uint64_t steps_done, bool tests_again = false, std::span<const LogRecord> history = {});
  void add(const LogRecord& record);
  /// How many records are missing in a file: "2 of 40 records of --report_to could not be written".
  Result<void> finish() const;

 private:
  Result<void> begin_json(std::uint64_t steps_done, bool tests_again);
  Result<void> begin_tensorboard(std::uint64_t first_step, std::span<const LogRecord> history);
  void append(AppendFile& file, WriteTally& tally, const std::string& bytes);

  ReportFolders folders_;
  std::function<void(const Error&)> on_failure_;
  std::optional<AppendFile> json_;
  std::optional<AppendFile> tensorboard_;
  WriteTally json_tally_, tensorboard_tally_;
};

/// One line of metrics.jsonl, with its end.
std::string metrics_line(const LogRecord& record, double time);

}  // namespace llmlaunch::trainer
