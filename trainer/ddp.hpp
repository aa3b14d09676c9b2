/// \file
/// Distributed data parallel: the same parameters everywhere at the start, gradients averaged in buckets while the
/// backward pass still runs, and the proof that the parameters stayed the same. Bucket rules are those of PyTorch's
/// DDP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/comm.hpp"

namespace llmlaunch::trainer {

/// PyTorch's caps where none is given: a small first bucket starts early, large ones use the network well.
inline constexpr std::size_t kFirstBucketBytes = 1024 * 1024;
inline constexpr std::size_t kBucketBytes = 25 * 1024 * 1024;

struct BucketCaps {
  std::size_t first_bytes = kFirstBucketBytes;
  std::size_t bytes = kBucketBytes;
};

/// As PyTorch's DDP takes bucket_cap_mb: one that is given is the first bucket's, too.
BucketCaps bucket_caps(std::optional<double> cap_mb);

/// Values `first` … `first + count - 1` of the flat gradient.
struct Range {
  std::size_t first = 0;
  std::size_t count = 0;
  friend bool operator==(const Range&, const Range&) = default;
};

/// Parameters that travel together, and where their gradients lie: neighbours are merged into one range.
struct Bucket {
  std::vector<std::size_t> parameters;  ///< in the order they become ready
  std::vector<Range> ranges;
};

/// Puts the parameters into buckets in the order given. A bucket closes once it holds as many bytes as its cap or more:
/// `caps.first_bytes` for the first, `caps.bytes` for all others. `places`: the parameters in the flat gradient.
std::vector<Bucket> plan_buckets(std::span<const Range> places, std::span<const std::size_t> order, BucketCaps caps);

/// Averages one model's gradients, step by step. Before the first step nobody knows in which order gradients become
/// ready, so one bucket holds everything; then the buckets are made anew, once, in rank 0's order.
class GradientReducer {
 public:
  /// `gradient` is the flat gradient in the memory of the backend's device; it and `comm` must outlive the reducer.
  GradientReducer(Comm& comm, std::span<float> gradient, std::vector<Range> places, BucketCaps caps);

  /// Before the first step of a process that goes on from a checkpoint: the run's buckets have long been made, and
  /// sums over three ranks or more depend on them. This step's averages start when the order is known, at its end.
  void resume() { resumed_ = true; }

  /// A parameter's gradient is complete. Starts every bucket that is full and whose turn it is: a bucket waits for
  /// those before it, so that all ranks reduce in one order.
  Result<void> ready(std::size_t parameter);

  /// The end of the backward pass: waits for all averages. `Errc::internal` names a parameter that never became ready.
  Result<void> finish_step();

  /// The same where only the device waits for the averages (`Comm::join`), after the first step.
  Result<void> finish_queued_step();

  /// Forgets what became ready of a step that was not to be: it was queued for a device that did not take it.
  void abandon_step() { use(std::move(buckets_)); }

  const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  void use(std::vector<Bucket> buckets);
  Result<void> start(const Bucket& bucket);
  Result<void> check_complete() const;
  Result<void> rebuild();

  Comm& comm_;
  std::span<float> gradient_;
  std::vector<Range> places_;
  BucketCaps caps_;
  std::vector<Bucket> buckets_;
  std::vector<std::size_t> bucket_of_;  // parameter → bucket
  std::vector<std::size_t> missing_;    // bucket → parameters not ready yet, in this step
  std::vector<std::size_t> order_;      // parameters in the order they became ready, in this step
  std::size_t next_ = 0;                // the bucket to start next
  bool rebuilt_ = false;
  bool resumed_ = false;
};

/// Checks that every rank holds the same text. The error names the ranks that differ from rank 0: "parameters after
/// epoch 1 differ: …". Collective: all ranks find the same, and rank 0 tells it (`told_once`). `text` is as long on
/// each.
Result<void> check_equal_on_all_ranks(Comm& comm, const std::string& text, const std::string& subject);

/// A few numbers from every rank, equally many from each; index = rank.
Result<std::vector<std::vector<double>>> gather_over_ranks(Comm& comm, std::span<const double> mine);

/// The sum over the ranks of a few numbers, added in the order of the ranks, so that all get the same bits.
Result<std::vector<double>> sum_over_ranks(Comm& comm, std::span<const double> mine);

}  // namespace llmlaunch::trainer
