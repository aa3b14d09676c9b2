/// \file
/// Whether a job that goes on from a checkpoint deals the images as the one before: each seen as often as in the job
/// that nobody stopped, and under the same sample number, which dropout's masks depend on. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/checkpoint.hpp"

namespace llmlaunch::trainer {

struct Dealing {
  SampleAccounting accounting;
  std::uint32_t ranks = 1;

  /// How many places an epoch's order has: the images, and those that are there twice so that all ranks get equally
  /// many, or without those that are left out for that.
  std::uint64_t places() const;
};

/// `Errc::invalid_argument`, at `checkpoint`, names what was and is, and what would do.
Result<void> check_dealing(const Dealing& then, const Dealing& now, const std::string& checkpoint);

}  // namespace llmlaunch::trainer
