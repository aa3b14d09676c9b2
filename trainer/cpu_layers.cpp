// Layers as oneDNN primitives, and the two that are loops. Made and driven by CpuNetwork.
#include "trainer/cpu_layers.hpp"

#include <string_view>
#include <utility>

#include "trainer/cpu_kernels.hpp"

namespace llmlaunch::trainer {

using dnnl::algorithm;
using dnnl::memory;
using dnnl::prop_kind;

namespace {

constexpr auto kFloat = memory::data_type::f32;
const memory::dims kNoPadding = {0, 0};
const memory::dims kUnitStride = {1, 1};
const memory::dims kPoolStride = {2, 2};
const memory::dims kPoolKernel = {2, 2};

memory::format_tag plain_tag(std::size_t dimensions) {
  if (dimensions == 1) return memory::format_tag::a;
  return dimensions == 2 ? memory::format_tag::ab : memory::format_tag::abcd;
}

/// In whatever order a primitive likes best.
memory::desc any_layout(const memory::dims& dims, memory::data_type type = kFloat) {
  return {dims, type, memory::format_tag::any};
}

/// Of what is multiplied.
memory::data_type operand_type(const CpuDevice& device) {
  return device.math == CpuMath::bf16 ? memory::data_type::bf16 : kFloat;
}

/// Copies `from` to `to`, which may have another layout.
void reorder(CpuDevice& device, const memory& from, memory& to) {
  dnnl::reorder(from, to).execute(device.stream, const_cast<memory&>(from), to);  // oneDNN's signature; it only reads
}

/// A view of values that others own, dense.
memory view_of(CpuDevice& device, const memory::dims& dims, const float* values) {
  return {plain_layout(dims), device.engine, const_cast<float*>(values)};  // oneDNN has no memory that is only read
}

/// `memory` itself, or its values in `other` when that has the layout that is wanted.
const memory& in_layout_of(CpuDevice& device, const memory& memory, dnnl::memory& other) {
  if (memory.get_desc() == other.get_desc()) return memory;
  reorder(device, memory, other);
  return other;
}

/// What is to be multiplied, where oneDNN was given floats for it.
void round_floats(CpuDevice& device, const memory& operand) {
  if (device.math != CpuMath::emulated_bf16 && device.math != CpuMath::emulated_fp16) return;
  wait_for(device);
  const auto round = device.math == CpuMath::emulated_bf16 ? round_to_bf16 : round_to_fp16;
  round(values_of(operand));
}

/// What a product gave, where such numbers are too narrow for fp32's range.
void round_result(CpuDevice& device, std::span<float> values) {
  if (device.math != CpuMath::emulated_fp16) return;
  wait_for(device);
  round_to_fp16(values);
}

/// `given`, or its values in `own` where that has another layout or their numbers are to be rounded.
const memory& operand_of(CpuDevice& device, const memory& given, memory& own) {
  if (device.math == CpuMath::fp32) return in_layout_of(device, given, own);
  reorder(device, given, own);
  round_floats(device, own);
  return own;
}

dnnl::primitive_attr with_relu(bool wanted) {
  dnnl::primitive_attr attributes;
  if (!wanted) return attributes;
  dnnl::post_ops after;
  after.append_eltwise(1.0F, algorithm::eltwise_relu, 0.0F, 0.0F);
  attributes.set_post_ops(after);
  return attributes;
}

memory::dims signed_shape(const Parameter& parameter) {
  return {parameter.shape.begin(), parameter.shape.end()};
}

memory::dims convolution_weight_dims(const Stage& stage) {
  const auto kernel = static_cast<memory::dim>(stage.kernel);
  return {static_cast<memory::dim>(stage.out.channels), static_cast<memory::dim>(stage.in.channels), kernel, kernel};
}

dnnl::convolution_forward::primitive_desc convolution_for(CpuDevice& device, const Stage& stage, const memory::desc& in,
                                                          const memory::desc& out) {
  return {{prop_kind::forward_training, algorithm::convolution_direct, in,
           any_layout(convolution_weight_dims(stage), operand_type(device)),
           plain_layout({static_cast<memory::dim>(stage.out.channels)}), out, kUnitStride, kNoPadding, kNoPadding},
          with_relu(stage.relu),
          device.engine};
}

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
  if (device.math == CpuMath::fp32) {
    BackwardWeight made = with(forward.src_desc(), forward.dst_desc());
    if (!std::string_view(made.impl_info_str()).starts_with("ref")) return made;
  }
  const auto type = operand_type(device);
  return with(any_layout(forward.src_desc().dims(), type), any_layout(forward.dst_desc().dims(), type));
}

/// A layer with weight and bias: where they lie in the flat arrays.
class WeightedLayer : public CpuLayer {
 protected:
  WeightedLayer(CpuDevice& device, const Model& model, const Stage& stage, const memory& in)
      : CpuLayer(device, in),
        weight_first_(model.parameters[stage.weight].first),
        bias_first_(model.parameters[stage.weight + 1].first),
        weight_dims_(signed_shape(model.parameters[stage.weight])),
        bias_dims_(signed_shape(model.parameters[stage.weight + 1])) {}

  memory weight_in(const float* flat) const { return view_of(device_, weight_dims_, flat + weight_first_); }
  memory bias_in(const float* flat) const { return view_of(device_, bias_dims_, flat + bias_first_); }
  /// The weight in `as`, which has the layout and the numbers that are wanted.
  const memory& weight_operand(const CpuPass& pass, memory& as) const {
    reorder(device_, weight_in(pass.parameters), as);
    round_floats(device_, as);
    return as;
  }
  /// The bias as it is added.
  memory bias_operand(const CpuPass& pass) {
    const memory bias = bias_in(pass.parameters);
    if (device_.math != CpuMath::emulated_fp16) return bias;
    if (!rounded_bias_) rounded_bias_ = memory(plain_layout(bias_dims_), device_.engine);
    return operand_of(device_, bias, rounded_bias_);
  }
  void round_gradient(float* flat) const {
    round_result(device_, values_of(weight_in(flat)));
    round_result(device_, values_of(bias_in(flat)));
  }

 private:
  std::size_t weight_first_, bias_first_;
  memory::dims weight_dims_, bias_dims_;
  memory rounded_bias_;
};

class CpuConvolution final : public WeightedLayer {
 public:
  CpuConvolution(CpuDevice& device, const Model& model, const Stage& stage, const memory& in,
                 const memory::desc& liked_in, const memory::desc& liked_out)
      : WeightedLayer(device, model, stage, in),
        forward_(convolution_for(device, stage, liked_in, liked_out)),
        backward_weight_(backward_weight_for(device, forward_, convolution_weight_dims(stage),
                                             {static_cast<memory::dim>(stage.out.channels)})),
        backward_input_(backward_input_for(device, stage, forward_)),
        run_forward_(forward_),
        run_backward_weight_(backward_weight_),
        run_backward_input_(backward_input_),
        own_in_(keeps(device, forward_.src_desc(), in) ? in : memory(forward_.src_desc(), device.engine)),
        weight_(forward_.weights_desc(), device.engine),
        backward_input_weight_(backward_input_.weights_desc(), device.engine),
        weight_gradient_(backward_weight_.diff_weights_desc(), device.engine),
        backward_weight_in_(backward_weight_.src_desc(), device.engine),
        backward_weight_out_(backward_weight_.diff_dst_desc(), device.engine) {
    out_ = memory(forward_.dst_desc(), device.engine);
  }

  void forward(const CpuPass& pass) override {
    operand_of(device_, in_, own_in_);
    run_forward_.execute(device_.stream, {{DNNL_ARG_SRC, own_in_},
                                          {DNNL_ARG_WEIGHTS, weight_operand(pass, weight_)},
                                          {DNNL_ARG_BIAS, bias_operand(pass)},
                                          {DNNL_ARG_DST, out_}});
    round_result(device_, values_of(out_));
  }

  void backward_weight(const memory& out_gradient, float* gradient) override {
    run_backward_weight_.execute(device_.stream,
                                 {{DNNL_ARG_SRC, in_layout_of(device_, own_in_, backward_weight_in_)},
                                  {DNNL_ARG_DIFF_DST, operand_of(device_, out_gradient, backward_weight_out_)},
                                  {DNNL_ARG_DIFF_WEIGHTS, weight_gradient_},
                                  {DNNL_ARG_DIFF_BIAS, bias_in(gradient)}});
    memory plain = weight_in(gradient);
    reorder(device_, weight_gradient_, plain);
    wait_for(device_);
    round_gradient(gradient);
  }

  memory backward_input(const memory& out_gradient, const CpuPass& pass) override {
    if (!in_gradient_) {
      in_gradient_ = memory(in_.get_desc(), device_.engine);
      const memory::desc own = backward_input_.diff_src_desc();
      own_in_gradient_ = own == in_.get_desc() ? in_gradient_ : memory(own, device_.engine);
      backward_input_out_ = memory(backward_input_.diff_dst_desc(), device_.engine);
    }
    run_backward_input_.execute(device_.stream,
                                {{DNNL_ARG_DIFF_DST, operand_of(device_, out_gradient, backward_input_out_)},
                                 {DNNL_ARG_WEIGHTS, weight_operand(pass, backward_input_weight_)},
                                 {DNNL_ARG_DIFF_SRC, own_in_gradient_}});
    const memory& given = in_layout_of(device_, own_in_gradient_, in_gradient_);
    wait_for(device_);
    round_result(device_, values_of(given));
    return given;
  }

 private:
  using BackwardInput = dnnl::convolution_backward_data::primitive_desc;

  static BackwardInput backward_input_for(CpuDevice& device, const Stage& stage,
                                          const dnnl::convolution_forward::primitive_desc& forward) {
    const auto type = operand_type(device);
    const bool rounds = device.math != CpuMath::fp32;
    return {{algorithm::convolution_direct, rounds ? any_layout(forward.src_desc().dims()) : forward.src_desc(),
             any_layout(convolution_weight_dims(stage), type),
             rounds ? any_layout(forward.dst_desc().dims(), type) : forward.dst_desc(), kUnitStride, kNoPadding,
             kNoPadding},
            device.engine,
            forward};
  }

  static bool keeps(const CpuDevice& device, const memory::desc& wanted, const memory& in) {
    return device.math == CpuMath::fp32 && wanted == in.get_desc();
  }

  dnnl::convolution_forward::primitive_desc forward_;
  dnnl::convolution_backward_weights::primitive_desc backward_weight_;
  BackwardInput backward_input_;
  dnnl::convolution_forward run_forward_;
  dnnl::convolution_backward_weights run_backward_weight_;
  dnnl::convolution_backward_data run_backward_input_;
  memory own_in_;  // the input, or a copy as the primitives want it
  // Weights as the primitives want them, filled anew in each pass.
  memory weight_, backward_input_weight_, weight_gradient_;
  // Activations for the weights' gradient, where it wants another layout of them.
  memory backward_weight_in_, backward_weight_out_;
  memory in_gradient_, own_in_gradient_, backward_input_out_;  // from the first backward pass on
};

/// The largest of 2 × 2, the first of equals.
class CpuMaxPool final : public CpuLayer {
 public:
  CpuMaxPool(CpuDevice& device, const Stage& stage, std::size_t batch, const memory& in)
      : CpuLayer(device, in),
        forward_({prop_kind::forward_training, algorithm::pooling_max, in.get_desc(),
                  any_layout(dims_of(stage.out, batch)), kPoolStride, kPoolKernel, kNoPadding, kNoPadding},
                 device.engine),
        backward_({algorithm::pooling_max, in.get_desc(), forward_.dst_desc(), kPoolStride, kPoolKernel, kNoPadding,
                   kNoPadding},
                  device.engine, forward_),
        run_forward_(forward_),
        run_backward_(backward_),
        taken_(forward_.workspace_desc(), device.engine) {
    out_ = memory(forward_.dst_desc(), device.engine);
  }

  void forward(const CpuPass&) override {
    run_forward_.execute(device_.stream, {{DNNL_ARG_SRC, in_}, {DNNL_ARG_DST, out_}, {DNNL_ARG_WORKSPACE, taken_}});
  }

  memory backward_input(const memory& out_gradient, const CpuPass&) override {
    if (!in_gradient_) in_gradient_ = memory(in_.get_desc(), device_.engine);
    run_backward_.execute(
        device_.stream,
        {{DNNL_ARG_DIFF_DST, out_gradient}, {DNNL_ARG_DIFF_SRC, in_gradient_}, {DNNL_ARG_WORKSPACE, taken_}});
    return in_gradient_;
  }

 private:
  dnnl::pooling_forward::primitive_desc forward_;
  dnnl::pooling_backward::primitive_desc backward_;
  dnnl::pooling_forward run_forward_;
  dnnl::pooling_backward run_backward_;
  memory taken_;
  memory in_gradient_;  // from the first backward pass on
};

/// In fp32 dense arrays only, so that nothing is reordered; the gradient of the weight is written where it belongs.
class CpuLinear final : public WeightedLayer {
 public:
  CpuLinear(CpuDevice& device, const Model& model, const Stage& stage, std::size_t batch, const memory& in)
      : WeightedLayer(device, model, stage, in), rounds_(device.math != CpuMath::fp32) {
    const auto type = operand_type(device);
    const memory::dims from = dims_of(stage.in, batch);
    const memory::dims to = dims_of(stage.out, batch);
    const memory::dims weights = signed_shape(model.parameters[stage.weight]);
    const memory::desc weight = rounds_ ? any_layout(weights, type) : plain_layout(weights);
    const memory::desc bias = plain_layout(signed_shape(model.parameters[stage.weight + 1]));
    const dnnl::inner_product_forward::primitive_desc forward(
        {prop_kind::forward_training, plain_layout(from, type), weight, bias, plain_layout(to)}, with_relu(stage.relu),
        device.engine);
    const dnnl::inner_product_backward_weights::primitive_desc backward_weight(
        {plain_layout(from, type), plain_layout(weights), bias, plain_layout(to, type)}, device.engine, forward);
    const dnnl::inner_product_backward_data::primitive_desc backward_input(
        {plain_layout(from), weight, plain_layout(to, type)}, device.engine, forward);
    run_forward_ = dnnl::inner_product_forward(forward);
    run_backward_weight_ = dnnl::inner_product_backward_weights(backward_weight);
    run_backward_input_ = dnnl::inner_product_backward_data(backward_input);
    out_ = memory(plain_layout(to), device.engine);
    if (!rounds_) return;
    own_in_ = memory(plain_layout(from, type), device.engine);
    own_out_gradient_ = memory(plain_layout(to, type), device.engine);
    weight_ = memory(forward.weights_desc(), device.engine);
    backward_input_weight_ = memory(backward_input.weights_desc(), device.engine);
  }

  void forward(const CpuPass& pass) override {
    if (rounds_) operand_of(device_, in_, own_in_);
    run_forward_.execute(device_.stream,
                         {{DNNL_ARG_SRC, rounds_ ? own_in_ : in_},
                          {DNNL_ARG_WEIGHTS, rounds_ ? weight_operand(pass, weight_) : weight_in(pass.parameters)},
                          {DNNL_ARG_BIAS, bias_operand(pass)},
                          {DNNL_ARG_DST, out_}});
    wait_for(device_);
    round_result(device_, values_of(out_));
  }

  void backward_weight(const memory& out_gradient, float* gradient) override {
    if (rounds_) operand_of(device_, out_gradient, own_out_gradient_);
    run_backward_weight_.execute(device_.stream, {{DNNL_ARG_SRC, rounds_ ? own_in_ : in_},
                                                  {DNNL_ARG_DIFF_DST, rounds_ ? own_out_gradient_ : out_gradient},
                                                  {DNNL_ARG_DIFF_WEIGHTS, weight_in(gradient)},
                                                  {DNNL_ARG_DIFF_BIAS, bias_in(gradient)}});
    wait_for(device_);
    round_gradient(gradient);
  }

  /// After `backward_weight` with the same gradient.
  memory backward_input(const memory& out_gradient, const CpuPass& pass) override {
    if (!in_gradient_) in_gradient_ = memory(plain_layout(in_.get_desc().dims()), device_.engine);
    run_backward_input_.execute(
        device_.stream,
        {{DNNL_ARG_DIFF_DST, rounds_ ? own_out_gradient_ : out_gradient},
         {DNNL_ARG_WEIGHTS, rounds_ ? weight_operand(pass, backward_input_weight_) : weight_in(pass.parameters)},
         {DNNL_ARG_DIFF_SRC, in_gradient_}});
    wait_for(device_);
    round_result(device_, values_of(in_gradient_));
    return in_gradient_;
  }

 private:
  bool rounds_;
  dnnl::inner_product_forward run_forward_;
  dnnl::inner_product_backward_weights run_backward_weight_;
  dnnl::inner_product_backward_data run_backward_input_;
  memory own_in_, own_out_gradient_, weight_, backward_input_weight_;  // rounded operands
  memory in_gradient_;                                                 // from the first backward pass on
};

/// A copy in plain order, or a view where the input has it already.
class CpuFlatten final : public CpuLayer {
 public:
  CpuFlatten(CpuDevice& device, const Stage& stage, std::size_t batch, const memory& in)
      : CpuLayer(device, in), plain_(plain_layout(dims_of(stage.in, batch))), copies_(in.get_desc() != plain_) {
    const memory::desc flat = plain_layout(dims_of(stage.out, batch));
    out_ = copies_ ? memory(flat, device.engine) : memory(flat, device.engine, in.get_data_handle());
  }

  void forward(const CpuPass&) override {
    if (!copies_) {
      out_.set_data_handle(in_.get_data_handle());  // the images are others' memory, in each pass another one
      return;
    }
    memory to(plain_, device_.engine, out_.get_data_handle());
    reorder(device_, in_, to);
    wait_for(device_);
  }

  memory backward_input(const memory& out_gradient, const CpuPass&) override {
    memory from(plain_, device_.engine, out_gradient.get_data_handle());
    if (!copies_) return from;
    // The input itself has been used up: what comes after saw the copy.
    reorder(device_, from, in_);
    return in_;
  }

 private:
  memory::desc plain_;
  bool copies_;
};

class CpuDropout final : public CpuLayer {
 public:
  CpuDropout(CpuDevice& device, const Stage& stage, const memory& in) : CpuLayer(device, in), stage_(stage) {
    out_ = in;
  }

  void forward(const CpuPass& pass) override { apply(out_, pass); }

  memory backward_input(const memory& out_gradient, const CpuPass& pass) override {
    if (!stage_.behind_relu) apply(out_gradient, pass);  // the same masks again
    return out_gradient;
  }

 private:
  void apply(const memory& to, const CpuPass& pass) const {
    if (!pass.dropout.on) return;
    drop_out(values_of(to), stage_.out.count(), stage_.p, {pass.dropout.seed, stage_.mask, pass.samples});
  }

  Stage stage_;
};

/// One that is no part of a layer before it. Backwards it is its run's gate.
class CpuRelu final : public CpuLayer {
 public:
  CpuRelu(CpuDevice& device, const memory& in) : CpuLayer(device, in) { out_ = in; }
  void forward(const CpuPass&) override {
    for (float& value : values_of(out_)) value = value > 0 ? value : 0;
  }
  memory backward_input(const memory& out_gradient, const CpuPass&) override { return out_gradient; }
};

}  // namespace

void wait_for(CpuDevice& device) {
  device.stream.wait();
#ifdef __x86_64__
  static const bool kHasUpperHalves = __builtin_cpu_supports("avx") != 0;
  // Told to the compiler: it may keep something as wide as a whole register.
  if (kHasUpperHalves) {
    asm volatile("vzeroupper" ::
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13", "xmm14", "xmm15");
  }
#endif
}

memory::desc plain_layout(const memory::dims& dims, memory::data_type type) {
  return {dims, type, plain_tag(dims.size())};
}

memory::dims dims_of(const Extent& extent, std::size_t batch) {
  memory::dims dims = {static_cast<memory::dim>(batch), static_cast<memory::dim>(extent.channels)};
  if (!extent.flat) {
    dims.push_back(static_cast<memory::dim>(extent.height));
    dims.push_back(static_cast<memory::dim>(extent.width));
  }
  return dims;
}

std::span<float> values_of(const memory& memory) {
  return {static_cast<float*>(memory.get_data_handle()), memory.get_desc().get_size() / sizeof(float)};
}

memory::desc liked_input(CpuDevice& device, const Stage& stage, std::size_t batch, const memory::desc& out) {
  // One that rounds its input copies it in any case.
  if (stage.kind != Stage::Kind::convolution || device.math != CpuMath::fp32) return {};
  const memory::desc to = out ? out : any_layout(dims_of(stage.out, batch));
  return convolution_for(device, stage, any_layout(dims_of(stage.in, batch)), to).src_desc();
}

std::unique_ptr<CpuLayer> make_cpu_layer(CpuDevice& device, const Model& model, const Stage& stage, std::size_t batch,
                                         const memory& in, const memory::desc& liked_in,
                                         const memory::desc& liked_out) {
  const auto input_layout = [&] {
    if (device.math != CpuMath::fp32) return any_layout(dims_of(stage.in, batch), operand_type(device));
    return liked_in ? liked_in : in.get_desc();
  };
  switch (stage.kind) {
    case Stage::Kind::convolution:
      return std::make_unique<CpuConvolution>(device, model, stage, in, input_layout(),
                                              liked_out ? liked_out : any_layout(dims_of(stage.out, batch)));
    case Stage::Kind::linear: return std::make_unique<CpuLinear>(device, model, stage, batch, in);
    case Stage::Kind::max_pool: return std::make_unique<CpuMaxPool>(device, stage, batch, in);
    case Stage::Kind::flatten: return std::make_unique<CpuFlatten>(device, stage, batch, in);
    case Stage::Kind::dropout: return std::make_unique<CpuDropout>(device, stage, in);
    case Stage::Kind::relu: return std::make_unique<CpuRelu>(device, in);
  }
  return nullptr;
}

}  // namespace llmlaunch::trainer
