// Sums in memory that the ranks have in common; who waits for a counter sleeps on it (futex).
#include "trainer/shared_memory_all_reduce.hpp"

#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <climits>
#include <cstring>
#include <utility>

namespace llmlaunch::trainer {
namespace {

constexpr std::size_t kLineFloats = 16;  // of a cache line
// 256 KiB. 4.8 MB over two ranks in chunks of 64 KiB to 1 MiB took 1.66, 1.37, 1.19, 1.12 and 1.31 ms: small ones are
// waited for more often, large ones leave the caches.
constexpr std::size_t kChunkFloats = 64 * 1024;
constexpr std::uint32_t kSlots = 4;         // a power of two, as rounds begin again after 2^32
constexpr std::size_t kBlockFloats = 2048;  // what is added up at once: stays in the first cache
// How late a waiting rank sees that another one is gone. The kernel wakes it when there is something to do.
constexpr std::chrono::milliseconds kLookAround{20};

// A lock would be this process's own, and others would not see it.
static_assert(std::atomic_ref<std::uint32_t>::is_always_lock_free &&
              std::atomic_ref<std::uint64_t>::is_always_lock_free);
static_assert((kSlots & (kSlots - 1)) == 0 && kSlots >= 4);

std::size_t rounded_up(std::size_t value, std::size_t step) {
  return (value + step - 1) / step * step;
}

std::uint32_t load(std::uint32_t& word) {
  return std::atomic_ref(word).load(std::memory_order_acquire);
}

/// Returns when the word is another, or soon.
void sleep_on(std::uint32_t& word, std::uint32_t seen, std::chrono::nanoseconds limit) {
  const timespec time{0, static_cast<long>(limit.count())};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, &time, nullptr, 0);
}

void scale_into(float* __restrict to, const float* __restrict from, std::size_t count, float scale) {
  for (std::size_t i = 0; i < count; ++i) to[i] = from[i] * scale;
}

void sum_into(float* __restrict to, const float* __restrict one, const float* __restrict other, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to[i] = one[i] + other[i];
}

void add_to(float* __restrict to, const float* __restrict other, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to[i] += other[i];
}

}  // namespace

/// What a rank says; alone in two cache lines, as processors fetch pairs of them.
struct alignas(128) SharedMemoryAllReduce::Control {
  std::uint32_t round;   // rounds that are done
  std::uint64_t values;  // of the all-reduce under way
};

std::size_t SharedMemoryAllReduce::bytes(std::uint32_t world_size) {
  return world_size * (sizeof(Control) + kSlots * kChunkFloats * sizeof(float));
}

SharedMemoryAllReduce::SharedMemoryAllReduce(SharedMemoryGroup group, std::uint32_t rank)
    : group_(std::move(group)),
      rank_(rank),
      world_size_(static_cast<std::uint32_t>(group_.others.size())),
      scale_(1.0F / static_cast<float>(world_size_)) {
  assert(world_size_ >= 2 && group_.memory.size() == bytes(world_size_));
}

SharedMemoryAllReduce::Control& SharedMemoryAllReduce::control(std::uint32_t rank) const {
  return reinterpret_cast<Control*>(group_.memory.data())[rank];
}

float* SharedMemoryAllReduce::slot(std::uint32_t rank, std::uint32_t round) const {
  const auto slots = reinterpret_cast<float*>(group_.memory.data() + world_size_ * sizeof(Control));
  return slots + (std::size_t{rank} * kSlots + round % kSlots) * kChunkFloats;
}

/// What of a chunk a rank adds up: a run of whole cache lines; small chunks leave the last ranks none.
std::span<float> SharedMemoryAllReduce::part(std::span<float> chunk, std::uint32_t rank) const {
  const std::size_t length = rounded_up((chunk.size() + world_size_ - 1) / world_size_, kLineFloats);
  const std::size_t first = std::min(rank * length, chunk.size());
  return chunk.subspan(first, std::min(length, chunk.size() - first));
}

void SharedMemoryAllReduce::scatter(std::span<float> chunk, std::uint32_t round) const {
  float* const to = slot(rank_, round);
  for (std::uint32_t other = 0; other < world_size_; ++other) {
    if (other == rank_) continue;
    const auto theirs = part(chunk, other);
    scale_into(to + (theirs.data() - chunk.data()), theirs.data(), theirs.size(), scale_);
  }
}

void SharedMemoryAllReduce::add_up(std::span<float> chunk, std::uint32_t round) const {
  const auto mine = part(chunk, rank_);
  alignas(64) float own[kBlockFloats];
  for (std::size_t first = 0; first < mine.size(); first += kBlockFloats) {
    const auto block = mine.subspan(first, std::min(kBlockFloats, mine.size() - first));
    const auto at = block.data() - chunk.data();
    const auto from = [&](std::uint32_t rank) -> const float* { return rank == rank_ ? own : slot(rank, round) + at; };
    float* const sum = slot(rank_, round) + at;
    scale_into(own, block.data(), block.size(), scale_);
    sum_into(sum, from(0), from(1), block.size());
    for (std::uint32_t rank = 2; rank < world_size_; ++rank) add_to(sum, from(rank), block.size());
    std::memcpy(block.data(), sum, block.size_bytes());
  }
}

void SharedMemoryAllReduce::gather(std::span<float> chunk, std::uint32_t round) const {
  for (std::uint32_t other = 0; other < world_size_; ++other) {
    if (other == rank_) continue;
    const auto theirs = part(chunk, other);
    if (theirs.empty()) continue;
    std::memcpy(theirs.data(), slot(other, round) + (theirs.data() - chunk.data()), theirs.size_bytes());
  }
}

void SharedMemoryAllReduce::publish() {
  std::uint32_t& word = control(rank_).round;
  std::atomic_ref(word).store(++round_, std::memory_order_seq_cst);
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

std::optional<AllReduceFailure> SharedMemoryAllReduce::mean(std::span<float> values,
                                                            std::chrono::milliseconds timeout) {
  const TimePoint deadline = std::chrono::steady_clock::now() + timeout;
  const std::size_t chunks = std::max<std::size_t>(1, (values.size() + kChunkFloats - 1) / kChunkFloats);
  const auto chunk = [&](std::size_t index) {
    const std::size_t first = index * kChunkFloats;
    return values.subspan(first, std::min(kChunkFloats, values.size() - first));
  };
  std::atomic_ref(control(rank_).values).store(values.size(), std::memory_order_relaxed);
  const std::uint32_t last_round = round_ + static_cast<std::uint32_t>(chunks) + 2;
  for (std::size_t step = 0; step < chunks + 2; ++step) {
    if (step < chunks) scatter(chunk(step), round_);
    if (auto failure = wait_for_all(last_round, deadline)) return failure;
    if (step == 1) {
      if (auto failure = compare_sizes(values.size())) return failure;
    }
    if (step >= 1 && step <= chunks) add_up(chunk(step - 1), round_ - 1);
    if (step >= 2) gather(chunk(step - 2), round_ - 2);
    publish();
  }
  return {};
}

std::optional<AllReduceFailure> SharedMemoryAllReduce::wait_for_all(std::uint32_t last_round,
                                                                    TimePoint deadline) const {
  for (std::uint32_t other = 0; other < world_size_; ++other) {
    if (other == rank_) continue;
    std::uint32_t& theirs = control(other).round;
    TimePoint look_around = std::chrono::steady_clock::now() + kLookAround;
    // A rank is in this round or has done it; it cannot do the next one before this rank.
    for (std::uint32_t seen = load(theirs); seen - round_ > 1; seen = load(theirs)) {
      const TimePoint now = std::chrono::steady_clock::now();
      if (now >= look_around) {
        if (auto ranks = lost(last_round); !ranks.empty()) return AllReduceFailure{Errc::closed, std::move(ranks)};
        look_around = now + kLookAround;
      }
      if (now >= deadline) return AllReduceFailure{Errc::timed_out, {}};
      sleep_on(theirs, seen, std::min(look_around, deadline) - now);
    }
  }
  return {};
}

/// Ranks that are gone and have not done all rounds of this all-reduce.
std::vector<std::uint32_t> SharedMemoryAllReduce::lost(std::uint32_t last_round) const {
  std::vector<pollfd> looks;
  for (const UniqueFd& other : group_.others) looks.push_back({other.value(), 0, 0});  // none: poll passes over it
  std::vector<std::uint32_t> ranks;
  if (::poll(looks.data(), looks.size(), 0) <= 0) return ranks;
  for (std::uint32_t rank = 0; rank < world_size_; ++rank) {
    if (looks[rank].revents != 0 && load(control(rank).round) != last_round) ranks.push_back(rank);
  }
  return ranks;
}

/// Nobody changes the number before all have done the round in which it is compared.
std::optional<AllReduceFailure> SharedMemoryAllReduce::compare_sizes(std::uint64_t values) const {
  for (std::uint32_t other = 0; other < world_size_; ++other) {
    if (other == rank_) continue;
    const std::uint64_t theirs = std::atomic_ref(control(other).values).load(std::memory_order_relaxed);
    if (theirs != values) return AllReduceFailure{Errc::internal, {other}, theirs};
  }
  return {};
}

}  // namespace llmlaunch::trainer
