/// \file
/// The loops between oneDNN's operations, on one thread: dropout, relu's backward pass, the loss, AdamW. The numbers
/// are those of trainer/cuda/kernels.hpp up to rounding; dropout's masks are the same bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "trainer/backend.hpp"

namespace llmlaunch::trainer {

/// One layer's masks for the samples of a batch.
struct MaskChoice {
  std::uint64_t seed;
  std::uint32_t layer;
  SampleNumbers samples;
};

/// values (B, features): zeroes each value with probability `p` and multiplies the others by 1 / (1 - p). The mask of a
/// sample is that of philox.hpp.
void drop_out(std::span<float> values, std::size_t features, float p, const MaskChoice& choice);

/// Each value as the nearest number of bfloat16, which has 8 digits of the 24 of a float; the even one of equals.
void round_to_bf16(std::span<float> values);
/// Each value as the nearest of IEEE's half precision: 11 digits, multiples of 2^-24 below 2^-14, and infinity from
/// 65520 on.
void round_to_fp16(std::span<float> values);

/// gradient[i] × factor where output[i] > 0, else 0: backward through relu alone (factor 1), or through relu and then
/// dropout (factor 1 / (1 - p)) when `output` is what dropout left: what it dropped is 0, too.
void relu_backward(std::span<float> gradient, std::span<const float> output, float factor);

/// logits (B, 10) → the sums of -log_softmax[label] and of the labels that have the largest logit (the first of
/// equals).
BatchResult softmax_loss(std::span<const float> logits, std::span<const std::uint8_t> labels);
/// The gradient of the mean loss, times `scale`: (softmax - one hot) × scale / B.
void softmax_loss_backward(std::span<float> gradient, std::span<const float> logits,
                           std::span<const std::uint8_t> labels, float scale);

/// The 2-norm, added up in double.
double norm_of(std::span<const float> values);
/// Multiplies the values by `factor`; the 2-norm that they then have.
double scale_by(std::span<float> values, float factor);

/// Step `step` (from 1) of PyTorch's AdamW on all values: weight decay first, corrections in double. Equal sizes.
void adamw_step(std::span<float> parameters, std::span<float> first_moment, std::span<float> second_moment,
                std::span<const float> gradient, const AdamWOptions& options, double learning_rate, std::uint64_t step);

}  // namespace llmlaunch::trainer
