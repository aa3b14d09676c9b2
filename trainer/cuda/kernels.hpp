/// \file
/// The GPU kernels between the libraries' big operations, as plain functions that queue one kernel on a stream. fp32,
/// (B, C, H, W) as on the CPU. Arrays of activations and gradients begin at addresses that 16 divides. Every sum has a
/// fixed order, so that a run repeats bit for bit.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace llmlaunch::trainer::cuda {

/// One AdamW step, weight decay first. `share1` = 1 - beta1 and `share2` = 1 - beta2, which in float would lose digits;
/// `step_size` = lr / (1 - beta1^t), `root_correction` = √(1 - beta2^t).
struct AdamWStep {
  float decay, share1, beta2, share2, epsilon, step_size, root_correction;
};

/// What changes from step to step, for kernels that are launched with the same arguments each time: they read it from
/// the device's memory.
struct StepNumbers {
  std::uint64_t first_position;  ///< of the step's images in the order
  std::uint64_t first_sample;    ///< as SampleNumbers::first
  std::uint64_t slot;            ///< where its losses are kept
  AdamWStep adamw;
};

/// *current = steps[*next], and *next + 1.
void next_step(StepNumbers* current, const StepNumbers* steps, std::uint64_t* next, cudaStream_t stream);

/// A data set in the device's memory: bytes (N, 784), labels (N), an epoch's order, and what each byte is as a number.
struct ResidentImages {
  const std::uint8_t* pixels;
  const std::uint8_t* labels;
  const std::uint32_t* order;
  const float* normalised;  // (256)
};
/// images (batch, 784) and labels (batch): those of the order from current->first_position on.
void gather(float* images, std::uint8_t* labels, const ResidentImages& from, const StepNumbers* current,
            std::size_t batch, cudaStream_t stream);

/// values (B, C, HW): adds bias[c], then clips below 0.
void add_bias_relu(float* values, const float* bias, std::size_t batch, std::size_t channels, std::size_t area,
                   cudaStream_t stream);
/// values (B, C, HW): adds bias[c].
void add_bias(float* values, const float* bias, std::size_t batch, std::size_t channels, std::size_t area,
              cudaStream_t stream);
/// Clips below 0.
void relu(float* values, std::size_t count, cudaStream_t stream);
/// gradient[i] × factor where output[i] > 0, else 0: backward through relu alone (factor 1), or through relu and then
/// dropout (factor 1 / (1 - p)) when `output` is what dropout left.
void relu_backward(float* gradient, const float* output, float factor, std::size_t count, cudaStream_t stream);

/// What a gradient passes: output[i] > 0, where it is multiplied by `factor`, else it is 0. None where `output` is
/// null.
struct Gate {
  const float* output = nullptr;
  float factor = 1;
};

/// One image of a pool's input, height and width even.
struct PoolShape {
  std::size_t channels, height, width;
};
/// in (B, C, H, W) → out (B, C, H/2, W/2), and which of the four was taken: the first of equals. With `bias`, unless
/// null, that of its channel is added to each value before, and the sum clipped below 0; `in` stays what it is.
void max_pool(float* out, std::uint8_t* taken, const float* in, const float* bias, std::size_t batch,
              const PoolShape& shape, cudaStream_t stream);
/// The gradient of max_pool's input: what of out_gradient passes the gate, where it was taken, else 0.
void max_pool_backward(float* in_gradient, const float* out_gradient, const std::uint8_t* taken, const Gate& gate,
                       std::size_t batch, const PoolShape& shape, cudaStream_t stream);

/// images (B, 1, 28, 28) and weight (C, 1, 3, 3) → out (B, C, 26, 26), plus `bias` unless that is null, and clipped
/// below 0 if `relu`. cuDNN would make a product of matrices of it, of which one has 9 rows; this reads each image
/// once, and rounds no operand.
void convolve_images(float* out, const float* images, const float* weight, const float* bias, bool relu,
                     std::size_t batch, std::size_t channels, cudaStream_t stream);
/// The gradients of its weights (C, 3, 3), and behind them those of its biases (C), into `sums`, for what of the
/// `gradient` of `out` passes the gate. `of_parts` holds (10 C, image_parts(B)) values.
std::size_t image_parts(std::size_t batch);
void convolve_images_backward(float* sums, float* of_parts, const float* images, const float* gradient,
                              const Gate& gate, std::size_t batch, std::size_t channels, cudaStream_t stream);

/// The masks of philox.hpp for the samples first_sample, first_sample + stride, …; unless null, current->first_sample
/// counts instead.
struct MaskSeries {
  std::uint64_t seed, first_sample, stride;
  std::uint32_t layer;
  const StepNumbers* current = nullptr;
};
/// values (batch, features), features a multiple of 4: keeps each value with probability 1 - p, times 1 / (1 - p). With
/// `bias` (features), unless null, that is added before, and the sum clipped below 0.
void dropout(float* values, const float* bias, std::size_t batch, std::size_t features, float p,
             const MaskSeries& masks, cudaStream_t stream);

/// Where the losses of many steps wait: kept[current->slot × B + b]. `halted`, unless null, becomes 1 with the first
/// that is not finite.
struct KeptLosses {
  const StepNumbers* current = nullptr;
  float* kept = nullptr;
  int* halted = nullptr;
};
/// logits (B, C ≤ 32), to which `bias` (C) is added before unless it is null → losses[b] = -log_softmax[label],
/// correct[b] = 1 when the label has the largest logit, and, unless null, gradient = (softmax - one hot) × scale. With
/// `keep.kept` the losses go there, too.
void softmax_loss(float* losses, std::int32_t* correct, float* gradient, float* logits, const float* bias,
                  const std::uint8_t* labels, std::size_t batch, std::size_t classes, float scale,
                  const KeptLosses& keep, cudaStream_t stream);

/// A channel's values are added up in so many parts, each by a block, so that few channels keep all of a GPU busy.
std::size_t parts_per_channel(std::size_t batch, std::size_t area);
/// sums[c] = Σ over b and area of values (B, C, area), in an order that B and area alone say. Where there are several
/// parts `of_parts` holds (C, parts) values.
void sum_per_channel(float* sums, float* of_parts, const float* values, std::size_t batch, std::size_t channels,
                     std::size_t area, cudaStream_t stream);

/// values[i] += more[i].
void add(float* values, const float* more, std::size_t count, cudaStream_t stream);
/// values[i] *= factor.
void scale(float* values, float factor, std::size_t count, cudaStream_t stream);
/// kSquareSums sums of squares; all of them together are that of the values.
inline constexpr std::size_t kSquareSums = 256;
void sum_squares(double* sums, const float* values, std::size_t count, cudaStream_t stream);
/// values[i] *= factor, and the sums of what they then are.
void scale_and_sum_squares(double* sums, float* values, float factor, std::size_t count, cudaStream_t stream);

/// halves[i] = the nearest half of values[i], infinity from 65520 on.
void to_halves(__half* halves, const float* values, std::size_t count, cudaStream_t stream);
void from_halves(float* values, const __half* halves, std::size_t count, cudaStream_t stream);
/// Each value as the nearest half.
void round_to_fp16(float* values, std::size_t count, cudaStream_t stream);
/// values (B, C, HW): adds bias[c] as a half, clips below 0 where `relu` is true, and rounds to the nearest half.
void add_bias_in_fp16(float* values, const float* bias, bool relu, std::size_t batch, std::size_t channels,
                      std::size_t area, cudaStream_t stream);

/// The arrays of one model, `count` values each, from addresses that 16 divides.
struct AdamWArrays {
  float *parameters, *first_moment, *second_moment;
  const float* gradient;
  std::size_t count;
};
void adamw(const AdamWArrays& arrays, const AdamWStep& step, cudaStream_t stream);
/// The same by current->adamw; nothing where *halted is not 0.
void adamw(const AdamWArrays& arrays, const StepNumbers* current, const int* halted, cudaStream_t stream);

}  // namespace llmlaunch::trainer::cuda
