// Layers as oneDNN primitives. Called by CpuNetwork, which owns the activations between them.
#include "trainer/cpu_layers.hpp"

#include <string_view>

namespace llmlaunch::trainer {
namespace {

using dnnl::algorithm;
using dnnl::memory;
using dnnl::prop_kind;

constexpr auto kFloat = memory::data_type::f32;
const memory::dims kNoPadding = {0, 0};
const memory::dims kUnitStride = {1, 1};
const memory::dims kPoolStride = {2, 2};
const memory::dims kPoolKernel = {2, 2};

memory::format_tag plain_tag(std::size_t dimensions) {
  if (dimensions == 1) return memory::format_tag::a;
  return dimensions == 2 ? memory::format_tag::ab : memory::format_tag::abcd;
}

dnnl::primitive_attr with_relu(bool wanted) {
  dnnl::primitive_attr attributes;
  if (!wanted) return attributes;
  dnnl::post_ops after;
  after.append_eltwise(1.0F, algorithm::eltwise_relu, 0.0F, 0.0F);
  attributes.set_post_ops(after);
  return attributes;
}

}  // namespace

memory::desc plain_layout(const memory::dims& dims) {
  return {dims, kFloat, plain_tag(dims.size())};
}

memory::desc any_layout(const memory::dims& dims) {
  return {dims, kFloat, memory::format_tag::any};
}

void reorder(CpuDevice& device, const memory& from, memory& to) {
  dnnl::reorder(from, to).execute(device.stream, const_cast<memory&>(from), to);  // oneDNN's signature; it only reads
}

memory view_of(CpuDevice& device, const memory::dims& dims, const float* values) {
  return {plain_layout(dims), device.engine, const_cast<float*>(values)};  // oneDNN has no memory that is only read
}

namespace {

using BackwardWeight = dnnl::convolution_backward_weights::primitive_desc;

/// For the layouts of the activations where oneDNN has more than its reference loops for them, which take a hundred
/// times as long (one input channel without AVX-512); else for those that it likes, and the activations are reordered.
BackwardWeight backward_weight_for(CpuDevice& device, const dnnl::convolution_forward::primitive_desc& forward,
                                   const memory::dims& weight_dims, const memory::dims& bias_dims) {
  const auto with = [&](const memory::desc& in, const memory::desc& out) {
    return BackwardWeight({algorithm::convolution_direct, in, any_layout(weight_dims), plain_layout(bias_dims), out,
                           kUnitStride, kNoPadding, kNoPadding},
                          device.engine, forward);
  };
  BackwardWeight made = with(forward.src_desc(), forward.dst_desc());
  if (!std::string_view(made.impl_info_str()).starts_with("ref")) return made;
  return with(any_layout(forward.src_desc().dims()), any_layout(forward.dst_desc().dims()));
}

/// `memory` itself, or its values in `other` when that has the layout that is wanted.
const memory& in_layout_of(CpuDevice& device, const memory& memory, dnnl::memory& other) {
  if (memory.get_desc() == other.get_desc()) return memory;
  reorder(device, memory, other);
  return other;
}

}  // namespace

ReluConvolution::ReluConvolution(CpuDevice& device, const Shape& shape, const memory::desc& in, const memory::desc& out)
    : device_(device),
      weight_dims_{shape.out_channels, shape.in_channels, 3, 3},
      bias_dims_{shape.out_channels},
      forward_({prop_kind::forward_training, algorithm::convolution_direct, in, any_layout(weight_dims_),
                plain_layout(bias_dims_), out, kUnitStride, kNoPadding, kNoPadding},
               with_relu(true), device.engine),
      backward_weight_(backward_weight_for(device, forward_, weight_dims_, bias_dims_)),
      backward_input_({algorithm::convolution_direct, in_layout(), any_layout(weight_dims_), out_layout(), kUnitStride,
                       kNoPadding, kNoPadding},
                      device.engine, forward_),
      run_forward_(forward_),
      run_backward_weight_(backward_weight_),
      run_backward_input_(backward_input_),
      weight_(forward_.weights_desc(), device.engine),
      backward_input_weight_(backward_input_.weights_desc(), device.engine),
      weight_gradient_(backward_weight_.diff_weights_desc(), device.engine),
      backward_weight_in_(backward_weight_.src_desc(), device.engine),
      backward_weight_out_(backward_weight_.diff_dst_desc(), device.engine) {}

void ReluConvolution::forward(const memory& in, const float* weight, const float* bias, memory& out) {
  reorder(device_, view_of(device_, weight_dims_, weight), weight_);
  run_forward_.execute(device_.stream, {{DNNL_ARG_SRC, in},
                                        {DNNL_ARG_WEIGHTS, weight_},
                                        {DNNL_ARG_BIAS, view_of(device_, bias_dims_, bias)},
                                        {DNNL_ARG_DST, out}});
}

void ReluConvolution::backward_weight(const memory& in, const memory& out_gradient, float* weight_gradient,
                                      float* bias_gradient) {
  run_backward_weight_.execute(device_.stream,
                               {{DNNL_ARG_SRC, in_layout_of(device_, in, backward_weight_in_)},
                                {DNNL_ARG_DIFF_DST, in_layout_of(device_, out_gradient, backward_weight_out_)},
                                {DNNL_ARG_DIFF_WEIGHTS, weight_gradient_},
                                {DNNL_ARG_DIFF_BIAS, view_of(device_, bias_dims_, bias_gradient)}});
  memory plain = view_of(device_, weight_dims_, weight_gradient);
  reorder(device_, weight_gradient_, plain);
  device_.stream.wait();
}

void ReluConvolution::backward_input(const memory& out_gradient, const float* weight, memory& in_gradient) {
  reorder(device_, view_of(device_, weight_dims_, weight), backward_input_weight_);
  run_backward_input_.execute(device_.stream, {{DNNL_ARG_DIFF_DST, out_gradient},
                                               {DNNL_ARG_WEIGHTS, backward_input_weight_},
                                               {DNNL_ARG_DIFF_SRC, in_gradient}});
  device_.stream.wait();
}

MaxPool::MaxPool(CpuDevice& device, const memory::desc& in, const memory::dims& out_dims)
    : device_(device),
      forward_({prop_kind::forward_training, algorithm::pooling_max, in, any_layout(out_dims), kPoolStride, kPoolKernel,
                kNoPadding, kNoPadding},
               device.engine),
      backward_({algorithm::pooling_max, in, out_layout(), kPoolStride, kPoolKernel, kNoPadding, kNoPadding},
                device.engine, forward_),
      run_forward_(forward_),
      run_backward_(backward_),
      taken_(forward_.workspace_desc(), device.engine) {}

void MaxPool::forward(const memory& in, memory& out) {
  run_forward_.execute(device_.stream, {{DNNL_ARG_SRC, in}, {DNNL_ARG_DST, out}, {DNNL_ARG_WORKSPACE, taken_}});
}

void MaxPool::backward(const memory& out_gradient, memory& in_gradient) {
  run_backward_.execute(
      device_.stream,
      {{DNNL_ARG_DIFF_DST, out_gradient}, {DNNL_ARG_DIFF_SRC, in_gradient}, {DNNL_ARG_WORKSPACE, taken_}});
}

Linear::Linear(CpuDevice& device, const Shape& shape)
    : device_(device),
      in_dims_{shape.batch, shape.in},
      weight_dims_{shape.out, shape.in},
      bias_dims_{shape.out},
      out_dims_{shape.batch, shape.out} {
  const memory::desc in = plain_layout(in_dims_);
  const memory::desc weight = plain_layout(weight_dims_);
  const memory::desc bias = plain_layout(bias_dims_);
  const memory::desc out = plain_layout(out_dims_);
  const dnnl::inner_product_forward::primitive_desc forward({prop_kind::forward_training, in, weight, bias, out},
                                                            with_relu(shape.relu), device.engine);
  run_forward_ = dnnl::inner_product_forward(forward);
  run_backward_weight_ = dnnl::inner_product_backward_weights({{in, weight, bias, out}, device.engine, forward});
  run_backward_input_ = dnnl::inner_product_backward_data({{in, weight, out}, device.engine, forward});
}

void Linear::forward(const float* in, const float* weight, const float* bias, float* out) {
  run_forward_.execute(device_.stream, {{DNNL_ARG_SRC, view_of(device_, in_dims_, in)},
                                        {DNNL_ARG_WEIGHTS, view_of(device_, weight_dims_, weight)},
                                        {DNNL_ARG_BIAS, view_of(device_, bias_dims_, bias)},
                                        {DNNL_ARG_DST, view_of(device_, out_dims_, out)}});
  device_.stream.wait();
}

void Linear::backward_weight(const float* in, const float* out_gradient, float* weight_gradient, float* bias_gradient) {
  run_backward_weight_.execute(device_.stream,
                               {{DNNL_ARG_SRC, view_of(device_, in_dims_, in)},
                                {DNNL_ARG_DIFF_DST, view_of(device_, out_dims_, out_gradient)},
                                {DNNL_ARG_DIFF_WEIGHTS, view_of(device_, weight_dims_, weight_gradient)},
                                {DNNL_ARG_DIFF_BIAS, view_of(device_, bias_dims_, bias_gradient)}});
  device_.stream.wait();
}

void Linear::backward_input(const float* out_gradient, const float* weight, float* in_gradient) {
  run_backward_input_.execute(device_.stream, {{DNNL_ARG_DIFF_DST, view_of(device_, out_dims_, out_gradient)},
                                               {DNNL_ARG_WEIGHTS, view_of(device_, weight_dims_, weight)},
                                               {DNNL_ARG_DIFF_SRC, view_of(device_, in_dims_, in_gradient)}});
  device_.stream.wait();
}

}  // namespace llmlaunch::trainer
