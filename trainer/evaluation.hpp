/// \file
/// The test of a network on images that it was not trained on.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>

#include "rendezvous/base/result.hpp"
#include "trainer/backend.hpp"
#include "trainer/comm.hpp"
#include "trainer/image_source.hpp"

namespace llmlaunch::trainer {

struct Evaluation {
  double loss = 0;     ///< the mean
  double correct = 0;  ///< images
  double count = 0;
  double seconds = 0;
};

/// Every image once, dealt to the ranks like cards, `batch_size` at a time; none is repeated to make the shares equal.
/// Nothing where a rank's `gives_up`, asked between batches, was true: that rank looks at no more of its own.
/// Collective: all ranks get the same, but for the seconds.
Result<std::optional<Evaluation>> evaluate(Backend& backend, Comm& comm, const ImageSource& images,
                                           std::size_t batch_size, const std::function<bool()>& gives_up);

}  // namespace llmlaunch::trainer
