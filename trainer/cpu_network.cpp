// The stages of a model in order, and back. Which of them has a gate on its way back is the model's matter.
#include "trainer/cpu_network.hpp"

#include "trainer/cpu_kernels.hpp"

namespace llmlaunch::trainer {

using dnnl::memory;

CpuNetwork::CpuNetwork(CpuDevice& device, const Model& model, std::size_t batch)
    : device_(device),
      model_(model),
      images_(plain_layout(dims_of(kImageExtent, batch)), device.engine, nullptr),
      grad_logits_(plain_layout(dims_of(model.stages.back().out, batch)), device.engine) {
  // A convolution says how the output of the one before it should lie, so the layouts are asked for from the end on.
  std::vector<memory::desc> liked(model.stages.size() + 1);
  for (std::size_t i = model.stages.size() - 1; i > 0; --i) {
    liked[i] = liked_input(device, model.stages[i], batch, liked[i + 1]);
  }
  for (std::size_t i = 0; i < model.stages.size(); ++i) {
    layers_.push_back(make_cpu_layer(device, model, model.stages[i], batch, i == 0 ? images_ : layers_[i - 1]->out(),
                                     liked[i], liked[i + 1]));
  }
}

BatchResult CpuNetwork::forward(const float* parameters, const Batch& batch, const DropoutPass& dropout) {
  pass_ = {.parameters = parameters, .samples = batch.samples, .dropout = dropout};
  images_.set_data_handle(const_cast<float*>(batch.images.data()));  // oneDNN has no memory that is only read
  for (const auto& layer : layers_) layer->forward(pass_);
  wait_for(device_);
  return softmax_loss(logits(), batch.labels);
}

Result<void> CpuNetwork::backward(const Batch& batch, float scale, float* gradient, const GradientReady& ready) {
  softmax_loss_backward(values_of(grad_logits_), logits(), batch.labels, scale);
  memory out_gradient = grad_logits_;
  for (std::size_t i = layers_.size(); i-- > 0;) {
    const Stage& stage = model_.stages[i];
    if (stage.gate) {
      relu_backward(values_of(out_gradient), values_of(layers_[i]->out()), pass_.dropout.on ? stage.gate_factor : 1.0F);
    }
    if (stage.has_parameters()) {
      layers_[i]->backward_weight(out_gradient, gradient);
      // Bias before weight, as automatic differentiation finishes them.
      if (auto done = ready(stage.weight + 1); !done) return done;
      if (auto done = ready(stage.weight); !done) return done;
      if (stage.weight == 0) break;  // the images need no gradient
    }
    out_gradient = layers_[i]->backward_input(out_gradient, pass_);
  }
  return ok;
}

}  // namespace llmlaunch::trainer
