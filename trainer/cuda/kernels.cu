// The kernels of kernels.hpp: one thread per element, or one block per sum. None knows the model.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "trainer/cuda/kernels.hpp"
#include "trainer/cuda/launch.cuh"
#include "trainer/philox.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

constexpr unsigned kThreads = 256;

unsigned blocks_for(std::size_t count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}

__device__ std::size_t element() {
  return static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__global__ void next_step_kernel(StepNumbers* current, const StepNumbers* steps, std::uint64_t* next) {
  *current = steps[*next];
  ++*next;
}

constexpr std::size_t kPixels = 28 * 28;

__global__ void gather_kernel(float* images, std::uint8_t* labels, ResidentImages from, const StepNumbers* current,
                              std::size_t count) {
  const std::size_t i = element();
  if (i >= count) return;
  const std::size_t b = i / kPixels;
  const std::size_t position = from.order[current->first_position + b];
  images[i] = from.normalised[from.pixels[position * kPixels + i % kPixels]];
  if (i % kPixels == 0) labels[b] = from.labels[position];
}

/// relu, of what is not a number, too: fmaxf would make 0 of that, and the loss would not know.
__device__ float above_0(float value) {
  return value < 0.0F ? 0.0F : value;
}

/// Values that a thread takes at once, by one load of 16 bytes.
constexpr std::size_t kAtOnce = 4;

/// Whether 32 bits hold the number of every value, and of every thread behind the last. Divisions by 64 bits take
/// several times as long.
bool is_short(std::size_t count) {
  return count <= std::numeric_limits<std::uint32_t>::max() - kThreads;
}

template <bool kRelu>
__device__ float with_bias(float value, float bias) {
  return kRelu ? above_0(value + bias) : value + bias;
}

template <bool kRelu>
__global__ void add_bias_kernel(float* values, const float* bias, std::size_t count, std::size_t channels,
                                std::size_t area) {
  const std::size_t i = element();
  if (i < count) values[i] = with_bias<kRelu>(values[i], bias[i / area % channels]);
}

/// The same for areas of a multiple of 4 values: a thread's four have one bias.
template <bool kRelu>
__global__ void add_bias_to_fours_kernel(float4* values, const float* bias, std::uint32_t count, std::uint32_t channels,
                                         std::uint32_t area) {
  const auto i = static_cast<std::uint32_t>(element());
  if (i >= count) return;
  const float b = bias[i / area % channels];
  const float4 v = values[i];
  values[i] = {with_bias<kRelu>(v.x, b), with_bias<kRelu>(v.y, b), with_bias<kRelu>(v.z, b), with_bias<kRelu>(v.w, b)};
}

template <bool kRelu>
void queue_add_bias(float* values, const float* bias, std::size_t batch, std::size_t channels, std::size_t area,
                    cudaStream_t stream) {
  const std::size_t count = batch * channels * area;
  if (area % kAtOnce == 0 && is_short(count)) {
    const auto fours = static_cast<std::uint32_t>(count / kAtOnce);
    launch(add_bias_to_fours_kernel<kRelu>, blocks_for(fours), kThreads, stream, reinterpret_cast<float4*>(values),
           bias, fours, static_cast<std::uint32_t>(channels), static_cast<std::uint32_t>(area / kAtOnce));
  } else {
    launch(add_bias_kernel<kRelu>, blocks_for(count), kThreads, stream, values, bias, count, channels, area);
  }
}

__global__ void relu_kernel(float* values, std::size_t count) {
  const std::size_t i = element();
  if (i < count) values[i] = above_0(values[i]);
}

constexpr unsigned kSide = 3;              // of the kernels that images are convolved with
constexpr unsigned kTaps = kSide * kSide;  // its weights
constexpr unsigned kChannelsAtOnce = 8;    // of one block
constexpr unsigned kImageSide = 28;
constexpr unsigned kPlaces = kImageSide - kSide + 1;
constexpr unsigned kPlaneArea = kPlaces * kPlaces;

__device__ void load_image(float* image, const float* from) {
  for (unsigned i = threadIdx.x; i < kPixels; i += kThreads) image[i] = from[i];
}

/// The nine pixels under the kernel at place p, in the order of its weights.
__device__ void load_taps(float (&taps)[kTaps], const float* image, unsigned p) {
  const float* const corner = image + p / kPlaces * kImageSide + p % kPlaces;
  for (unsigned t = 0; t < kTaps; ++t) taps[t] = corner[t / kSide * kImageSide + t % kSide];
}

/// One block per image and kChannelsAtOnce channels.
__global__ void convolve_images_kernel(float* out, const float* images, const float* weight, const float* bias,
                                       bool relu, unsigned channels) {
  __shared__ float image[kPixels];
  __shared__ float weights[kChannelsAtOnce * kTaps];
  const unsigned groups = (channels + kChannelsAtOnce - 1) / kChannelsAtOnce;
  const std::size_t b = blockIdx.x / groups;
  const unsigned first = blockIdx.x % groups * kChannelsAtOnce;
  const unsigned here = channels - first < kChannelsAtOnce ? channels - first : kChannelsAtOnce;
  load_image(image, images + b * kPixels);
  if (threadIdx.x < here * kTaps) weights[threadIdx.x] = weight[first * kTaps + threadIdx.x];
  __syncthreads();
  float* const to = out + (b * channels + first) * kPlaneArea;
  for (unsigned p = threadIdx.x; p < kPlaneArea; p += kThreads) {
    float taps[kTaps];
    load_taps(taps, image, p);
    for (unsigned c = 0; c < here; ++c) {
      float sum = 0.0F;
      for (unsigned t = 0; t < kTaps; ++t) sum += taps[t] * weights[c * kTaps + t];
      if (bias != nullptr) sum += bias[first + c];
      to[c * kPlaneArea + p] = relu ? above_0(sum) : sum;
    }
  }
}

/// What a gate lets through.
__device__ float passed(float gradient, float output, float factor) {
  return output > 0.0F ? gradient * factor : 0.0F;
}

__global__ void relu_backward_kernel(float* gradient, const float* output, float factor, std::size_t count) {
  const std::size_t i = element();
  if (i < count) gradient[i] = passed(gradient[i], output[i], factor);
}

__global__ void relu_backward_fours_kernel(float4* gradient, const float4* output, float factor, std::size_t count) {
  const std::size_t i = element();
  if (i >= count) return;
  const float4 g = gradient[i];
  const float4 o = output[i];
  gradient[i] = {passed(g.x, o.x, factor), passed(g.y, o.y, factor), passed(g.z, o.z, factor),
                 passed(g.w, o.w, factor)};
}

/// Where a window of 2 × 2 begins, by the number of its output.
template <class Index>
struct Window {
  std::size_t corner, width;
  Index plane;
  __device__ Window(Index i, Index out_height, Index out_width) : width(std::size_t{2} * out_width) {
    const Index row = i / out_width;
    plane = row / out_height;
    corner = std::size_t{2} * row * width + std::size_t{2} * (i % out_width);
  }
};

// Two values beside one another, from an even place on.
__device__ float2 two(const float* values, std::size_t first) {
  return *reinterpret_cast<const float2*>(values + first);
}
__device__ void put_two(float* values, std::size_t first, float2 both) {
  *reinterpret_cast<float2*>(values + first) = both;
}

template <class Index>
__global__ void max_pool_kernel(float* out, std::uint8_t* taken, const float* in, const float* bias, Index count,
                                Index channels, Index out_height, Index out_width) {
  const auto i = static_cast<Index>(element());
  if (i >= count) return;
  const Window<Index> window(i, out_height, out_width);
  const float2 upper = two(in, window.corner);
  const float2 lower = two(in, window.corner + window.width);
  float four[4] = {upper.x, upper.y, lower.x, lower.y};
  if (bias != nullptr) {
    const float b = bias[window.plane % channels];
    for (float& value : four) value = with_bias<true>(value, b);
  }
  std::uint8_t best = 0;
  float most = four[0];
  for (std::uint8_t k = 1; k < 4; ++k) {
    if (!(four[k] > most) && !isnan(four[k])) continue;
    best = k;
    most = four[k];
  }
  out[i] = most;
  taken[i] = best;
}

template <class Index>
__global__ void max_pool_backward_kernel(float* in_gradient, const float* out_gradient, const std::uint8_t* taken,
                                         Gate gate, Index count, Index out_height, Index out_width) {
  const auto i = static_cast<Index>(element());
  if (i >= count) return;
  const Window<Index> window(i, out_height, out_width);
  const float g = gate.output == nullptr ? out_gradient[i] : passed(out_gradient[i], gate.output[i], gate.factor);
  const std::uint8_t k = taken[i];
  put_two(in_gradient, window.corner, {k == 0 ? g : 0.0F, k == 1 ? g : 0.0F});
  put_two(in_gradient, window.corner + window.width, {k == 2 ? g : 0.0F, k == 3 ? g : 0.0F});
}

/// One thread per four values, which one block of the generator serves.
__global__ void dropout_kernel(float* values, const float* bias, std::size_t blocks, std::size_t blocks_per_sample,
                               float p, float factor, MaskSeries masks) {
  const std::size_t i = element();
  if (i >= blocks) return;
  const std::uint64_t first_sample = masks.current == nullptr ? masks.first_sample : masks.current->first_sample;
  const MaskKey key{masks.seed, first_sample + i / blocks_per_sample * masks.stride, masks.layer};
  const PhiloxBlock words = mask_block(key, static_cast<std::uint32_t>(i % blocks_per_sample));
  float4& four = *reinterpret_cast<float4*>(values + kAtOnce * i);
  float4 v = four;
  if (bias != nullptr) {
    const float* const b = bias + kAtOnce * (i % blocks_per_sample);
    v = {with_bias<true>(v.x, b[0]), with_bias<true>(v.y, b[1]), with_bias<true>(v.z, b[2]),
         with_bias<true>(v.w, b[3])};
  }
  v.x *= is_dropped(words.word[0], p) ? 0.0F : factor;
  v.y *= is_dropped(words.word[1], p) ? 0.0F : factor;
  v.z *= is_dropped(words.word[2], p) ? 0.0F : factor;
  v.w *= is_dropped(words.word[3], p) ? 0.0F : factor;
  four = v;
}

__global__ void add_kernel(float* values, const float* more, std::size_t count) {
  const std::size_t i = element();
  if (i < count) values[i] += more[i];
}

__global__ void scale_kernel(float* values, float factor, std::size_t count) {
  const std::size_t i = element();
  if (i < count) values[i] *= factor;
}

__device__ float nearest_half(float value) {
  return __half2float(__float2half_rn(value));
}

__global__ void to_halves_kernel(__half* halves, const float* values, std::size_t count) {
  const std::size_t i = element();
  if (i < count) halves[i] = __float2half_rn(values[i]);
}

__global__ void from_halves_kernel(float* values, const __half* halves, std::size_t count) {
  const std::size_t i = element();
  if (i < count) values[i] = __half2float(halves[i]);
}

__global__ void round_to_fp16_kernel(float* values, std::size_t count) {
  const std::size_t i = element();
  if (i < count) values[i] = nearest_half(values[i]);
}

__global__ void add_bias_in_fp16_kernel(float* values, const float* bias, bool relu, std::size_t count,
                                        std::size_t channels, std::size_t area) {
  const std::size_t i = element();
  if (i >= count) return;
  const float sum = values[i] + nearest_half(bias[i / area % channels]);
  values[i] = nearest_half(relu && sum < 0.0F ? 0.0F : sum);  // one that is no number stays none
}

/// Each block adds every (blocks × kThreads)-th value from its own place on, then its threads' sums as a tree. `Value`
/// is const where nothing is scaled.
template <class Value>
__global__ void sum_squares_kernel(double* sums, Value* values, [[maybe_unused]] float factor, std::size_t count) {
  __shared__ double partial[kThreads];
  double sum = 0.0;
  for (std::size_t i = element(); i < count; i += static_cast<std::size_t>(gridDim.x) * blockDim.x) {
    if constexpr (!std::is_const_v<Value>) values[i] *= factor;
    sum += static_cast<double>(values[i]) * values[i];
  }
  partial[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}

/// One thread per row: rows are short.
__global__ void softmax_loss_kernel(float* losses, std::int32_t* correct, float* gradient, float* logits,
                                    const float* bias, const std::uint8_t* labels, std::size_t batch,
                                    std::size_t classes, float scale, KeptLosses keep) {
  const std::size_t b = element();
  if (b >= batch) return;
  float* const row = logits + b * classes;
  if (bias != nullptr) {
    for (std::size_t c = 0; c < classes; ++c) row[c] = with_bias<false>(row[c], bias[c]);
  }
  std::size_t best = 0;
  for (std::size_t c = 1; c < classes; ++c) {
    if (row[c] > row[best]) best = c;
  }
  float sum = 0.0F;
  for (std::size_t c = 0; c < classes; ++c) sum += expf(row[c] - row[best]);
  const float log_sum = logf(sum);
  const std::size_t label = labels[b];
  const float loss = log_sum - (row[label] - row[best]);
  losses[b] = loss;
  if (keep.kept != nullptr) keep.kept[keep.current->slot * batch + b] = loss;
  if (keep.halted != nullptr && !isfinite(loss)) *keep.halted = 1;  // by whichever thread: all write the same
  correct[b] = best == label ? 1 : 0;
  if (gradient == nullptr) return;
  for (std::size_t c = 0; c < classes; ++c) {
    const float softmax = expf(row[c] - row[best] - log_sum);
    gradient[b * classes + c] = (softmax - (c == label ? 1.0F : 0.0F)) * scale;
  }
}

/// One block per part of a channel: each thread adds every kThreads-th value, then the threads' sums are added as a
/// tree. `Index` holds the number of all values.
template <class Index>
__global__ void sum_parts_kernel(float* sums, const float* values, Index batch, Index channels, Index area,
                                 Index parts) {
  __shared__ float partial[kThreads];
  const Index channel = blockIdx.x / parts;
  const Index count = batch * area;
  const Index length = (count + parts - 1) / parts;
  const Index first = blockIdx.x % parts * length;
  const Index last = first + length < count ? first + length : count;
  float sum = 0.0F;
  for (Index i = first + threadIdx.x; i < last; i += kThreads) {
    sum += values[(i / area * channels + channel) * area + i % area];
  }
  partial[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}

/// One block per channel and part of the images: sums of the channel's nine weights and of its bias, each of them its
/// part's place in a row of of_parts (weights of all channels, then biases; parts).
__global__ void convolve_images_backward_kernel(float* of_parts, const float* images, const float* gradient, Gate gate,
                                                unsigned batch, unsigned channels, unsigned parts) {
  constexpr unsigned kSums = kTaps + 1;
  __shared__ float image[kPixels];
  __shared__ float partial[kSums][kThreads];
  const unsigned channel = blockIdx.x / parts;
  const unsigned part = blockIdx.x % parts;
  float sums[kSums] = {};
  for (unsigned b = part; b < batch; b += parts) {
    __syncthreads();  // nobody reads the image before any more
    load_image(image, images + static_cast<std::size_t>(b) * kPixels);
    __syncthreads();
    const std::size_t plane = (static_cast<std::size_t>(b) * channels + channel) * kPlaneArea;
    for (unsigned p = threadIdx.x; p < kPlaneArea; p += kThreads) {
      const float given = gradient[plane + p];
      const float g = gate.output == nullptr ? given : passed(given, gate.output[plane + p], gate.factor);
      float taps[kTaps];
      load_taps(taps, image, p);
      for (unsigned t = 0; t < kTaps; ++t) sums[t] += g * taps[t];
      sums[kTaps] += g;
    }
  }
  for (unsigned s = 0; s < kSums; ++s) partial[s][threadIdx.x] = sums[s];
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      for (unsigned s = 0; s < kSums; ++s) partial[s][threadIdx.x] += partial[s][threadIdx.x + half];
    }
    __syncthreads();
  }
  if (threadIdx.x >= kSums) return;
  const unsigned row = threadIdx.x < kTaps ? channel * kTaps + threadIdx.x : channels * kTaps + channel;
  of_parts[row * parts + part] = partial[threadIdx.x][0];
}

__global__ void add_parts_kernel(float* sums, const float* of_parts, std::size_t channels, std::size_t parts) {
  const std::size_t channel = element();
  if (channel >= channels) return;
  float sum = 0.0F;
  for (std::size_t part = 0; part < parts; ++part) sum += of_parts[channel * parts + part];
  sums[channel] = sum;
}

__device__ void adamw_value(float& parameter, float& first_moment, float& second_moment, float g,
                            const AdamWStep& step) {
  const float p = parameter * step.decay;
  const float m = first_moment + (g - first_moment) * step.share1;
  const float v = second_moment * step.beta2 + step.share2 * g * g;
  first_moment = m;
  second_moment = v;
  parameter = p - step.step_size * m / (sqrtf(v) / step.root_correction + step.epsilon);
}

/// A thread for four values, one load of 16 bytes from each array; the last may have fewer. One kernel for both ways to
/// the step's numbers, so that both round alike.
__global__ void adamw_kernel(AdamWArrays arrays, AdamWStep given, const StepNumbers* current, const int* halted) {
  if (halted != nullptr && *halted != 0) return;
  const AdamWStep step = current == nullptr ? given : current->adamw;
  const std::size_t first = kAtOnce * element();
  if (first + kAtOnce > arrays.count) {
    for (std::size_t i = first; i < arrays.count; ++i) {
      adamw_value(arrays.parameters[i], arrays.first_moment[i], arrays.second_moment[i], arrays.gradient[i], step);
    }
    return;
  }
  float4& parameters = *reinterpret_cast<float4*>(arrays.parameters + first);
  float4& first_moments = *reinterpret_cast<float4*>(arrays.first_moment + first);
  float4& second_moments = *reinterpret_cast<float4*>(arrays.second_moment + first);
  const float4 g = *reinterpret_cast<const float4*>(arrays.gradient + first);
  float4 p = parameters;
  float4 m = first_moments;
  float4 v = second_moments;
  adamw_value(p.x, m.x, v.x, g.x, step);
  adamw_value(p.y, m.y, v.y, g.y, step);
  adamw_value(p.z, m.z, v.z, g.z, step);
  adamw_value(p.w, m.w, v.w, g.w, step);
  parameters = p;
  first_moments = m;
  second_moments = v;
}

void queue_adamw(const AdamWArrays& arrays, const AdamWStep& step, const StepNumbers* current, const int* halted,
                 cudaStream_t stream) {
  const std::size_t threads = (arrays.count + kAtOnce - 1) / kAtOnce;
  launch(adamw_kernel, blocks_for(threads), kThreads, stream, arrays, step, current, halted);
}

}  // namespace

void next_step(StepNumbers* current, const StepNumbers* steps, std::uint64_t* next, cudaStream_t stream) {
  launch(next_step_kernel, 1, 1, stream, current, steps, next);
}

void gather(float* images, std::uint8_t* labels, const ResidentImages& from, const StepNumbers* current,
            std::size_t batch, cudaStream_t stream) {
  const std::size_t count = batch * kPixels;
  launch(gather_kernel, blocks_for(count), kThreads, stream, images, labels, from, current, count);
}

void add_bias_relu(float* values, const float* bias, std::size_t batch, std::size_t channels, std::size_t area,
                   cudaStream_t stream) {
  queue_add_bias<true>(values, bias, batch, channels, area, stream);
}

void add_bias(float* values, const float* bias, std::size_t batch, std::size_t channels, std::size_t area,
              cudaStream_t stream) {
  queue_add_bias<false>(values, bias, batch, channels, area, stream);
}

void relu(float* values, std::size_t count, cudaStream_t stream) {
  launch(relu_kernel, blocks_for(count), kThreads, stream, values, count);
}

void relu_backward(float* gradient, const float* output, float factor, std::size_t count, cudaStream_t stream) {
  if (count % kAtOnce == 0) {
    const std::size_t fours = count / kAtOnce;
    launch(relu_backward_fours_kernel, blocks_for(fours), kThreads, stream, reinterpret_cast<float4*>(gradient),
           reinterpret_cast<const float4*>(output), factor, fours);
  } else {
    launch(relu_backward_kernel, blocks_for(count), kThreads, stream, gradient, output, factor, count);
  }
}

namespace {

template <class Index>
void queue_max_pool(float* out, std::uint8_t* taken, const float* in, const float* bias, std::size_t count,
                    const PoolShape& shape, cudaStream_t stream) {
  launch(max_pool_kernel<Index>, blocks_for(count), kThreads, stream, out, taken, in, bias, static_cast<Index>(count),
         static_cast<Index>(shape.channels), static_cast<Index>(shape.height / 2), static_cast<Index>(shape.width / 2));
}

template <class Index>
void queue_max_pool_backward(float* in_gradient, const float* out_gradient, const std::uint8_t* taken, const Gate& gate,
                             std::size_t count, const PoolShape& shape, cudaStream_t stream) {
  launch(max_pool_backward_kernel<Index>, blocks_for(count), kThreads, stream, in_gradient, out_gradient, taken, gate,
         static_cast<Index>(count), static_cast<Index>(shape.height / 2), static_cast<Index>(shape.width / 2));
}

std::size_t outputs(std::size_t batch, const PoolShape& shape) {
  return batch * shape.channels * (shape.height / 2) * (shape.width / 2);
}

}  // namespace

void max_pool(float* out, std::uint8_t* taken, const float* in, const float* bias, std::size_t batch,
              const PoolShape& shape, cudaStream_t stream) {
  const std::size_t count = outputs(batch, shape);
  const auto queue = is_short(count) ? queue_max_pool<std::uint32_t> : queue_max_pool<std::uint64_t>;
  queue(out, taken, in, bias, count, shape, stream);
}

void max_pool_backward(float* in_gradient, const float* out_gradient, const std::uint8_t* taken, const Gate& gate,
                       std::size_t batch, const PoolShape& shape, cudaStream_t stream) {
  const std::size_t count = outputs(batch, shape);
  const auto queue = is_short(count) ? queue_max_pool_backward<std::uint32_t> : queue_max_pool_backward<std::uint64_t>;
  queue(in_gradient, out_gradient, taken, gate, count, shape, stream);
}

void dropout(float* values, const float* bias, std::size_t batch, std::size_t features, float p,
             const MaskSeries& masks, cudaStream_t stream) {
  const std::size_t blocks = batch * (features / 4);
  launch(dropout_kernel, blocks_for(blocks), kThreads, stream, values, bias, blocks, features / 4, p, 1.0F / (1.0F - p),
         masks);
}

void add(float* values, const float* more, std::size_t count, cudaStream_t stream) {
  launch(add_kernel, blocks_for(count), kThreads, stream, values, more, count);
}

void scale(float* values, float factor, std::size_t count, cudaStream_t stream) {
  launch(scale_kernel, blocks_for(count), kThreads, stream, values, factor, count);
}

void sum_squares(double* sums, const float* values, std::size_t count, cudaStream_t stream) {
  launch(sum_squares_kernel<const float>, kSquareSums, kThreads, stream, sums, values, 1.0F, count);
}

void scale_and_sum_squares(double* sums, float* values, float factor, std::size_t count, cudaStream_t stream) {
  launch(sum_squares_kernel<float>, kSquareSums, kThreads, stream, sums, values, factor, count);
}

void to_halves(__half* halves, const float* values, std::size_t count, cudaStream_t stream) {
  launch(to_halves_kernel, blocks_for(count), kThreads, stream, halves, values, count);
}

void from_halves(float* values, const __half* halves, std::size_t count, cudaStream_t stream) {
  launch(from_halves_kernel, blocks_for(count), kThreads, stream, values, halves, count);
}

void round_to_fp16(float* values, std::size_t count, cudaStream_t stream) {
  launch(round_to_fp16_kernel, blocks_for(count), kThreads, stream, values, count);
}

void add_bias_in_fp16(float* values, const float* bias, bool relu, std::size_t batch, std::size_t channels,
                      std::size_t area, cudaStream_t stream) {
  const std::size_t count = batch * channels * area;
  launch(add_bias_in_fp16_kernel, blocks_for(count), kThreads, stream, values, bias, relu, count, channels, area);
}

void softmax_loss(float* losses, std::int32_t* correct, float* gradient, float* logits, const float* bias,
                  const std::uint8_t* labels, std::size_t batch, std::size_t classes, float scale,
                  const KeptLosses& keep, cudaStream_t stream) {
  launch(softmax_loss_kernel, blocks_for(batch), kThreads, stream, losses, correct, gradient, logits, bias, labels,
         batch, classes, scale, keep);
}

std::size_t parts_per_channel(std::size_t batch, std::size_t area) {
  // A block has 16 values for each of its threads; more parts than these fill no GPU better.
  constexpr std::size_t kLength = 16 * kThreads;
  constexpr std::size_t kMost = 16;
  return std::clamp<std::size_t>((batch * area + kLength - 1) / kLength, 1, kMost);
}

void sum_per_channel(float* sums, float* of_parts, const float* values, std::size_t batch, std::size_t channels,
                     std::size_t area, cudaStream_t stream) {
  const std::size_t parts = parts_per_channel(batch, area);
  const auto blocks = static_cast<unsigned>(channels * parts);
  float* const first = parts == 1 ? sums : of_parts;
  if (is_short(batch * channels * area)) {
    launch(sum_parts_kernel<std::uint32_t>, blocks, kThreads, stream, first, values, static_cast<std::uint32_t>(batch),
           static_cast<std::uint32_t>(channels), static_cast<std::uint32_t>(area), static_cast<std::uint32_t>(parts));
  } else {
    launch(sum_parts_kernel<std::uint64_t>, blocks, kThreads, stream, first, values, std::uint64_t{batch},
           std::uint64_t{channels}, std::uint64_t{area}, std::uint64_t{parts});
  }
  if (parts > 1) launch(add_parts_kernel, blocks_for(channels), kThreads, stream, sums, of_parts, channels, parts);
}

void convolve_images(float* out, const float* images, const float* weight, const float* bias, bool relu,
                     std::size_t batch, std::size_t channels, cudaStream_t stream) {
  const std::size_t groups = (channels + kChannelsAtOnce - 1) / kChannelsAtOnce;
  launch(convolve_images_kernel, static_cast<unsigned>(batch * groups), kThreads, stream, out, images, weight, bias,
         relu, static_cast<unsigned>(channels));
}

std::size_t image_parts(std::size_t batch) {
  constexpr std::size_t kMost = 16;  // with 32 channels some blocks for each of a large GPU's processors
  return std::min(batch, kMost);
}

void convolve_images_backward(float* sums, float* of_parts, const float* images, const float* gradient,
                              const Gate& gate, std::size_t batch, std::size_t channels, cudaStream_t stream) {
  const std::size_t parts = image_parts(batch);
  const std::size_t rows = channels * (kTaps + 1);
  launch(convolve_images_backward_kernel, static_cast<unsigned>(channels * parts), kThreads, stream, of_parts, images,
         gradient, gate, static_cast<unsigned>(batch), static_cast<unsigned>(channels), static_cast<unsigned>(parts));
  launch(add_parts_kernel, blocks_for(rows), kThreads, stream, sums, of_parts, rows, parts);
}

void adamw(const AdamWArrays& arrays, const AdamWStep& step, cudaStream_t stream) {
  queue_adamw(arrays, step, nullptr, nullptr, stream);
}

void adamw(const AdamWArrays& arrays, const StepNumbers* current, const int* halted, cudaStream_t stream) {
  queue_adamw(arrays, {}, current, halted, stream);
}

}  // namespace llmlaunch::trainer::cuda
