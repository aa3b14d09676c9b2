/// \file
/// BasicNet's three kinds of layers by oneDNN, each for one batch size. Weights are taken from and gradients given to
/// flat arrays in PyTorch's layout; activations between convolutions stay in the layout that oneDNN prefers on this
/// processor. Everything throws `dnnl::error`; `CpuBackend` turns that into an `Error`. fp32 throughout.
#pragma once

#include <dnnl.hpp>

namespace llmlaunch::trainer {

/// Where oneDNN works.
struct CpuDevice {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

/// (B, C, H, W) or (B, C), dense, the last index fastest.
dnnl::memory::desc plain_layout(const dnnl::memory::dims& dims);
/// (B, C, H, W) in whatever order a primitive likes best.
dnnl::memory::desc any_layout(const dnnl::memory::dims& dims);

/// Copies `from` to `to`, which may have another layout.
void reorder(CpuDevice& device, const dnnl::memory& from, dnnl::memory& to);

/// A view of values that others own, dense.
dnnl::memory view_of(CpuDevice& device, const dnnl::memory::dims& dims, const float* values);

/// (B, in_channels, side, side) → (B, out_channels, side - 2, side - 2): 3 × 3, no padding, bias, then relu.
class ReluConvolution {
 public:
  struct Shape {
    dnnl::memory::dim batch, in_channels, out_channels, side;
  };
  /// `in`, `out`: layouts of the activations, which may be `any_layout`.
  ReluConvolution(CpuDevice& device, const Shape& shape, const dnnl::memory::desc& in, const dnnl::memory::desc& out);

  dnnl::memory::desc in_layout() const { return forward_.src_desc(); }
  dnnl::memory::desc out_layout() const { return forward_.dst_desc(); }

  void forward(const dnnl::memory& in, const float* weight, const float* bias, dnnl::memory& out);
  /// `out_gradient`: of what comes before the relu. Its layout is `out_layout`.
  void backward_weight(const dnnl::memory& in, const dnnl::memory& out_gradient, float* weight_gradient,
                       float* bias_gradient);
  void backward_input(const dnnl::memory& out_gradient, const float* weight, dnnl::memory& in_gradient);

 private:
  CpuDevice& device_;
  dnnl::memory::dims weight_dims_, bias_dims_;
  dnnl::convolution_forward::primitive_desc forward_;
  dnnl::convolution_backward_weights::primitive_desc backward_weight_;
  dnnl::convolution_backward_data::primitive_desc backward_input_;
  dnnl::convolution_forward run_forward_;
  dnnl::convolution_backward_weights run_backward_weight_;
  dnnl::convolution_backward_data run_backward_input_;
  // Weights as the primitives want them, filled anew in each pass.
  dnnl::memory weight_, backward_input_weight_, weight_gradient_;
  // Activations for the weights' gradient, where it wants another layout of them.
  dnnl::memory backward_weight_in_, backward_weight_out_;
};

/// (B, C, H, W) → (B, C, H / 2, W / 2): the largest of 2 × 2, the first of equals.
class MaxPool {
 public:
  MaxPool(CpuDevice& device, const dnnl::memory::desc& in, const dnnl::memory::dims& out_dims);

  dnnl::memory::desc out_layout() const { return forward_.dst_desc(); }
  void forward(const dnnl::memory& in, dnnl::memory& out);
  /// Of the last `forward`.
  void backward(const dnnl::memory& out_gradient, dnnl::memory& in_gradient);

 private:
  CpuDevice& device_;
  dnnl::pooling_forward::primitive_desc forward_;
  dnnl::pooling_backward::primitive_desc backward_;
  dnnl::pooling_forward run_forward_;
  dnnl::pooling_backward run_backward_;
  dnnl::memory taken_;
};

/// (B, in) → (B, out): in · weightᵀ + bias, then relu where asked for. Dense arrays only, so nothing is reordered and
/// the gradient of the weight is written where it belongs.
class Linear {
 public:
  struct Shape {
    dnnl::memory::dim batch, in, out;
    bool relu;
  };
  Linear(CpuDevice& device, const Shape& shape);

  void forward(const float* in, const float* weight, const float* bias, float* out);
  /// `out_gradient`: of what comes before the relu.
  void backward_weight(const float* in, const float* out_gradient, float* weight_gradient, float* bias_gradient);
  void backward_input(const float* out_gradient, const float* weight, float* in_gradient);

 private:
  CpuDevice& device_;
  dnnl::memory::dims in_dims_, weight_dims_, bias_dims_, out_dims_;
  dnnl::inner_product_forward run_forward_;
  dnnl::inner_product_backward_weights run_backward_weight_;
  dnnl::inner_product_backward_data run_backward_input_;
};

}  // namespace llmlaunch::trainer
