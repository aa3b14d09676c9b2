// The layers of BasicNet in order, and back. Relu and max-pool change places in the backward pass: both only choose,
// and after the pool there is a quarter of the values.
#include "trainer/cpu_network.hpp"

#include "trainer/cpu_kernels.hpp"

namespace llmlaunch::trainer {
namespace {

using dnnl::memory;

constexpr memory::dim kSide = 28, kSide1 = 26, kSide2 = 24, kPooledSide = 12;
constexpr memory::dim kC1 = 32, kC2 = 64, kFlat = kC2 * kPooledSide * kPooledSide, kHidden = 128, kClasses = 10;
constexpr float kDropPooled = 0.25F;
constexpr float kDropHidden = 0.5F;

// Indices of `kParameters`.
constexpr std::size_t kConv1 = 0, kConv2 = 2, kFc1 = 4, kFc2 = 6;

template <class T>
T* weight_in(T* flat, std::size_t layer) {
  return flat + kParameters[layer].first;
}
template <class T>
T* bias_in(T* flat, std::size_t layer) {
  return flat + kParameters[layer + 1].first;
}

std::span<float> values_of(const memory& of) {
  return {static_cast<float*>(of.get_data_handle()), of.get_desc().get_size() / sizeof(float)};
}

/// Bias before weight, as automatic differentiation finishes them.
Result<void> report(std::size_t layer, const GradientReady& ready) {
  if (auto done = ready(layer + 1); !done) return done;
  return ready(layer);
}

}  // namespace

CpuNetwork::CpuNetwork(CpuDevice& device, std::size_t batch)
    : device_(device),
      batch_(batch),
      conv2_(device, {static_cast<memory::dim>(batch), kC1, kC2, kSide1},
             any_layout({static_cast<memory::dim>(batch), kC1, kSide1, kSide1}),
             any_layout({static_cast<memory::dim>(batch), kC2, kSide2, kSide2})),
      conv1_(device, {static_cast<memory::dim>(batch), 1, kC1, kSide},
             plain_layout({static_cast<memory::dim>(batch), 1, kSide, kSide}), conv2_.in_layout()),
      pool_(device, conv2_.out_layout(), {static_cast<memory::dim>(batch), kC2, kPooledSide, kPooledSide}),
      fc1_(device, {static_cast<memory::dim>(batch), kFlat, kHidden, true}),
      fc2_(device, {static_cast<memory::dim>(batch), kHidden, kClasses, false}),
      act1_(conv1_.out_layout(), device.engine),
      act2_(conv2_.out_layout(), device.engine),
      pooled_(pool_.out_layout(), device.engine),
      flat_(batch * kFlat),
      hidden_(batch * kHidden),
      logits_(batch * kClasses),
      grad_flat_(batch * kFlat),
      grad_hidden_(batch * kHidden),
      grad_logits_(batch * kClasses) {}

BatchResult CpuNetwork::forward(const float* parameters, const Batch& batch, const DropoutPass& dropout) {
  const auto count = static_cast<memory::dim>(batch_);
  dropped_ = dropout.on;
  const memory images = view_of(device_, {count, 1, kSide, kSide}, batch.images.data());
  conv1_.forward(images, weight_in(parameters, kConv1), bias_in(parameters, kConv1), act1_);
  conv2_.forward(act1_, weight_in(parameters, kConv2), bias_in(parameters, kConv2), act2_);
  pool_.forward(act2_, pooled_);
  memory flat = view_of(device_, {count, kC2, kPooledSide, kPooledSide}, flat_.data());
  reorder(device_, pooled_, flat);
  device_.stream.wait();
  if (dropped_) drop_out(flat_, kFlat, kDropPooled, {dropout.seed, 0, batch.samples});
  fc1_.forward(flat_.data(), weight_in(parameters, kFc1), bias_in(parameters, kFc1), hidden_.data());
  if (dropped_) drop_out(hidden_, kHidden, kDropHidden, {dropout.seed, 1, batch.samples});
  fc2_.forward(hidden_.data(), weight_in(parameters, kFc2), bias_in(parameters, kFc2), logits_.data());
  return softmax_loss(logits_, batch.labels);
}

Result<void> CpuNetwork::backward(const float* parameters, const Batch& batch, float scale, float* gradient,
                                  const GradientReady& ready) {
  softmax_loss_backward(grad_logits_, logits_, batch.labels, scale);
  if (auto done = backward_linear(parameters, gradient, ready); !done) return done;
  return backward_convolutions(parameters, batch, gradient, ready);
}

Result<void> CpuNetwork::backward_linear(const float* parameters, float* gradient, const GradientReady& ready) {
  fc2_.backward_weight(hidden_.data(), grad_logits_.data(), weight_in(gradient, kFc2), bias_in(gradient, kFc2));
  if (auto done = report(kFc2, ready); !done) return done;

  fc2_.backward_input(grad_logits_.data(), weight_in(parameters, kFc2), grad_hidden_.data());
  relu_backward(grad_hidden_, hidden_, dropped_ ? 1 / (1 - kDropHidden) : 1.0F);
  fc1_.backward_weight(flat_.data(), grad_hidden_.data(), weight_in(gradient, kFc1), bias_in(gradient, kFc1));
  if (auto done = report(kFc1, ready); !done) return done;

  fc1_.backward_input(grad_hidden_.data(), weight_in(parameters, kFc1), grad_flat_.data());
  relu_backward(grad_flat_, flat_, dropped_ ? 1 / (1 - kDropPooled) : 1.0F);
  return ok;
}

Result<void> CpuNetwork::backward_convolutions(const float* parameters, const Batch& batch, float* gradient,
                                               const GradientReady& ready) {
  if (!grad1_) {
    grad1_ = memory(act1_.get_desc(), device_.engine);
    grad2_ = memory(act2_.get_desc(), device_.engine);
  }
  const auto count = static_cast<memory::dim>(batch_);
  // pooled_ itself has been used up: the flat copy is what the linear layers saw.
  reorder(device_, view_of(device_, {count, kC2, kPooledSide, kPooledSide}, grad_flat_.data()), pooled_);
  pool_.backward(pooled_, grad2_);
  conv2_.backward_weight(act1_, grad2_, weight_in(gradient, kConv2), bias_in(gradient, kConv2));
  if (auto done = report(kConv2, ready); !done) return done;

  conv2_.backward_input(grad2_, weight_in(parameters, kConv2), grad1_);
  relu_backward(values_of(grad1_), values_of(act1_), 1.0F);
  const memory images = view_of(device_, {count, 1, kSide, kSide}, batch.images.data());
  conv1_.backward_weight(images, grad1_, weight_in(gradient, kConv1), bias_in(gradient, kConv1));
  return report(kConv1, ready);
}

}  // namespace llmlaunch::trainer
