/// \file
/// How many files and sockets the head may have open. A launch of a thousand hosts needs some thousands; the usual soft
/// limit of 1024 is there for programs that use select(), and every program may raise it up to the hard one.
#pragma once

#include <sys/resource.h>

#include <cstdint>

#include "launcher/plan.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// Descriptors that a launch of this plan has open at the same time, with some to spare.
std::uint64_t descriptors_needed(const LaunchPlan& plan);

/// Raises the soft limit to what the plan needs, while it lives. One at a time.
class DescriptorLimit {
 public:
  /// `Errc::out_of_resources` when the hard limit does not allow it, before a single host was bothered.
  static Result<DescriptorLimit> raise_for(const LaunchPlan& plan);
  ~DescriptorLimit();
  DescriptorLimit(DescriptorLimit&& other) noexcept;
  DescriptorLimit& operator=(DescriptorLimit&&) = delete;

  /// Gives a child between fork and exec the limit that llmlaunch itself was started with. Async-signal-safe.
  static void restore_in_child();

 private:
  explicit DescriptorLimit(bool raised) : raised_(raised) {}
  bool raised_;
};

}  // namespace llmlaunch::launcher
