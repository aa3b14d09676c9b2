/// \file
/// Labelled images in memory, read from the files of a data set or written as such. Used by the training loop on every
/// rank; a dataset that is only read may be shared by threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/data_files.hpp"
#include "trainer/idx.hpp"

namespace llmlaunch::trainer {

/// Images of 28 × 28 bytes (0 background, 255 ink), row by row, one after another, and a label of 0 … 9 for each.
struct Dataset {
  std::vector<std::uint8_t> images;  // (N, 28, 28)
  std::vector<std::uint8_t> labels;  // (N)

  std::size_t count() const { return labels.size(); }
  /// Drops all but the first `wanted` images.
  void keep_first(std::uint64_t wanted);
};

/// Reads both files of a split. `Errc::not_found` names a missing folder or file, `Errc::invalid_config` a damaged one,
/// with the value found and the one expected; a file that cannot be read gives the system's error.
Result<Dataset> load_dataset(const DataFiles& files, Split split);

/// The labels of a split whose image file holds `images`.
Result<std::vector<std::uint8_t>> load_labels(const DataFiles& files, const SplitFiles& paths, std::uint64_t images);

struct LabelledSplit {
  Split split{};
  const Dataset* dataset = nullptr;
};

/// Writes train-images-idx3-ubyte and train-labels-idx1-ubyte (t10k-… for `test`) into `folder`, which is made where it
/// is missing. All are written under other names first: a disk that is full or a stop leaves no half file, and not one
/// split without the other. A file that is there already stays, and is the error.
Result<void> save_mnist(const std::string& folder, const std::vector<LabelledSplit>& splits);

/// A byte as the network sees it: scaled to 0 … 1, then MNIST's mean .1307 and deviation .3081; in float, as
/// torchvision's ToTensor and Normalize, and with the same bits.
float normalised(std::uint8_t pixel);
/// All of `pixels`, by the same numbers.
void normalise(std::span<const std::uint8_t> pixels, std::span<float> into);

/// The images and labels at `positions`, normalised. `images` has room for 784 values for each, `labels` for one.
void fill_batch(const Dataset& from, std::span<const std::uint32_t> positions, std::span<float> images,
                std::span<std::uint8_t> labels);

}  // namespace llmlaunch::trainer
