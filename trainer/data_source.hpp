/// \file
/// The images of one job: MNIST's files, or digits that the trainer draws, cut to the number that the flags ask for.
#pragma once

#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/dataset.hpp"
#include "trainer/options.hpp"

namespace llmlaunch::trainer {

struct DataSource {
  Dataset train;
  Dataset test;
  std::string description;  ///< the folder, "data/MNIST/raw", or "drawn"
};

/// `Errc::not_found` names a missing folder or file, `Errc::invalid_config` a damaged one or more samples than it has.
Result<DataSource> load_data(const TrainOptions& options);

/// --export_dataset: the same images as MNIST's four files, so that other programs train on what this one does. Says
/// what it wrote on stdout.
Result<void> export_data(const TrainOptions& options);

}  // namespace llmlaunch::trainer
