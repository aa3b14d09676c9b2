/// \file
/// How far results of a GPU are from others.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace llmlaunch {

/// |a - b| / |b| over a tensor, by norms. Equal sizes.
inline double relative_difference(std::span<const float> a, std::span<const float> b) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace llmlaunch
