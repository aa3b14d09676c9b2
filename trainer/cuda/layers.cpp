// Layers by cuDNN, cuBLAS and the kernels. Made and driven by Network.
#include "trainer/cuda/layers.hpp"

#include "trainer/cuda/convolution.hpp"
#include "trainer/cuda/kernels.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

constexpr float kOne = 1.0F;
constexpr float kZero = 0.0F;

int narrow(std::size_t value) {
  return static_cast<int>(value);
}

cublasComputeType_t compute_type(Precision precision) {
  switch (precision) {
    case Precision::fp32: return CUBLAS_COMPUTE_32F_PEDANTIC;  // no TF32, as PyTorch's default for matrix products
    case Precision::tf32: return CUBLAS_COMPUTE_32F_FAST_TF32;
    case Precision::bf16: return CUBLAS_COMPUTE_32F_FAST_16BF;
  }
  return CUBLAS_COMPUTE_32F_PEDANTIC;
}

/// One of the operands of a product, row-major.
struct Operand {
  const float* values;
  std::size_t columns;
  bool transposed;
};

/// out (M, N) = a (M, K) · b (K, N), each after its transposition. cuBLAS thinks in columns; a row-major matrix is its
/// own transpose there, so the operands change places.
void multiply(const CudaContext& context, float* out, const Operand& a, const Operand& b, std::size_t m, std::size_t n,
              std::size_t k) {
  const auto operation = [](const Operand& operand) { return operand.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  CUBLAS_CHECK(cublasGemmEx, context.cublas, operation(b), operation(a), narrow(n), narrow(m), narrow(k), &kOne,
               b.values, CUDA_R_32F, narrow(b.columns), a.values, CUDA_R_32F, narrow(a.columns), &kZero, out,
               CUDA_R_32F, narrow(n), compute_type(context.precision), CUBLAS_GEMM_DEFAULT);
}

/// A layer with weight and bias: where they lie in the flat arrays.
class WeightedLayer : public CudaLayer {
 protected:
  WeightedLayer(CudaContext& context, const Model& model, const Stage& stage)
      : CudaLayer(context, stage),
        weight_(model.parameters[stage.weight].first),
        bias_(model.parameters[stage.weight + 1].first) {}

  std::size_t resize(std::size_t batch) override {
    batch_ = batch;
    out_.reserve(batch * stage_.out.count());
    return 0;
  }

  void finish_forward(const float* parameters) {
    const std::size_t area = stage_.out.height * stage_.out.width;
    if (stage_.relu) {
      add_bias_relu(out_.data(), parameters + bias_, batch_, stage_.out.channels, area, context_.stream);
    } else {
      add_bias(out_.data(), parameters + bias_, batch_, stage_.out.channels, area, context_.stream);
    }
  }

  void backward_bias(const float* out_gradient, float* gradient) {
    sum_per_channel(gradient + bias_, out_gradient, batch_, stage_.out.channels, stage_.out.height * stage_.out.width,
                    context_.stream);
  }

  std::size_t weight_, bias_;
  DeviceArray<float> out_;
  DeviceArray<float> in_gradient_;  // from the first backward pass on
};

class ConvolutionLayer final : public WeightedLayer {
 public:
  ConvolutionLayer(CudaContext& context, const Model& model, const Stage& stage)
      : WeightedLayer(context, model, stage),
        convolution_({.in_channels = narrow(stage.in.channels),
                      .out_channels = narrow(stage.out.channels),
                      .height = narrow(stage.in.height),
                      .width = narrow(stage.in.width),
                      .kernel = narrow(stage.kernel)},
                     context.precision) {}

  std::size_t resize(std::size_t batch) override {
    WeightedLayer::resize(batch);
    return convolution_.prepare(context_.cudnn, narrow(batch));
  }

  float* forward(float* in, const CudaPass& pass) override {
    convolution_.forward(context_.cudnn, out_.data(), in, pass.parameters + weight_, context_.workspace.data(),
                         context_.workspace.size());
    finish_forward(pass.parameters);
    return out_.data();
  }

  void backward_weight(const float* in, const float* out_gradient, float* gradient) override {
    convolution_.backward_weight(context_.cudnn, gradient + weight_, in, out_gradient, context_.workspace.data(),
                                 context_.workspace.size());
    backward_bias(out_gradient, gradient);
  }

  float* backward_input(float* out_gradient, const CudaPass& pass) override {
    in_gradient_.reserve(batch_ * stage_.in.count());
    convolution_.backward_input(context_.cudnn, in_gradient_.data(), pass.parameters + weight_, out_gradient,
                                context_.workspace.data(), context_.workspace.size());
    return in_gradient_.data();
  }

 private:
  Convolution convolution_;
};

class LinearLayer final : public WeightedLayer {
 public:
  LinearLayer(CudaContext& context, const Model& model, const Stage& stage) : WeightedLayer(context, model, stage) {}

  float* forward(float* in, const CudaPass& pass) override {
    const std::size_t from = stage_.in.count();
    const std::size_t to = stage_.out.count();
    multiply(context_, out_.data(), {in, from, false}, {pass.parameters + weight_, from, true}, batch_, to, from);
    finish_forward(pass.parameters);
    return out_.data();
  }

  void backward_weight(const float* in, const float* out_gradient, float* gradient) override {
    const std::size_t from = stage_.in.count();
    const std::size_t to = stage_.out.count();
    multiply(context_, gradient + weight_, {out_gradient, to, true}, {in, from, false}, to, from, batch_);
    backward_bias(out_gradient, gradient);
  }

  float* backward_input(float* out_gradient, const CudaPass& pass) override {
    in_gradient_.reserve(batch_ * stage_.in.count());
    const std::size_t from = stage_.in.count();
    const std::size_t to = stage_.out.count();
    multiply(context_, in_gradient_.data(), {out_gradient, to, false}, {pass.parameters + weight_, from, false}, batch_,
             from, to);
    return in_gradient_.data();
  }
};

class MaxPoolLayer final : public CudaLayer {
 public:
  MaxPoolLayer(CudaContext& context, const Stage& stage) : CudaLayer(context, stage) {}

  std::size_t resize(std::size_t batch) override {
    out_.reserve(batch * stage_.out.count());
    taken_.reserve(batch * stage_.out.count());
    return CudaLayer::resize(batch);
  }

  float* forward(float* in, const CudaPass&) override {
    max_pool(out_.data(), taken_.data(), in, batch_ * stage_.in.channels, stage_.in.height, stage_.in.width,
             context_.stream);
    return out_.data();
  }

  float* backward_input(float* out_gradient, const CudaPass&) override {
    in_gradient_.reserve(batch_ * stage_.in.count());
    max_pool_backward(in_gradient_.data(), out_gradient, taken_.data(), batch_ * stage_.in.channels, stage_.in.height,
                      stage_.in.width, context_.stream);
    return in_gradient_.data();
  }

 private:
  DeviceArray<float> out_;
  DeviceArray<std::uint8_t> taken_;
  DeviceArray<float> in_gradient_;  // from the first backward pass on
};

class DropoutLayer final : public CudaLayer {
 public:
  DropoutLayer(CudaContext& context, const Stage& stage) : CudaLayer(context, stage) {}

  float* forward(float* in, const CudaPass& pass) override {
    apply(in, pass);
    return in;
  }

  float* backward_input(float* out_gradient, const CudaPass& pass) override {
    if (!stage_.behind_relu) apply(out_gradient, pass);  // the same masks again
    return out_gradient;
  }

 private:
  void apply(float* values, const CudaPass& pass) const {
    if (!pass.dropout.on) return;
    const MaskSeries masks = {.seed = pass.dropout.seed,
                              .first_sample = pass.samples.first,
                              .stride = pass.samples.stride,
                              .layer = stage_.mask,
                              .current = pass.current};
    dropout(values, batch_, stage_.out.count(), stage_.p, masks, context_.stream);
  }
};

/// One that is no part of a layer before it. Backwards it is its run's gate.
class ReluLayer final : public CudaLayer {
 public:
  ReluLayer(CudaContext& context, const Stage& stage) : CudaLayer(context, stage) {}
  float* forward(float* in, const CudaPass&) override {
    relu(in, batch_ * stage_.out.count(), context_.stream);
    return in;
  }
  float* backward_input(float* out_gradient, const CudaPass&) override { return out_gradient; }
};

class FlattenLayer final : public CudaLayer {
 public:
  FlattenLayer(CudaContext& context, const Stage& stage) : CudaLayer(context, stage) {}
  float* forward(float* in, const CudaPass&) override { return in; }
  float* backward_input(float* out_gradient, const CudaPass&) override { return out_gradient; }
};

}  // namespace

std::unique_ptr<CudaLayer> make_cuda_layer(CudaContext& context, const Model& model, const Stage& stage) {
  switch (stage.kind) {
    case Stage::Kind::convolution: return std::make_unique<ConvolutionLayer>(context, model, stage);
    case Stage::Kind::linear: return std::make_unique<LinearLayer>(context, model, stage);
    case Stage::Kind::max_pool: return std::make_unique<MaxPoolLayer>(context, stage);
    case Stage::Kind::dropout: return std::make_unique<DropoutLayer>(context, stage);
    case Stage::Kind::relu: return std::make_unique<ReluLayer>(context, stage);
    case Stage::Kind::flatten: return std::make_unique<FlattenLayer>(context, stage);
  }
  return nullptr;
}

}  // namespace llmlaunch::trainer::cuda
