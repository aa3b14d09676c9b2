// The convolutional network of PyTorch's MNIST example: 1,199,882 parameters.
#include "trainer/model.hpp"

namespace llmlaunch::trainer {

const Model& basic_net() {
  static const Model kModel = make_model("basicnet", "BasicNet",
                                         {
                                             layer::Convolution{.name = "conv1", .out_channels = 32},
                                             layer::Relu{},
                                             layer::Convolution{.name = "conv2", .out_channels = 64},
                                             layer::Relu{},
                                             layer::MaxPool{},
                                             layer::Flatten{},
                                             layer::Dropout{.p = 0.25F},
                                             layer::Linear{.name = "fc1", .out_features = 128},
                                             layer::Relu{},
                                             layer::Dropout{.p = 0.5F},
                                             layer::Linear{.name = "fc2", .out_features = 10},
                                         });
  return kModel;
}

}  // namespace llmlaunch::trainer
