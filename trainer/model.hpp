/// \file
/// A network as data: a list of layers, and what follows from it for everybody else: the table of parameters under
/// PyTorch's names, and the stages that a backend runs. Sees no device and no numbers.
///
/// A further model is a file in trainer/models/ and a line in trainer/models/list.inc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace llmlaunch::trainer {

/// The kinds of layers. `name` is that of the module in PyTorch: its tensors are NAME.weight and NAME.bias.
namespace layer {
/// kernel × kernel, stride 1, no padding, with bias.
struct Convolution {
  std::string name;
  std::uint32_t out_channels;
  std::uint32_t kernel = 3;
};
struct Relu {};
/// 2 × 2, stride 2; height and width are even.
struct MaxPool {};
/// Zeroes values with probability p and multiplies the others by 1 / (1 - p), in training.
struct Dropout {
  float p;
};
/// (C, H, W) → (C × H × W).
struct Flatten {};
struct Linear {
  std::string name;
  std::uint32_t out_features;
};
}  // namespace layer

using Layer =
    std::variant<layer::Convolution, layer::Relu, layer::MaxPool, layer::Dropout, layer::Flatten, layer::Linear>;

/// One tensor of the flat arrays: values `first` … `first + count - 1`, in PyTorch's layout.
struct Parameter {
  std::string name;
  std::size_t first, count;
  std::vector<std::uint64_t> shape;
};

/// One image's values between two layers. Flat ones are `channels` features of 1 × 1.
struct Extent {
  std::size_t channels, height, width;
  bool flat = false;
  std::size_t count() const { return channels * height * width; }
  friend bool operator==(const Extent&, const Extent&) = default;
};

/// What a backend runs: a layer, where a relu behind a convolution or a linear layer is a part of that.
///
/// Backwards, relu, max-pool, flatten and dropout all let a part of the gradient through. Those that follow a relu
/// without another layer between need no memory of what they let through: where the last one's output is above 0, each
/// did, and where it is 0, one did not. So the last stage of such a run has the `gate` of all of them, which after a
/// pool also means a quarter of the work.
struct Stage {
  enum class Kind { convolution, linear, relu, max_pool, dropout, flatten };
  Kind kind;
  Extent in, out;
  std::size_t weight = 0;    ///< convolution, linear: the index of its weight's parameter; the bias is the next
  std::uint32_t kernel = 0;  ///< convolution
  bool relu = false;         ///< convolution, linear: a relu is a part of it
  float p = 0;               ///< dropout
  std::uint32_t mask = 0;    ///< dropout: which of the model's it is, from 0
  bool gate = false;         ///< the gradient of `out` passes where `out` is above 0, and is then multiplied by …
  float gate_factor = 1;     ///< … the factors of the run's dropouts, unless dropout is off
  bool behind_relu = false;  ///< relu, dropout: a later or its own gate does what it would do backwards

  bool has_parameters() const { return kind == Kind::convolution || kind == Kind::linear; }
};

struct Model {
  std::string name;   ///< as --model and checkpoints have it
  std::string title;  ///< as messages have it
  std::vector<Layer> layers;
  std::vector<Stage> stages;
  std::vector<Parameter> parameters;  ///< in PyTorch's order: layer by layer, weight before bias
  std::size_t values = 0;             ///< of all parameters together
};

/// Images are (1, 28, 28), and the last layer gives a logit for each of 10 classes.
inline constexpr Extent kImageExtent = {1, 28, 28};
inline constexpr std::size_t kClasses = 10;

/// The model of these layers. Throws `std::logic_error` that names the layer which cannot follow the one before it.
Model make_model(std::string name, std::string title, std::vector<Layer> layers);

#define LLMLAUNCH_MODEL(function) const Model& function();
#include "trainer/models/list.inc"
#undef LLMLAUNCH_MODEL

/// All models, in the order of the list; the first is what is trained when nothing is said.
std::span<const Model* const> all_models();
/// Null when there is none of this name.
const Model* find_model(std::string_view name);
/// "basicnet, mlp"
std::string model_names();

}  // namespace llmlaunch::trainer
