/// \file
/// How many streams a graph's backward pass is captured on.
#pragma once

namespace llmlaunch::trainer::cuda {

/// Gradients of weights after those of inputs, or beside them.
enum class GraphStreams { one, two };

}  // namespace llmlaunch::trainer::cuda
