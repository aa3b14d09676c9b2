/// \file
/// How long a rank that fails waits for the end of the job that another one's failure brings, before it says why and
/// before it ends: one failure is to be one line, and who ends first is named as the reason.
#pragma once

#include <chrono>
#include <cstdint>

#include "rendezvous/base/error.hpp"

namespace llmlaunch::trainer {

struct FailurePauses {
  std::chrono::milliseconds before_words{0}, after_words{0};

  /// `hears_of_end`: there is a launcher that ends the job. `has_started`: the ranks have met, and have begun to train.
  static FailurePauses of(const Error& error, std::uint32_t rank, bool hears_of_end, bool has_started);
};

}  // namespace llmlaunch::trainer
