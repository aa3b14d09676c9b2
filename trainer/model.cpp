// From a list of layers to stages and parameters. Called once per model, when it is first asked for.
#include "trainer/model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace llmlaunch::trainer {
namespace {

/// Follows an image through the layers.
class ModelBuilder {
 public:
  explicit ModelBuilder(Model& model) : model_(model) {}

  void add(const layer::Convolution& convolution) {
    if (at_.flat) refuse("a convolution after flatten");
    if (convolution.kernel == 0 || convolution.kernel > std::min(at_.height, at_.width)) {
      refuse(fmt::format("a kernel of {0} x {0} on {1} x {2}", convolution.kernel, at_.height, at_.width));
    }
    const Extent out = {convolution.out_channels, at_.height - convolution.kernel + 1,
                        at_.width - convolution.kernel + 1};
    add_weight(convolution.name, {convolution.out_channels, at_.channels, convolution.kernel, convolution.kernel});
    push({.kind = Stage::Kind::convolution,
          .in = at_,
          .out = out,
          .weight = model_.parameters.size() - 2,
          .kernel = convolution.kernel});
  }

  void add(const layer::Linear& linear) {
    if (!at_.flat) refuse("a linear layer without flatten before it");
    add_weight(linear.name, {linear.out_features, at_.count()});
    push({.kind = Stage::Kind::linear,
          .in = at_,
          .out = {linear.out_features, 1, 1, true},
          .weight = model_.parameters.size() - 2});
  }

  void add(const layer::Relu&) {
    if (!model_.stages.empty() && model_.stages.back().has_parameters() && !model_.stages.back().relu) {
      model_.stages.back().relu = true;
    } else {
      refuse_on_images("a relu");
      push({.kind = Stage::Kind::relu, .in = at_, .out = at_});
    }
  }

  void add(const layer::MaxPool&) {
    if (at_.flat || at_.height % 2 != 0 || at_.width % 2 != 0) {
      refuse(fmt::format("a max-pool of {} x {}, whose sides must be even", at_.height, at_.width));
    }
    push({.kind = Stage::Kind::max_pool, .in = at_, .out = {at_.channels, at_.height / 2, at_.width / 2}});
  }

  void add(const layer::Dropout& dropout) {
    if (!(dropout.p >= 0 && dropout.p < 1)) refuse(fmt::format("a dropout of {}", dropout.p));
    if (at_.count() % 4 != 0) refuse(fmt::format("dropout of {} values, no multiple of 4", at_.count()));
    if (!at_.flat) refuse("a dropout before flatten: masks are numbered in flat order");
    refuse_on_images("a dropout");
    push({.kind = Stage::Kind::dropout, .in = at_, .out = at_, .p = dropout.p, .mask = masks_++});
  }

  void add(const layer::Flatten&) {
    if (at_.flat) refuse("a second flatten");
    push({.kind = Stage::Kind::flatten, .in = at_, .out = {at_.count(), 1, 1, true}});
  }

  /// Layer by layer, before the next is added.
  void count() { ++number_; }

  void finish() {
    if (at_ != Extent{kClasses, 1, 1, true} || model_.stages.back().kind != Stage::Kind::linear ||
        model_.stages.back().relu) {
      refuse(fmt::format("an end that is no linear layer of {} classes", kClasses));
    }
    place_gates();
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw std::logic_error(fmt::format("model {}, layer {}: {}", model_.name, number_, what));
  }

  /// What works in place would write over the caller's images.
  void refuse_on_images(const char* what) const {
    if (model_.parameters.empty()) refuse(fmt::format("{} of the images themselves", what));
  }

  void push(const Stage& stage) {
    at_ = stage.out;
    model_.stages.push_back(stage);
  }

  void add_tensor(std::string name, std::vector<std::uint64_t> shape) {
    std::size_t values = 1;
    for (const std::uint64_t side : shape) values *= side;
    model_.parameters.push_back({std::move(name), model_.values, values, std::move(shape)});
    model_.values += values;
  }

  void add_weight(const std::string& name, const std::vector<std::uint64_t>& shape) {
    add_tensor(name + ".weight", shape);
    add_tensor(name + ".bias", {shape.front()});
  }

  /// A run begins with a relu and ends before the next layer that mixes values.
  void place_gates() {
    auto& stages = model_.stages;
    for (std::size_t first = 0; first < stages.size(); ++first) {
      if (!stages[first].relu && stages[first].kind != Stage::Kind::relu) continue;
      float factor = 1;
      std::size_t last = first;
      for (std::size_t i = first; i < stages.size() && (i == first || !stages[i].has_parameters()); ++i) {
        if (stages[i].kind == Stage::Kind::dropout) factor *= 1.0F / (1.0F - stages[i].p);
        stages[i].behind_relu = true;
        last = i;
      }
      stages[last].gate = true;
      stages[last].gate_factor = factor;
      first = last;
    }
  }

  Model& model_;
  Extent at_ = kImageExtent;
  std::uint32_t masks_ = 0;
  std::size_t number_ = 0;
};

}  // namespace

Model make_model(std::string name, std::string title, std::vector<Layer> layers) {
  Model model;
  model.name = std::move(name);
  model.title = std::move(title);
  model.layers = std::move(layers);
  ModelBuilder builder(model);
  for (const Layer& one : model.layers) {
    builder.count();
    std::visit([&](const auto& kind) { builder.add(kind); }, one);
  }
  if (model.stages.empty()) throw std::logic_error(fmt::format("model {} has no layers", model.name));
  builder.finish();
  return model;
}

std::span<const Model* const> all_models() {
  static const std::vector<const Model*> kModels = {
#define LLMLAUNCH_MODEL(function) &function(),
#include "trainer/models/list.inc"
#undef LLMLAUNCH_MODEL
  };
  return kModels;
}

const Model* find_model(std::string_view name) {
  for (const Model* model : all_models()) {
    if (model->name == name) return model;
  }
  return nullptr;
}

std::string model_names() {
  std::string names;
  for (const Model* model : all_models()) names += (names.empty() ? "" : ", ") + model->name;
  return names;
}

}  // namespace llmlaunch::trainer
