// Test images through the network, and sums over the ranks. Called by the training loop.
#include "trainer/evaluation.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "trainer/ddp.hpp"
#include "trainer/stop.hpp"

namespace llmlaunch::trainer {

Result<std::optional<Evaluation>> evaluate(Backend& backend, Comm& comm, const ImageSource& images,
                                           std::size_t batch_size, const std::function<bool()>& gives_up) {
  const auto begun = std::chrono::steady_clock::now();
  std::vector<std::uint32_t> mine;
  for (std::size_t i = comm.rank(); i < images.count(); i += comm.world_size()) {
    mine.push_back(static_cast<std::uint32_t>(i));
  }
  std::vector<float> values;
  std::vector<std::uint8_t> labels;
  std::vector<double> sums = {0, 0, 0, 0};
  for (std::size_t first = 0; first < mine.size(); first += batch_size) {
    if (gives_up()) {
      sums[3] = 1;
      break;
    }
    const std::size_t count = std::min(batch_size, mine.size() - first);
    values.resize(count * kImageValues);
    labels.resize(count);
    if (auto filled = fill_batch(images, std::span(mine).subspan(first, count), values, labels); !filled) {
      return filled.error();
    }
    const auto result = backend.evaluate({.images = values, .labels = labels});
    if (!result) return result.error();
    mark_batch();
    sums[0] += result->loss_sum;
    sums[1] += static_cast<double>(result->correct);
    sums[2] += static_cast<double>(result->count);
  }
  const auto all = sum_over_ranks(comm, sums);
  if (!all) return all.error();
  if ((*all)[3] > 0) return std::optional<Evaluation>();
  return std::optional(Evaluation{
      .loss = (*all)[0] / (*all)[2],
      .correct = (*all)[1],
      .count = (*all)[2],
      .seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count(),
  });
}

}  // namespace llmlaunch::trainer
