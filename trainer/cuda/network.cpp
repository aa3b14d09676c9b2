// The stages of a model in order, and back. Every call queues work on one stream; only `results` waits.
#include "trainer/cuda/network.hpp"

#include <algorithm>
#include <numeric>

#include "trainer/cuda/kernels.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

/// What NVIDIA recommends from Hopper on.
constexpr std::size_t kProductWorkspace = std::size_t{32} << 20U;

}  // namespace

// The destructor runs for what the other constructor has made, also when one of these calls fails.
Network::Network(cudaStream_t stream, const Model& model, Precision precision) : Network(model) {
  context_.stream = stream;
  context_.precision = precision;
  CUBLAS_CHECK(cublasCreate_v2, &context_.cublas);
  CUBLAS_CHECK(cublasSetStream_v2, context_.cublas, stream);
  // Its own would be allocated inside a graph that is being captured, and its size decides what is chosen.
  product_workspace_.reserve(kProductWorkspace);
  CUBLAS_CHECK(cublasSetWorkspace_v2, context_.cublas, product_workspace_.data(), kProductWorkspace);
  CUDNN_CHECK(cudnnCreate, &context_.cudnn);
  CUDNN_CHECK(cudnnSetStream, context_.cudnn, stream);
  for (const Stage& stage : model.stages) layers_.push_back(make_cuda_layer(context_, model, stage));
  values_.resize(layers_.size() + 1);
}

Network::~Network() {
  layers_.clear();
  if (context_.cudnn != nullptr) cudnn().cudnnDestroy(context_.cudnn);
  if (context_.cublas != nullptr) cublas().cublasDestroy_v2(context_.cublas);
}

void Network::resize(std::size_t batch) {
  if (batch == batch_) return;
  // Growing frees memory that queued work may still use.
  CUDA_CHECK(cudaStreamSynchronize(context_.stream));
  batch_ = batch;
  images_.reserve(batch * kImageExtent.count());
  labels_.reserve(batch);
  losses_.reserve(batch);
  correct_.reserve(batch);
  grad_logits_.reserve(batch * kClasses);
  std::size_t workspace = 0;
  for (const auto& layer : layers_) workspace = std::max(workspace, layer->resize(batch));
  context_.workspace.reserve(workspace);
}

void Network::forward(const float* parameters, const Batch& batch, DropoutChoice dropout, std::optional<float> scale) {
  resize(batch.labels.size());
  pass_ = {.parameters = parameters, .samples = batch.samples, .dropout = dropout};
  // These copies may read their sources when their turn comes: they are the caller's until it has the results.
  CUDA_CHECK(cudaMemcpyAsync(images_.data(), batch.images.data(), batch.images.size_bytes(), cudaMemcpyHostToDevice,
                             context_.stream));
  CUDA_CHECK(cudaMemcpyAsync(labels_.data(), batch.labels.data(), batch.labels.size_bytes(), cudaMemcpyHostToDevice,
                             context_.stream));
  pass_layers(scale, {});
}

void Network::forward(const float* parameters, const ResidentImages& images, const KeptLosses& keep,
                      std::uint64_t stride, std::size_t batch, DropoutChoice dropout) {
  resize(batch);
  pass_ = {
      .parameters = parameters, .samples = {.first = 0, .stride = stride}, .dropout = dropout, .current = keep.current};
  gather(images_.data(), labels_.data(), images, keep.current, batch_, context_.stream);
  pass_layers(1.0F, keep);
}

void Network::pass_layers(std::optional<float> scale, const KeptLosses& keep) {
  values_[0] = images_.data();
  for (std::size_t i = 0; i < layers_.size(); ++i) values_[i + 1] = layers_[i]->forward(values_[i], pass_);
  softmax_loss(losses_.data(), correct_.data(), scale ? grad_logits_.data() : nullptr, values_.back(), labels_.data(),
               batch_, kClasses, scale.value_or(1.0F) / static_cast<float>(batch_), keep, context_.stream);
  CUDA_CHECK(cudaGetLastError());
}

void Network::backward(float* gradient, const std::function<void(std::size_t)>& ready) {
  float* out_gradient = grad_logits_.data();
  for (std::size_t i = layers_.size(); i-- > 0;) {
    const Stage& stage = model_.stages[i];
    if (stage.gate) {
      relu_backward(out_gradient, values_[i + 1], pass_.dropout.on ? stage.gate_factor : 1.0F,
                    batch_ * stage.out.count(), context_.stream);
    }
    if (stage.has_parameters()) {
      if (context_.precision == Precision::fp16) {
        round_to_fp16(out_gradient, batch_ * stage.out.count(), context_.stream);
      }
      layers_[i]->backward_weight(values_[i], out_gradient, gradient);
      // Bias before weight, as automatic differentiation finishes them.
      ready(stage.weight + 1);
      ready(stage.weight);
      if (stage.weight == 0) break;  // the images need no gradient
    }
    out_gradient = layers_[i]->backward_input(out_gradient, pass_);
  }
  CUDA_CHECK(cudaGetLastError());
}

Network::Results Network::results() {
  std::vector<float> losses(batch_);
  std::vector<std::int32_t> correct(batch_);
  CUDA_CHECK(
      cudaMemcpyAsync(losses.data(), losses_.data(), batch_ * sizeof(float), cudaMemcpyDeviceToHost, context_.stream));
  CUDA_CHECK(cudaMemcpyAsync(correct.data(), correct_.data(), batch_ * sizeof(std::int32_t), cudaMemcpyDeviceToHost,
                             context_.stream));
  CUDA_CHECK(cudaStreamSynchronize(context_.stream));
  return {.loss_sum = std::accumulate(losses.begin(), losses.end(), 0.0),
          .correct = static_cast<std::uint64_t>(std::accumulate(correct.begin(), correct.end(), std::int64_t{0}))};
}

std::vector<float> Network::logits() {
  std::vector<float> host(batch_ * kClasses);
  CUDA_CHECK(cudaMemcpyAsync(host.data(), values_.back(), host.size() * sizeof(float), cudaMemcpyDeviceToHost,
                             context_.stream));
  CUDA_CHECK(cudaStreamSynchronize(context_.stream));
  return host;
}

}  // namespace llmlaunch::trainer::cuda
