/// \file
/// The trainer's own random numbers: by counter, so that number i of a key can be had without those before it, and the
/// same on every machine, in every library version and on the GPU. For shuffles, weights, masks and drawn digits; not
/// for secrets.
#pragma once

#include <cstdint>

namespace llmlaunch::trainer {

/// 64 well mixed bits of a counter: the finaliser of SplitMix64, as in trainer/cuda/kernels.cu.
constexpr std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31U);
}

/// Number `index` of the sequence of `key`.
constexpr std::uint64_t random_bits(std::uint64_t key, std::uint64_t index) {
  return mixed(key ^ mixed(index));
}

/// The upper 24 bits as a number in [0, 1), exact in a float.
constexpr float unit_interval(std::uint64_t bits) {
  return static_cast<float>(bits >> 40U) * 0x1p-24F;
}

/// The sequence of one key, number after number.
class RandomSequence {
 public:
  constexpr explicit RandomSequence(std::uint64_t key) : key_(mixed(key)) {}
  constexpr std::uint64_t bits() { return random_bits(key_, index_++); }
  /// 0 … limit - 1; `limit` from 1. The upper 32 bits, scaled: uneven by less than limit / 2^32.
  constexpr std::uint32_t below(std::uint32_t limit) {
    return static_cast<std::uint32_t>(((bits() >> 32U) * limit) >> 32U);
  }
  /// In [low, high).
  constexpr float between(float low, float high) { return low + (high - low) * unit_interval(bits()); }

 private:
  std::uint64_t key_;
  std::uint64_t index_ = 0;
};

}  // namespace llmlaunch::trainer
