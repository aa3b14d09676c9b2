/// \file
/// The file that --loss_file names: {"step": 1, "loss": 2.3…} a line, with all digits, written as the steps end. A job
/// that goes on from a checkpoint goes on with its file, too.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

class LossLog {
 public:
  /// Opens the file, and changes nothing in it yet. An empty path writes nothing. `wanted`: some rank writes, so that
  /// all have to take part in finding each loss.
  static Result<LossLog> open(const std::string& path, bool wanted);
  bool wanted() const { return wanted_; }
  /// Keeps the lines of the first `steps_done` steps, and no others.
  Result<void> begin(std::uint64_t steps_done);
  /// The system's error with path and reason.
  Result<void> write(std::uint64_t step, double loss);

 private:
  LossLog(std::string path, std::FILE* file, bool wanted) : path_(std::move(path)), file_(file), wanted_(wanted) {}
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  bool wanted_;
};

}  // namespace llmlaunch::trainer
