/// \file
/// How many of a file's lines are missing: training goes on without them, and its end tells.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "rendezvous/base/counted.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

class WriteTally {
 public:
  /// Counts one more; true for the first that failed, which is to be told at once.
  bool add(const Result<void>& written) {
    ++all_;
    if (written || failed_++ > 0) return false;
    first_ = written.error();
    return true;
  }

  /// "2 of 40 lines of --loss_file could not be written", with the first one's code and place.
  Result<void> finish(const char* line, const char* flag) const {
    if (failed_ == 0) return ok;
    return Error{first_->code, fmt::format("{} of {} of {} could not be written", failed_, counted(all_, line), flag),
                 first_->where, "see the warning above; the training itself is whole"};
  }

 private:
  std::uint64_t all_ = 0;
  std::uint64_t failed_ = 0;
  std::optional<Error> first_;
};

}  // namespace llmlaunch::trainer
