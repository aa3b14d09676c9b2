// The layers of BasicNet in order, and back. Every call queues work on one stream; only `results` waits.
#include "trainer/cuda/basic_net.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "trainer/cuda/kernels.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

// B images of 28 × 28; activations are (B, C, H, W), flattened channel-major for the linear layers.
constexpr std::size_t kImage = 28 * 28;
constexpr std::size_t kC1 = 32, kArea1 = 26 * 26;
constexpr std::size_t kC2 = 64, kSide2 = 24, kArea2 = kSide2 * kSide2;
constexpr std::size_t kPooled = kC2 * kArea2 / 4;  // 9216
constexpr std::size_t kHidden = 128;
constexpr std::size_t kClasses = 10;
constexpr float kDropPooled = 0.25F;
constexpr float kDropHidden = 0.5F;

constexpr float kOne = 1.0F;
constexpr float kZero = 0.0F;

int narrow(std::size_t value) {
  return static_cast<int>(value);
}

MaskSeries masks_of(const DropoutChoice& choice, std::uint32_t layer) {
  return {.seed = choice.seed, .first_sample = choice.first_sample, .stride = choice.sample_stride, .layer = layer};
}

// cuBLAS thinks in columns; a row-major matrix is its own transpose there, so the operands change places.

/// out (M, N) = a (M, K) · b (N, K)ᵀ
void multiply_transposed(cublasHandle_t handle, float* out, const float* a, const float* b, std::size_t m,
                         std::size_t n, std::size_t k) {
  CUBLAS_CHECK(cublasSgemm_v2, handle, CUBLAS_OP_T, CUBLAS_OP_N, narrow(n), narrow(m), narrow(k), &kOne, b, narrow(k),
               a, narrow(k), &kZero, out, narrow(n));
}

/// out (M, N) = a (M, K) · b (K, N)
void multiply_plain(cublasHandle_t handle, float* out, const float* a, const float* b, std::size_t m, std::size_t n,
                    std::size_t k) {
  CUBLAS_CHECK(cublasSgemm_v2, handle, CUBLAS_OP_N, CUBLAS_OP_N, narrow(n), narrow(m), narrow(k), &kOne, b, narrow(n),
               a, narrow(k), &kZero, out, narrow(n));
}

/// out (M, N) = a (K, M)ᵀ · b (K, N)
void transposed_multiply(cublasHandle_t handle, float* out, const float* a, const float* b, std::size_t m,
                         std::size_t n, std::size_t k) {
  CUBLAS_CHECK(cublasSgemm_v2, handle, CUBLAS_OP_N, CUBLAS_OP_T, narrow(n), narrow(m), narrow(k), &kOne, b, narrow(n),
               a, narrow(m), &kZero, out, narrow(n));
}

}  // namespace

BasicNet::BasicNet(cudaStream_t stream, ParameterOffsets offsets)
    : stream_(stream),
      offsets_(offsets),
      conv1_({.in_channels = 1, .out_channels = 32, .size = 28, .kernel = 3}),
      conv2_({.in_channels = 32, .out_channels = 64, .size = 26, .kernel = 3}) {
  CUBLAS_CHECK(cublasCreate_v2, &cublas_);
  CUBLAS_CHECK(cublasSetStream_v2, cublas_, stream_);
  // Plain fp32, as PyTorch's default for matrix products.
  CUBLAS_CHECK(cublasSetMathMode, cublas_, CUBLAS_PEDANTIC_MATH);
  CUDNN_CHECK(cudnnCreate, &cudnn_);
  CUDNN_CHECK(cudnnSetStream, cudnn_, stream_);
}

BasicNet::~BasicNet() {
  if (cudnn_ != nullptr) cudnn().cudnnDestroy(cudnn_);
  if (cublas_ != nullptr) cublas().cublasDestroy_v2(cublas_);
}

void BasicNet::resize(std::size_t batch) {
  if (batch == batch_) return;
  // Growing frees memory that queued work may still use.
  CUDA_CHECK(cudaStreamSynchronize(stream_));
  batch_ = batch;
  images_.reserve(batch * kImage);
  labels_.reserve(batch);
  act1_.reserve(batch * kC1 * kArea1);
  act2_.reserve(batch * kC2 * kArea2);
  pooled_.reserve(batch * kPooled);
  taken_.reserve(batch * kPooled);
  mask_pooled_.reserve(batch * kPooled);
  hidden_.reserve(batch * kHidden);
  mask_hidden_.reserve(batch * kHidden);
  logits_.reserve(batch * kClasses);
  losses_.reserve(batch);
  correct_.reserve(batch);
  workspace_.reserve(std::max(conv1_.prepare(cudnn_, narrow(batch)), conv2_.prepare(cudnn_, narrow(batch))));
}

void BasicNet::forward(const float* parameters, std::span<const float> images, std::span<const std::uint8_t> labels,
                       DropoutChoice choice) {
  resize(labels.size());
  const std::size_t batch = batch_;
  dropped_ = choice.on;
  // The sources are ordinary host memory: these copies have read them when they return.
  CUDA_CHECK(cudaMemcpyAsync(images_.data(), images.data(), images.size_bytes(), cudaMemcpyHostToDevice, stream_));
  CUDA_CHECK(cudaMemcpyAsync(labels_.data(), labels.data(), labels.size_bytes(), cudaMemcpyHostToDevice, stream_));

  conv1_.forward(cudnn_, act1_.data(), images_.data(), parameters + offsets_.conv1_weight, workspace_.data(),
                 workspace_.size());
  add_bias_relu(act1_.data(), parameters + offsets_.conv1_bias, batch, kC1, kArea1, stream_);
  conv2_.forward(cudnn_, act2_.data(), act1_.data(), parameters + offsets_.conv2_weight, workspace_.data(),
                 workspace_.size());
  add_bias_relu(act2_.data(), parameters + offsets_.conv2_bias, batch, kC2, kArea2, stream_);
  max_pool(pooled_.data(), taken_.data(), act2_.data(), batch * kC2, kSide2, kSide2, stream_);
  if (choice.on) {
    dropout(pooled_.data(), mask_pooled_.data(), batch, kPooled, kDropPooled, masks_of(choice, 0), stream_);
  }
  multiply_transposed(cublas_, hidden_.data(), pooled_.data(), parameters + offsets_.fc1_weight, batch, kHidden,
                      kPooled);
  add_bias_relu(hidden_.data(), parameters + offsets_.fc1_bias, batch, kHidden, 1, stream_);
  if (choice.on) {
    dropout(hidden_.data(), mask_hidden_.data(), batch, kHidden, kDropHidden, masks_of(choice, 1), stream_);
  }
  multiply_transposed(cublas_, logits_.data(), hidden_.data(), parameters + offsets_.fc2_weight, batch, kClasses,
                      kHidden);
  add_bias(logits_.data(), parameters + offsets_.fc2_bias, batch, kClasses, stream_);
  softmax_loss(losses_.data(), correct_.data(), nullptr, logits_.data(), labels_.data(), batch, kClasses, 1.0F,
               stream_);
  CUDA_CHECK(cudaGetLastError());
}

void BasicNet::backward(const float* parameters, float scale, float* gradient,
                        const std::function<void(int)>& layer_ready) {
  const std::size_t batch = batch_;
  grad_logits_.reserve(batch * kClasses);
  grad_hidden_.reserve(batch * kHidden);
  grad_pooled_.reserve(batch * kPooled);
  grad2_.reserve(batch * kC2 * kArea2);
  grad1_.reserve(batch * kC1 * kArea1);

  softmax_loss(losses_.data(), correct_.data(), grad_logits_.data(), logits_.data(), labels_.data(), batch, kClasses,
               scale / static_cast<float>(batch), stream_);
  transposed_multiply(cublas_, gradient + offsets_.fc2_weight, grad_logits_.data(), hidden_.data(), kClasses, kHidden,
                      batch);
  sum_per_channel(gradient + offsets_.fc2_bias, grad_logits_.data(), batch, kClasses, 1, stream_);
  layer_ready(3);

  multiply_plain(cublas_, grad_hidden_.data(), grad_logits_.data(), parameters + offsets_.fc2_weight, batch, kHidden,
                 kClasses);
  if (dropped_) multiply(grad_hidden_.data(), mask_hidden_.data(), batch * kHidden, stream_);
  // Where dropout made the output 0, the mask has made the gradient 0 already.
  relu_backward(grad_hidden_.data(), hidden_.data(), batch * kHidden, stream_);
  transposed_multiply(cublas_, gradient + offsets_.fc1_weight, grad_hidden_.data(), pooled_.data(), kHidden, kPooled,
                      batch);
  sum_per_channel(gradient + offsets_.fc1_bias, grad_hidden_.data(), batch, kHidden, 1, stream_);
  layer_ready(2);

  multiply_plain(cublas_, grad_pooled_.data(), grad_hidden_.data(), parameters + offsets_.fc1_weight, batch, kPooled,
                 kHidden);
  if (dropped_) multiply(grad_pooled_.data(), mask_pooled_.data(), batch * kPooled, stream_);
  max_pool_backward(grad2_.data(), grad_pooled_.data(), taken_.data(), batch * kC2, kSide2, kSide2, stream_);
  relu_backward(grad2_.data(), act2_.data(), batch * kC2 * kArea2, stream_);
  conv2_.backward_weight(cudnn_, gradient + offsets_.conv2_weight, act1_.data(), grad2_.data(), workspace_.data(),
                         workspace_.size());
  sum_per_channel(gradient + offsets_.conv2_bias, grad2_.data(), batch, kC2, kArea2, stream_);
  layer_ready(1);

  conv2_.backward_input(cudnn_, grad1_.data(), parameters + offsets_.conv2_weight, grad2_.data(), workspace_.data(),
                        workspace_.size());
  relu_backward(grad1_.data(), act1_.data(), batch * kC1 * kArea1, stream_);
  conv1_.backward_weight(cudnn_, gradient + offsets_.conv1_weight, images_.data(), grad1_.data(), workspace_.data(),
                         workspace_.size());
  sum_per_channel(gradient + offsets_.conv1_bias, grad1_.data(), batch, kC1, kArea1, stream_);
  layer_ready(0);
  CUDA_CHECK(cudaGetLastError());
}

BasicNet::Results BasicNet::results() {
  std::vector<float> losses(batch_);
  std::vector<std::int32_t> correct(batch_);
  CUDA_CHECK(cudaMemcpyAsync(losses.data(), losses_.data(), batch_ * sizeof(float), cudaMemcpyDeviceToHost, stream_));
  CUDA_CHECK(
      cudaMemcpyAsync(correct.data(), correct_.data(), batch_ * sizeof(std::int32_t), cudaMemcpyDeviceToHost, stream_));
  CUDA_CHECK(cudaStreamSynchronize(stream_));
  return {.loss_sum = std::accumulate(losses.begin(), losses.end(), 0.0),
          .correct = static_cast<std::uint64_t>(std::accumulate(correct.begin(), correct.end(), std::int64_t{0}))};
}

}  // namespace llmlaunch::trainer::cuda
