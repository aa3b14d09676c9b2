// Blocks of both operands are laid out so that the innermost loop reads them in order, and keeps 6 × 16 sums in
// registers. Compiled with optimization in every build, and for processors with AVX2 a second time.
#include "tests/support/cuda_host/gemm.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

namespace cuda_host {
namespace {

constexpr std::size_t kRows = 6, kColumns = 16;                                // of the innermost loop's result
constexpr std::size_t kDeep = 256, kHigh = 16 * kRows, kWide = 64 * kColumns;  // of what is laid out at once

using Eight = float __attribute__((vector_size(32)));

struct Panels {
  std::vector<float> a = std::vector<float>(kDeep * kHigh);
  std::vector<float> b = std::vector<float>(kDeep * kWide);
};

/// rows × deep of `from`, in stripes of `stripe` rows: all their first values, all their second ones; missing rows are
/// 0.
void lay_out(float* to, const Matrix& from, std::size_t rows, std::size_t deep, std::size_t stripe) {
  for (std::size_t first = 0; first < rows; first += stripe) {
    const std::size_t there = std::min(stripe, rows - first);
    for (std::size_t d = 0; d < deep; ++d) {
      const float* source = from.values + first * from.row_step + d * from.column_step;
      for (std::size_t r = 0; r < there; ++r) to[r] = source[r * from.row_step];
      for (std::size_t r = there; r < stripe; ++r) to[r] = 0;
      to += stripe;
    }
  }
}

__attribute__((always_inline)) inline void innermost(float* sums, const float* a, const float* b, std::size_t deep) {
  Eight sum[kRows][2] = {};
  for (std::size_t d = 0; d < deep; ++d) {
    Eight left;
    Eight right;
    std::memcpy(&left, b, sizeof left);
    std::memcpy(&right, b + 8, sizeof right);
#pragma GCC unroll 6
    for (std::size_t r = 0; r < kRows; ++r) {
      const Eight factor = {a[r], a[r], a[r], a[r], a[r], a[r], a[r], a[r]};
      sum[r][0] += factor * left;
      sum[r][1] += factor * right;
    }
    a += kRows;
    b += kColumns;
  }
  std::memcpy(sums, sum, sizeof sum);
}

void innermost_plain(float* sums, const float* a, const float* b, std::size_t deep) {
  innermost(sums, a, b, deep);
}
using Innermost = void (*)(float*, const float*, const float*, std::size_t);

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void innermost_avx2(float* sums, const float* a, const float* b, std::size_t deep) {
  innermost(sums, a, b, deep);  // compiled for these instructions here
}
Innermost best() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? innermost_avx2 : innermost_plain;
}
#else
Innermost best() {
  return innermost_plain;
}
#endif

}  // namespace

void multiply(float* out, std::size_t out_step, const Matrix& a, const Matrix& b, std::size_t m, std::size_t n,
              std::size_t k, bool add) {
  static const Innermost kInnermost = best();
  thread_local Panels panels;
  alignas(64) float sums[kRows * kColumns];
  for (std::size_t d = 0; d < k; d += kDeep) {
    const std::size_t deep = std::min(kDeep, k - d);
    const bool adds = add || d > 0;
    for (std::size_t w = 0; w < n; w += kWide) {
      const std::size_t wide = std::min(kWide, n - w);
      lay_out(panels.b.data(), {b.values + d * b.row_step + w * b.column_step, b.column_step, b.row_step}, wide, deep,
              kColumns);
      for (std::size_t h = 0; h < m; h += kHigh) {
        const std::size_t high = std::min(kHigh, m - h);
        lay_out(panels.a.data(), {a.values + h * a.row_step + d * a.column_step, a.row_step, a.column_step}, high, deep,
                kRows);
        for (std::size_t j = 0; j < wide; j += kColumns) {
          for (std::size_t i = 0; i < high; i += kRows) {
            kInnermost(sums, panels.a.data() + i * deep, panels.b.data() + j * deep, deep);
            const std::size_t columns = std::min(kColumns, wide - j);
            for (std::size_t r = 0; r < std::min(kRows, high - i); ++r) {
              float* const row = out + (h + i + r) * out_step + w + j;
              const float* const sum = sums + r * kColumns;
              for (std::size_t c = 0; c < columns; ++c) row[c] = adds ? row[c] + sum[c] : sum[c];
            }
          }
        }
      }
    }
  }
}

float nearest_tf32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7f800000U) == 0x7f800000U) return value;
  return std::bit_cast<float>((bits + 0x1000U) & ~0x1fffU);
}

float nearest_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7f800000U) == 0x7f800000U) return value;
  return std::bit_cast<float>((bits + 0x7fffU + (bits >> 16U & 1U)) & ~0xffffU);
}

}  // namespace cuda_host
