/// \file
/// Which files a data set lies in: MNIST's own names, QMNIST's and EMNIST's, in the folders that torchvision leaves.
/// Looks at names only; dataset.cpp reads.
#pragma once

#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

/// What to do where files are missing or damaged.
inline constexpr const char* kDataHint =
    "--data_dir wants the four IDX files of MNIST, QMNIST or EMNIST, plain or .gz; without it digits are drawn";

enum class Split { train, test };

/// One byte for each label (idx1-ubyte), or QMNIST's eight numbers (idx2-int).
enum class LabelFormat { bytes, numbers };

/// A data set's four files, by what their names begin with: train-images-idx3-ubyte, t10k-labels-idx1-ubyte.
struct DataFiles {
  std::string folder;
  std::string train = "train";
  std::string test = "t10k";
  LabelFormat labels = LabelFormat::bytes;
  std::string split = {};  ///< EMNIST's: "digits"

  /// "data/EMNIST/raw, split digits".
  std::string description() const;
};

/// What `given` means: files in it, in its raw/ (or raw/gzip/), or in the raw/ of one of its folders, as torchvision
/// leaves them (ROOT/MNIST/raw, ROOT/QMNIST/raw). The first of these that has one of the files wins; within a folder
/// MNIST's own names do. `split` is one of EMNIST's with ten classes; empty: the one that is there.
/// `Errc::not_found` names what was looked for, splits of EMNIST that have more classes, and PyTorch's own
/// processed/training.pt where that alone is there; `Errc::invalid_config` names the sets where several would do.
Result<DataFiles> find_data_files(const std::string& given, const std::string& split = {});

/// The paths of a split's two files.
struct SplitFiles {
  std::string images;
  std::string labels;
};

/// Names with a dot before "idx", and with .gz, are found, too; the plain file wins. `Errc::not_found` names a missing
/// folder or file.
Result<SplitFiles> files_of(const DataFiles& files, Split split);

}  // namespace llmlaunch::trainer
