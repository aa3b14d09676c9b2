/// \file
/// The safetensors file format, as bytes in memory: named tensors that every library of the field reads. Pure
/// functions; checkpoint.cpp reads and writes the files.
///
///     8 bytes: length of the header, little-endian · header: JSON · data, one tensor after another, little-endian
///     header: {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [32, 1, 3, 3], "data_offsets": [0, 1152]}}
///
/// Source: the format's description at github.com/huggingface/safetensors.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

/// Bounds of what a file can make us hold. BasicNet's two moments are 9.6 MB.
inline constexpr std::size_t kMaxSafetensorsHeader = std::size_t{1} << 20U;
inline constexpr std::size_t kMaxSafetensorsFile = std::size_t{1} << 30U;

/// As many values as the shape says, row by row: numbers (F32), or, where there are bytes, those (U8).
struct TensorView {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::span<const float> values;
  std::span<const std::uint8_t> bytes = {};
};

struct Safetensors {
  struct Tensor {
    std::vector<std::uint64_t> shape;
    std::vector<float> values;
  };
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// The whole file, tensors in the order given; the data begins at a multiple of 8. Bytes come after all numbers, so
/// that those lie at multiples of 4.
Bytes write_safetensors(std::span<const TensorView> tensors, const std::map<std::string, std::string>& metadata);

/// `Errc::invalid_config` with `name` as `where` for what is no such file, is cut off, holds another type than F32, or
/// has tensors whose places overlap, leave gaps or do not fit their shape.
Result<Safetensors> parse_safetensors(ByteView file, const std::string& name);

}  // namespace llmlaunch::trainer
