/// \file
/// One body per kind of layer by oneDNN, each for one batch size, behind one interface. Weights are taken from and
/// gradients given to flat arrays in PyTorch's layout; activations between convolutions stay in the layout that oneDNN
/// prefers on this processor. Everything throws `dnnl::error`; `CpuBackend` turns that into an `Error`.
///
/// With `CpuMath::bf16` convolution and linear round what they multiply, activations, weights and gradients, to
/// bfloat16 and add in fp32; everything else, also between the layers, is fp32, and so are the gradients of weights.
/// With `CpuMath::emulated_fp16` they round what they give, too, all of it to half precision, as torch.autocast: the
/// overflow of a result is what tells a loss's scale that it is too large.
#pragma once

#include <dnnl.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "trainer/backend.hpp"
#include "trainer/cpu_backend.hpp"

namespace llmlaunch::trainer {

/// Where oneDNN works, and with which numbers.
struct CpuDevice {
  CpuMath math = CpuMath::fp32;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

/// Until oneDNN has done what it was told, for loops of ours that come next. Some of its bfloat16 kernels (2.6.3)
/// return with the upper halves of vector registers in use; our loops then took three times as long, on a processor of
/// 2024, because each of their instructions had to keep what was there.
[[gnu::noinline]] void wait_for(CpuDevice& device);

/// (B, C, H, W) or (B, C), dense, the last index fastest.
dnnl::memory::desc plain_layout(const dnnl::memory::dims& dims,
                                dnnl::memory::data_type type = dnnl::memory::data_type::f32);
/// (B, C, H, W) or (B, C) of `batch` images.
dnnl::memory::dims dims_of(const Extent& extent, std::size_t batch);
/// The values of a memory of floats as they lie there.
std::span<float> values_of(const dnnl::memory& memory);

/// How a pass treats dropout: off in evaluation.
struct DropoutPass {
  bool on = false;
  std::uint64_t seed = 0;
};

/// What the layers of one pass share.
struct CpuPass {
  const float* parameters = nullptr;  ///< the model's flat array
  SampleNumbers samples;
  DropoutPass dropout;
};

/// A stage of a model for one batch size. It owns what it computes, and sees the memory of the stage before it.
class CpuLayer {
 public:
  virtual ~CpuLayer() = default;
  CpuLayer(const CpuLayer&) = delete;
  CpuLayer& operator=(const CpuLayer&) = delete;

  /// What `forward` wrote. Dropout and relu work in place: theirs is that of the layer before.
  const dnnl::memory& out() const { return out_; }

  virtual void forward(const CpuPass& pass) = 0;
  /// Weight and bias of the flat `gradient`; layers without them do nothing. `out_gradient` is laid out as `out()`, and
  /// is that before the layer's relu.
  virtual void backward_weight([[maybe_unused]] const dnnl::memory& out_gradient, [[maybe_unused]] float* gradient) {}
  /// After `backward_weight`. The gradient of the input, laid out as the input is, good until the next pass. May write
  /// over `out_gradient` and, where nobody needs it any more, over the input.
  virtual dnnl::memory backward_input(const dnnl::memory& out_gradient, const CpuPass& pass) = 0;

 protected:
  CpuLayer(CpuDevice& device, dnnl::memory in) : device_(device), in_(std::move(in)) {}

  CpuDevice& device_;
  dnnl::memory in_;
  dnnl::memory out_;
};

/// The layout in which a stage would like its input, when its output is wanted in the layout `out` (or, empty, in any
/// that it likes). Empty for a stage that takes every layout.
dnnl::memory::desc liked_input(CpuDevice& device, const Stage& stage, std::size_t batch, const dnnl::memory::desc& out);

/// `in`: the output of the stage before, or the images. `liked_in`: the layout in which the stage is to take it; it
/// reorders what lies otherwise. `liked_out`: the layout that the next stage would like, or empty.
std::unique_ptr<CpuLayer> make_cpu_layer(CpuDevice& device, const Model& model, const Stage& stage, std::size_t batch,
                                         const dnnl::memory& in, const dnnl::memory::desc& liked_in,
                                         const dnnl::memory::desc& liked_out);

}  // namespace llmlaunch::trainer
