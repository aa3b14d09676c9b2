// The stages of a model in order, and back. Every call queues work; only `results` and `logits` wait.
#include "trainer/cuda/network.hpp"

#include <algorithm>
#include <numeric>

#include "trainer/cuda/kernels.hpp"

namespace llmlaunch::trainer::cuda {

Network::Network(cudaStream_t stream, const Model& model, Precision precision, GraphStreams streams,
                 const ConvolutionAlgorithms& algorithms)
    : model_(model) {
  context_.open(stream, precision);
  context_.algorithms = algorithms;
  if (streams == GraphStreams::two && precision != Precision::fp16) {
    branch_ = std::make_unique<Branch>();
    branch_->context.open(branch_->stream.handle(), precision);
  }
  for (std::size_t i = 0; i < model.stages.size(); ++i) layers_.push_back(make_cuda_layer(context_, model, i));
  values_.resize(layers_.size() + 1);
}

Network::~Network() {
  if (branch_) cudaStreamSynchronize(branch_->stream.handle());
  cudaStreamSynchronize(context_.stream);
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
  if (branch_) branch_->context.workspace.reserve(workspace);
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
  const auto bias = bias_before(context_, model_, layers_.size());
  softmax_loss(losses_.data(), correct_.data(), scale ? grad_logits_.data() : nullptr, values_.back(),
               bias ? pass_.parameters + *bias : nullptr, labels_.data(), batch_, kClasses,
               scale.value_or(1.0F) / static_cast<float>(batch_), keep, context_.stream);
  CUDA_CHECK(cudaGetLastError());
}

void Network::backward(float* gradient, const std::function<void(std::size_t)>& ready) {
  float* out_gradient = grad_logits_.data();
  CudaContext& chain = branch_ ? branch_->context : context_;
  if (branch_) branch_->event.order(context_.stream, chain.stream);
  for (std::size_t i = layers_.size(); i-- > 0;) {
    const Stage& stage = model_.stages[i];
    if (stage.gate) {
      const Gate gate = {.output = values_[i + 1], .factor = pass_.dropout.on ? stage.gate_factor : 1.0F};
      if (leaves_gate(i)) {
        pass_.gate = gate;
      } else {
        relu_backward(out_gradient, gate.output, gate.factor, batch_ * stage.out.count(), chain.stream);
      }
    }
    if (stage.has_parameters()) {
      if (context_.precision == Precision::fp16) {
        round_to_fp16(out_gradient, batch_ * stage.out.count(), context_.stream);
      }
      // At the last of them the chain is at its end, and joined.
      if (branch_) branch_->event.order(chain.stream, context_.stream);
      layers_[i]->backward_weight(values_[i], out_gradient, gradient, pass_);
      // Bias before weight, as automatic differentiation finishes them.
      ready(stage.weight + 1);
      ready(stage.weight);
      if (stage.weight == 0) break;  // the images need no gradient
    }
    out_gradient = layers_[i]->backward_input(out_gradient, pass_, chain);
    if (layers_[i]->takes_gate()) pass_.gate = {};
  }
  CUDA_CHECK(cudaGetLastError());
}

/// Whether the first layer backwards from stage `i`, its gate's, that does not leave a gradient as it is takes the
/// gate. The values are the same, flat or not.
bool Network::leaves_gate(std::size_t i) const {
  while (i > 0 && (model_.stages[i].kind == Stage::Kind::dropout || model_.stages[i].kind == Stage::Kind::flatten)) --i;
  return layers_[i]->takes_gate();
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
