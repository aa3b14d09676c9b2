// Models as data: what follows from a list of layers, and which lists are none.
#include "trainer/model.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "tests/support/catch.hpp"

namespace trainer_model_test {

using namespace llmlaunch::trainer;

namespace {

using Names = std::vector<std::string>;

Names table_of(const Model& model) {
  Names rows;
  for (const Parameter& one : model.parameters) {
    rows.push_back(fmt::format("{} {} {} ({})", one.name, one.first, one.count, fmt::join(one.shape, ", ")));
  }
  return rows;
}

std::string text_of(const Stage& stage) {
  static const char* const kKinds[] = {"convolution", "linear", "relu", "max_pool", "dropout", "flatten"};
  const auto side = [](const Extent& at) {
    return at.flat ? fmt::format("{}", at.channels) : fmt::format("{}x{}x{}", at.channels, at.height, at.width);
  };
  std::string text = fmt::format("{} {}>{}", kKinds[static_cast<int>(stage.kind)], side(stage.in), side(stage.out));
  if (stage.relu) text += " relu";
  if (stage.gate) text += fmt::format(" gate {:.4g}", stage.gate_factor);
  if (stage.kind == Stage::Kind::dropout) text += fmt::format(" mask {}", stage.mask);
  if (stage.kind == Stage::Kind::dropout && !stage.behind_relu) text += " alone";
  return text;
}

Names stages_of(const Model& model) {
  Names rows;
  for (const Stage& stage : model.stages) rows.push_back(text_of(stage));
  return rows;
}

std::string refusal(const std::vector<Layer>& layers) {
  try {
    make_model("m", "M", layers);
  } catch (const std::logic_error& e) {
    return e.what();
  }
  return "none";
}

}  // namespace

TEST_CASE("BasicNet's tensors have PyTorch's names and shapes and lie one after another") {
  CHECK(table_of(basic_net()) == Names{
                                     "conv1.weight 0 288 (32, 1, 3, 3)",
                                     "conv1.bias 288 32 (32)",
                                     "conv2.weight 320 18432 (64, 32, 3, 3)",
                                     "conv2.bias 18752 64 (64)",
                                     "fc1.weight 18816 1179648 (128, 9216)",
                                     "fc1.bias 1198464 128 (128)",
                                     "fc2.weight 1198592 1280 (10, 128)",
                                     "fc2.bias 1199872 10 (10)",
                                 });
  CHECK(basic_net().values == 1'199'882);
}

TEST_CASE("the MLP's, too") {
  CHECK(table_of(mlp()) == Names{
                               "fc1.weight 0 401408 (512, 784)",
                               "fc1.bias 401408 512 (512)",
                               "fc2.weight 401920 262144 (512, 512)",
                               "fc2.bias 664064 512 (512)",
                               "fc3.weight 664576 5120 (10, 512)",
                               "fc3.bias 669696 10 (10)",
                           });
  CHECK(mlp().values == 669'706);
}

TEST_CASE("a relu is a part of the layer before it, and its run has one gate, at its end") {
  CHECK(stages_of(basic_net()) == Names{
                                      "convolution 1x28x28>32x26x26 relu gate 1",
                                      "convolution 32x26x26>64x24x24 relu",
                                      "max_pool 64x24x24>64x12x12",
                                      "flatten 64x12x12>9216",
                                      "dropout 9216>9216 gate 1.333 mask 0",
                                      "linear 9216>128 relu",
                                      "dropout 128>128 gate 2 mask 1",
                                      "linear 128>10",
                                  });
  CHECK(stages_of(mlp()) == Names{
                                "flatten 1x28x28>784",
                                "linear 784>512 relu",
                                "dropout 512>512 gate 1.25 mask 0",
                                "linear 512>512 relu",
                                "dropout 512>512 gate 1.25 mask 1",
                                "linear 512>10",
                            });
}

TEST_CASE("what stands where no relu is before it goes back by itself, and two dropouts are one gate") {
  const Model model = make_model("m", "M",
                                 {layer::Convolution{.name = "a", .out_channels = 4, .kernel = 5}, layer::MaxPool{},
                                  layer::Relu{}, layer::Flatten{}, layer::Dropout{.p = 0.5F}, layer::Dropout{.p = 0.2F},
                                  layer::Linear{.name = "b", .out_features = 8}, layer::Dropout{.p = 0.5F},
                                  layer::Linear{.name = "c", .out_features = 10}});
  CHECK(stages_of(model) == Names{
                                "convolution 1x28x28>4x24x24",
                                "max_pool 4x24x24>4x12x12",
                                "relu 4x12x12>4x12x12",
                                "flatten 4x12x12>576",
                                "dropout 576>576 mask 0",
                                "dropout 576>576 gate 2.5 mask 1",
                                "linear 576>8",
                                "dropout 8>8 mask 2 alone",
                                "linear 8>10",
                            });
}

TEST_CASE("models are found by name, and each name is one model's") {
  CHECK(all_models().size() == 2);
  CHECK(model_names() == "basicnet, mlp");
  for (const Model* model : all_models()) CHECK(find_model(model->name) == model);
  CHECK(find_model("BasicNet") == nullptr);
}

TEST_CASE("layers that do not fit are named") {
  const layer::Linear last{.name = "z", .out_features = 10};
  CHECK(refusal({}) == "model m has no layers");
  CHECK(refusal({last}) == "model m, layer 1: a linear layer without flatten before it");
  CHECK(refusal({layer::Flatten{}, layer::Convolution{.name = "a", .out_channels = 3}}) ==
        "model m, layer 2: a convolution after flatten");
  CHECK(refusal({layer::Convolution{.name = "a", .out_channels = 3, .kernel = 29}}) ==
        "model m, layer 1: a kernel of 29 x 29 on 28 x 28");
  CHECK(refusal({layer::Convolution{.name = "a", .out_channels = 3, .kernel = 2}, layer::MaxPool{}}) ==
        "model m, layer 2: a max-pool of 27 x 27, whose sides must be even");
  CHECK(refusal({layer::Flatten{}, layer::Flatten{}}) == "model m, layer 2: a second flatten");
  CHECK(refusal({layer::Flatten{}, layer::Dropout{.p = 0.5F}, last}) ==
        "model m, layer 2: a dropout of the images themselves");
  CHECK(refusal({layer::Relu{}}) == "model m, layer 1: a relu of the images themselves");
  CHECK(refusal({layer::Flatten{}, layer::Linear{.name = "a", .out_features = 8}, layer::Dropout{.p = 1}}) ==
        "model m, layer 3: a dropout of 1");
  CHECK(refusal({layer::Flatten{}, layer::Linear{.name = "a", .out_features = 6}, layer::Dropout{.p = 0.5F}}) ==
        "model m, layer 3: dropout of 6 values, no multiple of 4");
  CHECK(refusal({layer::Convolution{.name = "a", .out_channels = 4}, layer::Dropout{.p = 0.5F}}) ==
        "model m, layer 2: a dropout before flatten: masks are numbered in flat order");
  CHECK(refusal({layer::Flatten{}, layer::Linear{.name = "a", .out_features = 9}}) ==
        "model m, layer 2: an end that is no linear layer of 10 classes");
  CHECK(refusal({layer::Flatten{}, last, layer::Relu{}}) ==
        "model m, layer 3: an end that is no linear layer of 10 classes");
}

}  // namespace trainer_model_test
