/// \file
/// Which of cuDNN's ways a convolution and its two gradients go. Sees nothing of cuDNN, so that who chooses needs not.
#pragma once

namespace llmlaunch::trainer::cuda {

/// cuDNN's numbers of its algorithms. Those from the start are known to repeat bit for bit, in every cuDNN, and to have
/// no limits.
struct ConvolutionAlgorithms {
  int forward = 1;          ///< CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM
  int backward_data = 1;    ///< CUDNN_CONVOLUTION_BWD_DATA_ALGO_1
  int backward_filter = 1;  ///< CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1
  friend bool operator==(const ConvolutionAlgorithms&, const ConvolutionAlgorithms&) = default;
};

/// Whether NVIDIA says that each of them repeats bit for bit, and has made it.
bool is_repeatable(const ConvolutionAlgorithms& algorithms);

}  // namespace llmlaunch::trainer::cuda
