/// \file
/// The images of one job: MNIST's files, or digits that the trainer draws, cut to the number that the flags ask for.
#pragma once

#include <memory>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/image_source.hpp"
#include "trainer/options.hpp"

namespace llmlaunch::trainer {

struct DataSource {
  std::shared_ptr<ImageSource> train = in_memory({});
  std::shared_ptr<ImageSource> test = in_memory({});
  std::string description;  ///< the folder, "data/MNIST/raw", or "drawn"
  /// Of images of files, once the ranks have agreed on them (data_checksum.hpp).
  std::string train_checksum = {}, test_checksum = {};
};

/// Images of plain files stay there, to be read as they are dealt, but for those that a device wants as a whole, and
/// those of a process that is alone, whose share is all of them. `Errc::not_found` names a missing folder or file,
/// `Errc::invalid_config` a damaged one or more samples than it has.
Result<DataSource> load_data(const TrainOptions& options, std::uint32_t world_size);

/// --export_dataset: the same images as MNIST's four files, so that other programs train on what this one does. Says
/// what it wrote on stdout.
Result<void> export_data(const TrainOptions& options);

}  // namespace llmlaunch::trainer
