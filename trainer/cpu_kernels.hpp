/// \file
/// The loops between oneDNN's operations, on one thread: dropout, relu's backward pass, the loss, AdamW. The numbers
/// are those of trainer/cuda/kernels.hpp up to rounding; dropout's masks are the same bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "trainer/backend.hpp"

namespace llmlaunch::trainer {

/// Zeroes each value with probability `p` and multiplies the others by 1 / (1 - p). The mask depends on `seed`, `draw`
/// and the position of the value only.
void drop_out(std::span<float> values, float p, std::uint64_t seed, std::uint64_t draw);

/// gradient[i] × factor where output[i] > 0, else 0: backward through relu alone (factor 1), or through relu and then
/// dropout (factor 1 / (1 - p)) when `output` is what dropout left: what it dropped is 0, too.
void relu_backward(std::span<float> gradient, std::span<const float> output, float factor);

/// logits (B, 10) → the sums of -log_softmax[label] and of the labels that have the largest logit (the first of
/// equals).
BatchResult softmax_loss(std::span<const float> logits, std::span<const std::uint8_t> labels);
/// The gradient of the mean loss: (softmax - one hot) / B.
void softmax_loss_backward(std::span<float> gradient, std::span<const float> logits,
                           std::span<const std::uint8_t> labels);

/// Step `step` (from 1) of PyTorch's AdamW on all values: weight decay first, corrections in double. Equal sizes.
void adamw_step(std::span<float> parameters, std::span<float> first_moment, std::span<float> second_moment,
                std::span<const float> gradient, const AdamWOptions& options, std::uint64_t step);

}  // namespace llmlaunch::trainer
