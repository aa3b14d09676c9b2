/// \file
/// --predict FILE: what a trained network says of the test images, as a file that others can read.
///
///     logits  float32 (N, 10)  before softmax, in the order of the test set
///     labels  uint8 (N)        what the images are
///
/// It is a safetensors file; its metadata have the model and the step whose weights these are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/backend.hpp"
#include "trainer/comm.hpp"
#include "trainer/image_source.hpp"

namespace llmlaunch::trainer {

/// Whether FILE can be written, before a job has trained for hours. Leaves nothing. The system's error;
/// `Errc::invalid_config` for a folder, and for the file that is `other`, which is written meanwhile.
Result<void> prepare_predictions(const std::string& path, const std::string& other);

/// Every rank computes its share of `images`, `at_once` at a time, and rank 0 writes FILE, which has its name only when
/// it is whole. `after_batch` is called after each batch. Collective.
Result<void> write_predictions(const std::string& path, const ImageSource& images, std::size_t at_once,
                               std::uint64_t step, Comm& comm, Backend& backend,
                               const std::function<void()>& after_batch);

}  // namespace llmlaunch::trainer
