/// \file
/// The product of two matrices of floats on one core, for the emulated cuBLAS and cuDNN; and the roundings that tensor
/// cores give to operands.
#pragma once

#include <cstddef>

namespace cuda_host {

/// An operand, after its transposition: value (i, j) is values[i * row_step + j * column_step].
struct Matrix {
  const float* values;
  std::size_t row_step, column_step;
};
/// out (m, n) = a (m, k) · b (k, n), or added to it. Rows of `out` are `out_step` apart. Sums are floats, and their
/// order depends on k alone.
void multiply(float* out, std::size_t out_step, const Matrix& a, const Matrix& b, std::size_t m, std::size_t n,
              std::size_t k, bool add);

/// To 10 bits behind the point, the nearest, ties away from 0, as cvt.rna.tf32 does.
float nearest_tf32(float value);
/// To 7 bits behind the point, the nearest, ties to even.
float nearest_bf16(float value);

}  // namespace cuda_host
