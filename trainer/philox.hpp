/// \file
/// Philox4x32-10, the counter-based generator of dropout's masks on CPU and GPU: four 32-bit numbers of a counter and a
/// key, without those before them, so that a mask depends on what it is for and not on who draws it when.
///
/// Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11; its published test vectors are in
/// tests/unit/trainer_philox_test.cpp.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define LLMLAUNCH_HOST_DEVICE __host__ __device__
#else
#define LLMLAUNCH_HOST_DEVICE
#endif

namespace llmlaunch::trainer {

struct PhiloxBlock {
  std::uint32_t word[4];
};
struct PhiloxKey {
  std::uint32_t low, high;
};

namespace philox_detail {
inline constexpr std::uint32_t kMultiplier0 = 0xd2511f53U, kMultiplier1 = 0xcd9e8d57U;
inline constexpr std::uint32_t kWeyl0 = 0x9e3779b9U, kWeyl1 = 0xbb67ae85U;
inline constexpr int kRounds = 10;
}  // namespace philox_detail

LLMLAUNCH_HOST_DEVICE constexpr PhiloxBlock philox(PhiloxBlock counter, PhiloxKey key) {
  for (int round = 0; round < philox_detail::kRounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{philox_detail::kMultiplier0} * counter.word[0];
    const std::uint64_t product1 = std::uint64_t{philox_detail::kMultiplier1} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32U) ^ counter.word[1] ^ key.low,
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32U) ^ counter.word[3] ^ key.high,
                static_cast<std::uint32_t>(product0)}};
    key = {key.low + philox_detail::kWeyl0, key.high + philox_detail::kWeyl1};
  }
  return counter;
}

/// Which values of a layer one sample keeps: value i of layer `layer` takes word i % 4 of block i / 4.
struct MaskKey {
  std::uint64_t seed;
  std::uint64_t sample;
  std::uint32_t layer;
};
LLMLAUNCH_HOST_DEVICE constexpr PhiloxBlock mask_block(const MaskKey& key, std::uint32_t block) {
  return philox(
      {{block, key.layer, static_cast<std::uint32_t>(key.sample), static_cast<std::uint32_t>(key.sample >> 32U)}},
      {static_cast<std::uint32_t>(key.seed), static_cast<std::uint32_t>(key.seed >> 32U)});
}
/// Whether the value that got `word` is dropped, with probability p.
LLMLAUNCH_HOST_DEVICE constexpr bool is_dropped(std::uint32_t word, float p) {
  return static_cast<float>(word >> 8U) * 0x1p-24F < p;
}

}  // namespace llmlaunch::trainer
