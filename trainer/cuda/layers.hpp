/// \file
/// One body per kind of layer on one GPU, behind one interface. Activations are dense (B, C, H, W) or (B, features), so
/// that flatten is nothing. Numbers in memory are fp32; `Precision` is what the libraries multiply: cuBLAS rounds
/// operands to TF32 or bfloat16 on their way into the tensor cores, cuDNN to TF32 for both. For fp16 the layers give
/// both of them halves, and what they give is rounded to halves, weights' gradients, too, as torch.autocast's. Every
/// call queues work on one stream. Throws `DeviceError`.
#pragma once

#include <cublas_v2.h>
#include <cudnn.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "trainer/backend.hpp"
#include "trainer/cuda/convolution_algorithms.hpp"
#include "trainer/cuda/device_array.hpp"
#include "trainer/cuda/kernels.hpp"

namespace llmlaunch::trainer::cuda {

/// How a pass treats dropout: off in evaluation.
struct DropoutChoice {
  bool on = false;
  std::uint64_t seed = 0;
};

/// What the layers of a network share. The handles work on `stream`.
struct CudaContext {
  CudaContext() = default;
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;
  /// Makes the handles. Once.
  void open(cudaStream_t on, Precision of);

  cudaStream_t stream = nullptr;
  cublasHandle_t cublas = nullptr;
  cudnnHandle_t cudnn = nullptr;
  Precision precision = Precision::fp32;
  ConvolutionAlgorithms algorithms;          // before the layers are made
  DeviceArray<std::byte> workspace;          // one for all: their work is queued one after another
  DeviceArray<std::byte> product_workspace;  // cuBLAS's
};

/// What the layers of one pass share.
struct CudaPass {
  const float* parameters = nullptr;  ///< the model's flat array
  SampleNumbers samples;
  DropoutChoice dropout;
  const StepNumbers* current = nullptr;  ///< unless null, the first sample's number is there
  Gate gate = {};                        ///< backwards: for the layer that `takes_gate`
};

/// A stage of a model. It owns what it computes.
class CudaLayer {
 public:
  virtual ~CudaLayer() = default;
  CudaLayer(const CudaLayer&) = delete;
  CudaLayer& operator=(const CudaLayer&) = delete;

  /// Room for batches of this size, which those to come have. Device memory that the layer needs beside its own.
  virtual std::size_t resize(std::size_t batch) {
    batch_ = batch;
    return 0;
  }
  /// Whether the way back begins with the pass's gate, which then nobody else applies to the gradient.
  virtual bool takes_gate() const { return false; }
  /// The output. Dropout and relu work in place: theirs is `in`.
  virtual float* forward(float* in, const CudaPass& pass) = 0;
  /// Weight and bias of the flat `gradient`; layers without them do nothing. `out_gradient` is that before the layer's
  /// relu, for fp16 of halves. After the `forward` of the same pass.
  virtual void backward_weight([[maybe_unused]] const float* in, [[maybe_unused]] const float* out_gradient,
                               [[maybe_unused]] float* gradient, [[maybe_unused]] const CudaPass& pass) {}
  /// The gradient of the input, queued on the stream of `on`, which is the layer's own context or another one; may be
  /// `out_gradient`, changed. After the `backward_weight` of the same pass, of which nothing is needed but for fp16.
  virtual float* backward_input(float* out_gradient, const CudaPass& pass, CudaContext& on) = 0;

 protected:
  CudaLayer(CudaContext& context, const Stage& stage) : context_(context), stage_(stage) {}

  CudaContext& context_;
  Stage stage_;
  std::size_t batch_ = 0;
};

/// Where the bias is that the stage at `place` adds for the one before, if it does; the loss is behind the last stage.
std::optional<std::size_t> bias_before(const CudaContext& context, const Model& model, std::size_t place);

/// That of the model's stage number `place`. `context` and `model` outlive the layer.
std::unique_ptr<CudaLayer> make_cuda_layer(CudaContext& context, const Model& model, std::size_t place);

}  // namespace llmlaunch::trainer::cuda
