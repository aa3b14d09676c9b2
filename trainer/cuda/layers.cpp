// Layers by cuDNN, cuBLAS and the kernels. Made and driven by Network.
#include "trainer/cuda/layers.hpp"

#include <algorithm>
#include <optional>

#include "trainer/cuda/convolution.hpp"
#include "trainer/cuda/kernels.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

constexpr float kOne = 1.0F;
constexpr float kZero = 0.0F;
/// What NVIDIA recommends from Hopper on.
constexpr std::size_t kProductWorkspace = std::size_t{32} << 20U;

int narrow(std::size_t value) {
  return static_cast<int>(value);
}

cublasComputeType_t compute_type(Precision precision) {
  switch (precision) {
    case Precision::fp32: return CUBLAS_COMPUTE_32F;  // no TF32 unless asked for, as PyTorch's for matrix products
    case Precision::tf32: return CUBLAS_COMPUTE_32F_FAST_TF32;
    case Precision::bf16: return CUBLAS_COMPUTE_32F_FAST_16BF;
    case Precision::fp16: return CUBLAS_COMPUTE_32F;  // of halves
  }
  return CUBLAS_COMPUTE_32F;
}

/// One of the operands of a product, row-major.
struct Operand {
  const void* values;  // floats, or for fp16 halves
  std::size_t columns;
  bool transposed;
};

/// out (M, N) = a (M, K) · b (K, N), each after its transposition. cuBLAS thinks in columns; a row-major matrix is its
/// own transpose there, so the operands change places.
void multiply(const CudaContext& context, float* out, const Operand& a, const Operand& b, std::size_t m, std::size_t n,
              std::size_t k) {
  const auto operation = [](const Operand& operand) { return operand.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const cudaDataType type = context.precision == Precision::fp16 ? CUDA_R_16F : CUDA_R_32F;
  CUBLAS_CHECK(cublasGemmEx, context.cublas, operation(b), operation(a), narrow(n), narrow(m), narrow(k), &kOne,
               b.values, type, narrow(b.columns), a.values, type, narrow(a.columns), &kZero, out, CUDA_R_32F, narrow(n),
               compute_type(context.precision), CUBLAS_GEMM_DEFAULT);
}

/// Whether what is behind the stage at `place` adds its bias and clips, on its own way over the values: a pool behind a
/// convolution, a dropout behind a linear layer, the loss behind the last one, where there is no relu. Nobody else
/// wants what lies between. Backwards the gate of their run does what the relu's would.
bool leaves_bias(const CudaContext& context, const Model& model, std::size_t place) {
  if (context.precision == Precision::fp16) return false;
  if (place + 1 == model.stages.size())
    return model.stages[place].kind == Stage::Kind::linear && !model.stages[place].relu;
  if (!model.stages[place].relu) return false;
  const Stage::Kind next = model.stages[place + 1].kind;
  return model.stages[place].kind == Stage::Kind::convolution ? next == Stage::Kind::max_pool
                                                              : next == Stage::Kind::dropout;
}

/// A layer with weight and bias: where they lie in the flat arrays.
class WeightedLayer : public CudaLayer {
 protected:
  WeightedLayer(CudaContext& context, const Model& model, std::size_t place)
      : CudaLayer(context, model.stages[place]),
        weight_(model.parameters[stage_.weight].first),
        bias_(model.parameters[stage_.weight + 1].first),
        weights_(model.parameters[stage_.weight].count),
        leaves_bias_(leaves_bias(context, model, place)) {}

  std::size_t resize(std::size_t batch) override {
    batch_ = batch;
    out_.reserve(batch * stage_.out.count());
    const std::size_t parts = parts_per_channel(batch, area());
    if (parts > 1) bias_parts_.reserve(parts * stage_.out.channels);
    if (!halves()) return 0;
    half_in_.reserve(batch * stage_.in.count());
    half_weight_.reserve(weights_);
    half_out_.reserve(batch * stage_.out.count());
    return 0;
  }

  void finish_forward(const float* parameters) const {
    if (leaves_bias_) {
      return;
    } else if (halves()) {
      add_bias_in_fp16(out_.data(), parameters + bias_, stage_.relu, batch_, stage_.out.channels, area(),
                       context_.stream);
    } else if (stage_.relu) {
      add_bias_relu(out_.data(), parameters + bias_, batch_, stage_.out.channels, area(), context_.stream);
    } else {
      add_bias(out_.data(), parameters + bias_, batch_, stage_.out.channels, area(), context_.stream);
    }
  }

  void backward_bias(const float* out_gradient, float* gradient) const {
    sum_per_channel(gradient + bias_, bias_parts_.data(), out_gradient, batch_, stage_.out.channels, area(),
                    context_.stream);
    if (halves()) round_to_fp16(gradient + bias_, stage_.out.channels, context_.stream);
  }

  bool halves() const { return context_.precision == Precision::fp16; }
  std::size_t area() const { return stage_.out.height * stage_.out.width; }

  /// What is to be multiplied: the values, or, for fp16, their halves in `own`.
  const void* operand(const DeviceArray<__half>& own, const float* values, std::size_t count) const {
    if (!halves()) return values;
    to_halves(own.data(), values, count, context_.stream);
    return own.data();
  }
  const void* in_operand(const float* in) const { return operand(half_in_, in, batch_ * stage_.in.count()); }
  const void* weight_operand(const CudaPass& pass) const {
    return operand(half_weight_, pass.parameters + weight_, weights_);
  }
  const void* out_gradient_operand(const float* out_gradient) const {
    return operand(half_out_, out_gradient, batch_ * stage_.out.count());
  }
  /// What `operand` gave before, in the same pass.
  const void* operand_again(const DeviceArray<__half>& own, const float* values) const {
    return halves() ? static_cast<const void*>(own.data()) : values;
  }

  std::size_t weight_, bias_;
  std::size_t weights_;  // how many
  bool leaves_bias_;
  DeviceArray<float> out_;
  DeviceArray<__half> half_in_, half_weight_, half_out_;  // fp16's; the last one's gradient from the way back on
  DeviceArray<float> in_gradient_;                        // from the first backward pass on
  DeviceArray<float> bias_parts_;                         // of the bias's gradient, where it is added up in several
};

class ConvolutionLayer final : public WeightedLayer {
 public:
  ConvolutionLayer(CudaContext& context, const Model& model, std::size_t place)
      : WeightedLayer(context, model, place),
        convolution_({.in_channels = narrow(stage_.in.channels),
                      .out_channels = narrow(stage_.out.channels),
                      .height = narrow(stage_.in.height),
                      .width = narrow(stage_.in.width),
                      .kernel = narrow(stage_.kernel)},
                     context.precision, context.algorithms) {}

  std::size_t resize(std::size_t batch) override {
    WeightedLayer::resize(batch);
    if (halves()) half_product_.reserve(std::max(weights_, batch * stage_.in.count()));
    return convolution_.prepare(context_.cudnn, narrow(batch));
  }

  float* forward(float* in, const CudaPass& pass) override {
    const Product out = product(half_out_, out_.data(), batch_ * stage_.out.count());
    convolution_.forward(context_.cudnn, out.given, in_operand(in), weight_operand(pass), context_.workspace.data());
    take(out, context_.stream);
    finish_forward(pass.parameters);
    return out_.data();
  }

  void backward_weight(const float* in, const float* out_gradient, float* gradient, const CudaPass&) override {
    const Product weight_gradient = product(half_product_, gradient + weight_, weights_);
    convolution_.backward_weight(context_.cudnn, weight_gradient.given, operand_again(half_in_, in),
                                 out_gradient_operand(out_gradient), context_.workspace.data());
    take(weight_gradient, context_.stream);
    backward_bias(out_gradient, gradient);
  }

  float* backward_input(float* out_gradient, const CudaPass& pass, CudaContext& on) override {
    in_gradient_.reserve(batch_ * stage_.in.count());
    const Product in_gradient = product(half_product_, in_gradient_.data(), batch_ * stage_.in.count());
    convolution_.backward_input(on.cudnn, in_gradient.given, operand_again(half_weight_, pass.parameters + weight_),
                                operand_again(half_out_, out_gradient), on.workspace.data());
    take(in_gradient, on.stream);
    return in_gradient_.data();
  }

 private:
  /// Where cuDNN writes, and where the floats of it go.
  struct Product {
    void* given;
    float* wanted;
    std::size_t count;
  };
  Product product(const DeviceArray<__half>& own, float* wanted, std::size_t count) const {
    if (!halves()) return {wanted, wanted, count};
    return {own.data(), wanted, count};
  }
  void take(const Product& product, cudaStream_t stream) const {
    if (!halves()) return;
    from_halves(product.wanted, static_cast<const __half*>(product.given), product.count, stream);
  }

  Convolution convolution_;
  DeviceArray<__half> half_product_;  // on the way back
};

/// Whether the stage at `place` convolves the images themselves by a kernel that is made for it.
bool convolves_images(const CudaContext& context, const Model& model, std::size_t place) {
  const Stage& stage = model.stages[place];
  return context.precision != Precision::fp16 && stage.kind == Stage::Kind::convolution && stage.weight == 0 &&
         stage.in == kImageExtent && stage.kernel == 3;
}

/// The first convolution. Its gate is in the sums: nobody else wants what passes it.
class ImageConvolutionLayer final : public WeightedLayer {
 public:
  ImageConvolutionLayer(CudaContext& context, const Model& model, std::size_t place)
      : WeightedLayer(context, model, place) {}

  std::size_t resize(std::size_t batch) override {
    parts_.reserve((weights_ + stage_.out.channels) * image_parts(batch));
    return WeightedLayer::resize(batch);
  }

  float* forward(float* in, const CudaPass& pass) override {
    convolve_images(out_.data(), in, pass.parameters + weight_, leaves_bias_ ? nullptr : pass.parameters + bias_,
                    stage_.relu && !leaves_bias_, batch_, stage_.out.channels, context_.stream);
    return out_.data();
  }

  bool takes_gate() const override { return true; }

  void backward_weight(const float* in, const float* out_gradient, float* gradient, const CudaPass& pass) override {
    convolve_images_backward(gradient + weight_, parts_.data(), in, out_gradient, pass.gate, batch_,
                             stage_.out.channels, context_.stream);
  }

  /// The images need none.
  float* backward_input(float* out_gradient, const CudaPass&, CudaContext&) override { return out_gradient; }

 private:
  DeviceArray<float> parts_;
};

class LinearLayer final : public WeightedLayer {
 public:
  LinearLayer(CudaContext& context, const Model& model, std::size_t place) : WeightedLayer(context, model, place) {}

  float* forward(float* in, const CudaPass& pass) override {
    const std::size_t from = stage_.in.count();
    const std::size_t to = stage_.out.count();
    multiply(context_, out_.data(), {in_operand(in), from, false}, {weight_operand(pass), from, true}, batch_, to,
             from);
    finish_forward(pass.parameters);
    return out_.data();
  }

  void backward_weight(const float* in, const float* out_gradient, float* gradient, const CudaPass&) override {
    const std::size_t from = stage_.in.count();
    const std::size_t to = stage_.out.count();
    multiply(context_, gradient + weight_, {out_gradient_operand(out_gradient), to, true},
             {operand_again(half_in_, in), from, false}, to, from, batch_);
    if (halves()) round_to_fp16(gradient + weight_, weights_, context_.stream);
    backward_bias(out_gradient, gradient);
  }

  float* backward_input(float* out_gradient, const CudaPass& pass, CudaContext& on) override {
    in_gradient_.reserve(batch_ * stage_.in.count());
    const std::size_t from = stage_.in.count();
    const std::size_t to = stage_.out.count();
    multiply(on, in_gradient_.data(), {operand_again(half_out_, out_gradient), to, false},
             {operand_again(half_weight_, pass.parameters + weight_), from, false}, batch_, from, to);
    if (halves()) round_to_fp16(in_gradient_.data(), batch_ * from, on.stream);
    return in_gradient_.data();
  }
};

class MaxPoolLayer final : public CudaLayer {
 public:
  MaxPoolLayer(CudaContext& context, const Model& model, std::size_t place)
      : CudaLayer(context, model.stages[place]), bias_(bias_before(context, model, place)) {}

  std::size_t resize(std::size_t batch) override {
    out_.reserve(batch * stage_.out.count());
    taken_.reserve(batch * stage_.out.count());
    return CudaLayer::resize(batch);
  }

  float* forward(float* in, const CudaPass& pass) override {
    max_pool(out_.data(), taken_.data(), in, bias_ ? pass.parameters + *bias_ : nullptr, batch_, shape(),
             context_.stream);
    return out_.data();
  }

  bool takes_gate() const override { return true; }

  float* backward_input(float* out_gradient, const CudaPass& pass, CudaContext& on) override {
    in_gradient_.reserve(batch_ * stage_.in.count());
    max_pool_backward(in_gradient_.data(), out_gradient, taken_.data(), pass.gate, batch_, shape(), on.stream);
    return in_gradient_.data();
  }

 private:
  PoolShape shape() const {
    return {.channels = stage_.in.channels, .height = stage_.in.height, .width = stage_.in.width};
  }

  std::optional<std::size_t> bias_;  // where that of the layer before is, if it is added here
  DeviceArray<float> out_;
  DeviceArray<std::uint8_t> taken_;
  DeviceArray<float> in_gradient_;  // from the first backward pass on
};

class DropoutLayer final : public CudaLayer {
 public:
  DropoutLayer(CudaContext& context, const Model& model, std::size_t place)
      : CudaLayer(context, model.stages[place]), bias_(bias_before(context, model, place)) {}

  float* forward(float* in, const CudaPass& pass) override {
    const float* const bias = bias_ ? pass.parameters + *bias_ : nullptr;
    if (pass.dropout.on) {
      apply(in, bias, pass, context_.stream);
    } else if (bias != nullptr) {
      add_bias_relu(in, bias, batch_, stage_.out.count(), 1, context_.stream);
    }
    return in;
  }

  float* backward_input(float* out_gradient, const CudaPass& pass, CudaContext& on) override {
    if (!stage_.behind_relu && pass.dropout.on) apply(out_gradient, nullptr, pass, on.stream);  // the same masks again
    return out_gradient;
  }

 private:
  void apply(float* values, const float* bias, const CudaPass& pass, cudaStream_t stream) const {
    const MaskSeries masks = {.seed = pass.dropout.seed,
                              .first_sample = pass.samples.first,
                              .stride = pass.samples.stride,
                              .layer = stage_.mask,
                              .current = pass.current};
    dropout(values, bias, batch_, stage_.out.count(), stage_.p, masks, stream);
  }

  std::optional<std::size_t> bias_;  // where that of the layer before is, if it is added here
};

/// One that is no part of a layer before it. Backwards it is its run's gate.
class ReluLayer final : public CudaLayer {
 public:
  ReluLayer(CudaContext& context, const Stage& stage) : CudaLayer(context, stage) {}
  float* forward(float* in, const CudaPass&) override {
    relu(in, batch_ * stage_.out.count(), context_.stream);
    return in;
  }
  float* backward_input(float* out_gradient, const CudaPass&, CudaContext&) override { return out_gradient; }
};

class FlattenLayer final : public CudaLayer {
 public:
  FlattenLayer(CudaContext& context, const Stage& stage) : CudaLayer(context, stage) {}
  float* forward(float* in, const CudaPass&) override { return in; }
  float* backward_input(float* out_gradient, const CudaPass&, CudaContext&) override { return out_gradient; }
};

}  // namespace

std::optional<std::size_t> bias_before(const CudaContext& context, const Model& model, std::size_t place) {
  if (place == 0 || !leaves_bias(context, model, place - 1)) return {};
  return model.parameters[model.stages[place - 1].weight + 1].first;
}

CudaContext::~CudaContext() {
  if (cudnn != nullptr) cuda::cudnn().cudnnDestroy(cudnn);
  if (cublas != nullptr) cuda::cublas().cublasDestroy_v2(cublas);
}

void CudaContext::open(cudaStream_t on, Precision of) {
  stream = on;
  precision = of;
  CUBLAS_CHECK(cublasCreate_v2, &cublas);
  CUBLAS_CHECK(cublasSetStream_v2, cublas, stream);
  // Its own would be allocated inside a graph that is being captured, and its size decides what is chosen.
  product_workspace.reserve(kProductWorkspace);
  CUBLAS_CHECK(cublasSetWorkspace_v2, cublas, product_workspace.data(), kProductWorkspace);
  CUDNN_CHECK(cudnnCreate, &cudnn);
  CUDNN_CHECK(cudnnSetStream, cudnn, stream);
}

std::unique_ptr<CudaLayer> make_cuda_layer(CudaContext& context, const Model& model, std::size_t place) {
  const Stage& stage = model.stages[place];
  switch (stage.kind) {
    case Stage::Kind::convolution:
      if (convolves_images(context, model, place)) {
        return std::make_unique<ImageConvolutionLayer>(context, model, place);
      }
      return std::make_unique<ConvolutionLayer>(context, model, place);
    case Stage::Kind::linear: return std::make_unique<LinearLayer>(context, model, place);
    case Stage::Kind::max_pool: return std::make_unique<MaxPoolLayer>(context, model, place);
    case Stage::Kind::dropout: return std::make_unique<DropoutLayer>(context, model, place);
    case Stage::Kind::relu: return std::make_unique<ReluLayer>(context, stage);
    case Stage::Kind::flatten: return std::make_unique<FlattenLayer>(context, stage);
  }
  return nullptr;
}

}  // namespace llmlaunch::trainer::cuda
