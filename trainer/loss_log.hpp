/// \file
/// The file that --loss_file names: {"step": 1, "loss": 2.3…} a line, with all digits, written as the steps end. A job
/// that goes on from a checkpoint goes on with its file, too.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "rendezvous/base/result.hpp"
#include "trainer/append_file.hpp"
#include "trainer/write_tally.hpp"

namespace llmlaunch::trainer {

class LossLog {
 public:
  /// Opens the file, and changes nothing in it yet. `Errc::invalid_config`: it is there, and holds no losses;
  /// `Errc::locked`: another job writes it. An empty path writes
  /// nothing. `wanted`: some rank writes, so that all have to take part in finding each loss.
  static Result<LossLog> open(const std::string& path, bool wanted);
  bool wanted() const { return wanted_; }

  /// Who is told of the first line that could not be written: training goes on without it.
  void tell_failure(std::function<void(const Error&)> on_failure) { on_failure_ = std::move(on_failure); }
  /// Keeps the lines of the first `steps_done` steps, and no others. The system's error.
  Result<void> begin(std::uint64_t steps_done);
  /// A line that cannot be written (a full disk) leaves the others whole.
  void write(std::uint64_t step, double loss);
  /// How many lines are missing: "2 of 40 lines of --loss_file could not be written".
  Result<void> finish() const;

 private:
  LossLog(AppendFile file, bool wanted) : file_(std::move(file)), wanted_(wanted) {}

  AppendFile file_;  // not open: this rank writes nothing
  bool wanted_;
  std::function<void(const Error&)> on_failure_;
  WriteTally tally_;
};

}  // namespace llmlaunch::trainer
