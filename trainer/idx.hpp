/// \file
/// MNIST's file format, as bytes in memory: big-endian header, then one byte per pixel or label. Pure functions; the
/// dataset reads the files.
///
///     images: 00 00 08 03, count (4 bytes), rows 28 (4), columns 28 (4), count × 784 bytes
///     labels: 00 00 08 01, count (4 bytes), count × 1 byte, each 0 … 9
///
/// QMNIST's labels are eight numbers for each image, of which the first is the class:
///
///     00 00 0c 02, count (4 bytes), columns 8 (4), count × 8 × 4 bytes, big-endian
///
/// Every error is `Errc::invalid_config` with the file's name as `where`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

inline constexpr std::size_t kImageSide = 28;
inline constexpr std::size_t kImageValues = kImageSide * kImageSide;

/// Room for every published set of this format (EMNIST has 814,255 images), and the bound of what a file can make us
/// hold in memory: 784 MB.
inline constexpr std::uint64_t kMaxImages = 1'000'000;
inline constexpr std::size_t kImageHeaderBytes = 16;
inline constexpr std::size_t kMaxImageFileBytes = kImageHeaderBytes + kMaxImages * kImageValues;
inline constexpr std::size_t kLabelNumbers = 8;  // QMNIST's
inline constexpr std::size_t kMaxLabelFileBytes = 12 + kMaxImages * kLabelNumbers * 4;

/// How many images a file of `file_bytes` bytes holds that begins with `begin`: the first kImageHeaderBytes, or all
/// where it has fewer.
Result<std::uint64_t> check_idx_images(ByteView begin, std::uint64_t file_bytes, const std::string& name);
/// The pixels, count × 784. Memory is taken only for bytes that are there, whatever the header says.
Result<std::vector<std::uint8_t>> parse_idx_images(ByteView file, const std::string& name);
/// The labels, each at most 9.
Result<std::vector<std::uint8_t>> parse_idx_labels(ByteView file, const std::string& name);
/// The classes in QMNIST's labels, each at most 9.
Result<std::vector<std::uint8_t>> parse_qmnist_labels(ByteView file, const std::string& name);

/// The same files of count × 784 pixels, and of labels.
Bytes write_idx_images(std::span<const std::uint8_t> pixels);
Bytes write_idx_labels(std::span<const std::uint8_t> labels);

/// Unpacks gzip data of one member or several, as pigz and bgzip make them and `cat a.gz b.gz` does. What comes out
/// beyond `limit` bytes is an error, found before memory for it is taken.
Result<Bytes> unpack_gzip(ByteView packed, std::size_t limit, const std::string& name);

}  // namespace llmlaunch::trainer
