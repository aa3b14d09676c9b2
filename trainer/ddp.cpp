// Buckets, their order, and the checks around them. Called by the training loop; knows neither layers nor networks.
#include "trainer/ddp.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <numeric>
#include <utility>

#include "trainer/agreement.hpp"

namespace llmlaunch::trainer {
namespace {

std::vector<Range> merged(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  std::vector<Range> result;
  for (const Range& range : ranges) {
    if (!result.empty() && result.back().first + result.back().count == range.first) {
      result.back().count += range.count;
    } else {
      result.push_back(range);
    }
  }
  return result;
}

std::vector<std::size_t> all_of(std::size_t count) {
  std::vector<std::size_t> result(count);
  std::iota(result.begin(), result.end(), std::size_t{0});
  return result;
}

/// "1-3,7"
std::string compressed(const std::vector<std::size_t>& ranks) {
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ",", ranks[i]);
    if (last > i) text += fmt::format("-{}", ranks[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace

BucketCaps bucket_caps(std::optional<double> cap_mb) {
  if (!cap_mb) return {};
  const auto bytes = static_cast<std::size_t>(*cap_mb * 1024 * 1024);
  return {.first_bytes = bytes, .bytes = bytes};
}

std::vector<Bucket> plan_buckets(std::span<const Range> places, std::span<const std::size_t> order, BucketCaps caps) {
  std::vector<Bucket> buckets;
  std::size_t bytes = 0;
  bool open = false;
  for (const std::size_t parameter : order) {
    if (!open) buckets.emplace_back();
    open = true;
    buckets.back().parameters.push_back(parameter);
    buckets.back().ranges.push_back(places[parameter]);
    bytes += places[parameter].count * sizeof(float);
    if (bytes >= (buckets.size() == 1 ? caps.first_bytes : caps.bytes)) {
      open = false;
      bytes = 0;
    }
  }
  for (Bucket& bucket : buckets) bucket.ranges = merged(std::move(bucket.ranges));
  return buckets;
}

GradientReducer::GradientReducer(Comm& comm, std::span<float> gradient, std::vector<Range> places, BucketCaps caps)
    : comm_(comm), gradient_(gradient), places_(std::move(places)), caps_(caps) {
  constexpr std::size_t kNoCap = static_cast<std::size_t>(-1);
  use(plan_buckets(places_, all_of(places_.size()), {.first_bytes = kNoCap, .bytes = kNoCap}));
}

void GradientReducer::use(std::vector<Bucket> buckets) {
  buckets_ = std::move(buckets);
  bucket_of_.assign(places_.size(), 0);
  missing_.clear();
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    for (const std::size_t parameter : buckets_[b].parameters) bucket_of_[parameter] = b;
    missing_.push_back(buckets_[b].parameters.size());
  }
  next_ = 0;
  order_.clear();
}

Result<void> GradientReducer::ready(std::size_t parameter) {
  assert(parameter < places_.size());
  assert(std::find(order_.begin(), order_.end(), parameter) == order_.end());
  order_.push_back(parameter);
  if (resumed_) return ok;
  --missing_[bucket_of_[parameter]];
  for (; next_ < buckets_.size() && missing_[next_] == 0; ++next_) {
    if (auto started = start(buckets_[next_]); !started) return started;
  }
  return ok;
}

Result<void> GradientReducer::start(const Bucket& bucket) {
  for (const Range& range : bucket.ranges) {
    if (auto started = comm_.start_all_reduce_mean(gradient_.subspan(range.first, range.count)); !started) {
      return started;
    }
  }
  return ok;
}

Result<void> GradientReducer::check_complete() const {
  if (order_.size() == places_.size()) return ok;
  for (std::size_t parameter = 0; parameter < places_.size(); ++parameter) {
    if (std::find(order_.begin(), order_.end(), parameter) != order_.end()) continue;
    return make_error(Errc::internal, fmt::format("the backward pass gave no gradient for parameter {}", parameter));
  }
  return ok;
}

Result<void> GradientReducer::finish_queued_step() {
  assert(rebuilt_);
  if (auto complete = check_complete(); !complete) return complete;
  if (auto joined = comm_.join(); !joined) return joined;
  use(std::move(buckets_));
  return ok;
}

Result<void> GradientReducer::finish_step() {
  if (auto complete = check_complete(); !complete) return complete;
  if (std::exchange(resumed_, false)) {
    if (auto planned = rebuild(); !planned) return planned;
    for (const Bucket& bucket : buckets_) {
      if (auto started = start(bucket); !started) return started;
    }
  }
  if (auto done = comm_.wait(); !done) return done;
  if (!rebuilt_) return rebuild();
  use(std::move(buckets_));
  return ok;
}

Result<void> GradientReducer::rebuild() {
  rebuilt_ = true;
  std::vector<std::uint32_t> mine(order_.begin(), order_.end());
  const auto all = comm_.all_gather(std::as_bytes(std::span(mine)));
  if (!all) return all.error();
  std::memcpy(mine.data(), all->front().data(), mine.size() * sizeof(std::uint32_t));
  const std::vector<std::size_t> order(mine.begin(), mine.end());
  use(plan_buckets(places_, order, caps_));
  return ok;
}

Result<void> check_equal_on_all_ranks(Comm& comm, const std::string& text, const std::string& subject) {
  const auto all = comm.all_gather(as_bytes(text));
  if (!all) return all.error();
  std::vector<std::size_t> others;
  for (std::size_t rank = 1; rank < all->size(); ++rank) {
    if ((*all)[rank] != all->front()) others.push_back(rank);
  }
  if (others.empty()) return ok;
  std::string what = fmt::format("{} differ: rank 0 has {}", subject, as_text(all->front()).substr(0, 16));
  for (const std::size_t rank : std::span(others).first(std::min<std::size_t>(others.size(), 4))) {
    what += fmt::format(", rank {} has {}", rank, as_text((*all)[rank]).substr(0, 16));
  }
  if (others.size() > 1) what += fmt::format(" ({} of {} ranks: {})", others.size(), all->size(), compressed(others));
  return told_once(
      comm,
      make_error(Errc::internal, what, {},
                 "the ranks must run the same program on the same data with the same flags; see their first lines"));
}

Result<std::vector<std::vector<double>>> gather_over_ranks(Comm& comm, std::span<const double> mine) {
  const auto all = comm.all_gather(std::as_bytes(mine));
  if (!all) return all.error();
  std::vector<std::vector<double>> result;
  for (const Bytes& bytes : *all) {
    result.emplace_back(mine.size());
    std::memcpy(result.back().data(), bytes.data(), bytes.size());
  }
  return result;
}

Result<std::vector<double>> sum_over_ranks(Comm& comm, std::span<const double> mine) {
  const auto all = gather_over_ranks(comm, mine);
  if (!all) return all.error();
  std::vector<double> sum(mine.size(), 0.0);
  for (const std::vector<double>& values : *all) {
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
  }
  return sum;
}

}  // namespace llmlaunch::trainer
