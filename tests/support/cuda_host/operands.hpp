/// \file
/// Arrays of the device as the emulated libraries read and write them: floats or halves, rounded as the mode of
/// computing says.
#pragma once

#include <cuda_fp16.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "tests/support/cuda_host/gemm.hpp"

namespace cuda_host {

enum class Rounding { none, tf32, bf16 };

/// `count` values in a copy of the host's.
inline std::vector<float> read_operand(const void* from, bool is_half, std::size_t count, Rounding rounding) {
  std::vector<float> values(count);
  if (is_half) {
    const auto* const halves = static_cast<const __half*>(from);
    for (std::size_t i = 0; i < count; ++i) values[i] = __half2float(halves[i]);
    return values;
  }
  const auto* const floats = static_cast<const float*>(from);
  std::copy_n(floats, count, values.begin());
  if (rounding == Rounding::tf32) std::transform(values.begin(), values.end(), values.begin(), nearest_tf32);
  if (rounding == Rounding::bf16) std::transform(values.begin(), values.end(), values.begin(), nearest_bf16);
  return values;
}

inline void write_result(void* to, bool is_half, const std::vector<float>& values) {
  if (!is_half) {
    std::copy(values.begin(), values.end(), static_cast<float*>(to));
    return;
  }
  auto* const halves = static_cast<__half*>(to);
  for (std::size_t i = 0; i < values.size(); ++i) halves[i] = __float2half_rn(values[i]);
}

/// A library writes its workspace as it likes: what else lies there is lost.
inline void scribble(void* workspace, std::size_t bytes) {
  constexpr std::size_t kEnough = 4096;
  auto* const first = static_cast<unsigned char*>(workspace);
  std::fill_n(first, std::min(bytes, kEnough), 0xff);
  std::fill_n(first + bytes - std::min(bytes, kEnough), std::min(bytes, kEnough), 0xff);
}

}  // namespace cuda_host
