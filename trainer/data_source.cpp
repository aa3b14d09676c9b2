// Which images a job trains and is tested on; reading and drawing them is done in image_source.cpp and digits.cpp.
#include "trainer/data_source.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <new>
#include <utility>

#include "rendezvous/base/counted.hpp"
#include "trainer/digits.hpp"
#include "trainer/output.hpp"

namespace llmlaunch::trainer {
namespace {

// Fixed, so that every run and every rank draws the same; different, so that no test image was trained on.
constexpr std::uint64_t kTrainDrawSeed = 1;
constexpr std::uint64_t kTestDrawSeed = 2;

Result<Dataset> draw_some(std::uint64_t count, std::uint64_t seed, const char* flag) {
  try {
    return draw_digits(count, seed);
  } catch (const std::bad_alloc&) {
    return make_error(Errc::out_of_resources,
                      fmt::format("{} {}: no memory for {} bytes of images", flag, count, count * (kImageValues + 1)),
                      {}, "ask for fewer");
  }
}

}  // namespace

Result<DataSource> load_data(const TrainOptions& options, std::uint32_t world_size) {
  if (options.data_dir.empty()) {
    const std::uint64_t train = options.train_samples > 0 ? options.train_samples : kDrawnTrainSamples;
    const std::uint64_t test = options.eval_samples > 0 ? options.eval_samples : kDrawnEvalSamples;
    auto drawn = draw_some(train, kTrainDrawSeed, "--train_samples");
    if (!drawn) return drawn.error();
    auto drawn_test = draw_some(test, kTestDrawSeed, "--eval_samples");
    if (!drawn_test) return drawn_test.error();
    return DataSource{in_memory(std::move(*drawn)), in_memory(std::move(*drawn_test)), "drawn"};
  }
  const auto files = find_data_files(options.data_dir, options.data_split);
  if (!files) return files.error();
  const bool alone = world_size == 1;
  auto train = (alone || options.cuda_graph ? load_images : open_images)(*files, Split::train, options.train_samples,
                                                                         "--train_samples");
  if (!train) return train.error();
  auto test = (alone ? load_images : open_images)(*files, Split::test, options.eval_samples, "--eval_samples");
  if (!test) return test.error();
  return DataSource{std::move(*train), std::move(*test), files->description()};
}

Result<void> export_data(const TrainOptions& options) {
  const auto data = load_data(options, 1);
  if (!data) return data.error();
  const auto saved =
      save_mnist(options.export_dataset, {{Split::train, data->train->whole()}, {Split::test, data->test->whole()}});
  if (!saved) return saved;
  write_output(stdout,
               fmt::format("{} train and {} test images ({}) written to {}\n", data->train->count(),
                           data->test->count(), data->description, options.export_dataset),
               true);
  return output_written();
}

}  // namespace llmlaunch::trainer
