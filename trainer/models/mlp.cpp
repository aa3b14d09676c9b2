// Three linear layers, the widths of PyTorch's quickstart, with dropout: 669,706 parameters.
#include "trainer/model.hpp"

namespace llmlaunch::trainer {

const Model& mlp() {
  static const Model kModel = make_model("mlp", "MLP",
                                         {
                                             layer::Flatten{},
                                             layer::Linear{.name = "fc1", .out_features = 512},
                                             layer::Relu{},
                                             layer::Dropout{.p = 0.2F},
                                             layer::Linear{.name = "fc2", .out_features = 512},
                                             layer::Relu{},
                                             layer::Dropout{.p = 0.2F},
                                             layer::Linear{.name = "fc3", .out_features = 10},
                                         });
  return kModel;
}

}  // namespace llmlaunch::trainer
