// Logits of the test images, gathered from all ranks into one file. Called at the end of a job.
#include "trainer/predictions.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "rendezvous/base/replaceable.hpp"
#include "trainer/files.hpp"
#include "trainer/safetensors.hpp"
#include "trainer/unfinished.hpp"

namespace llmlaunch::trainer {
namespace {

std::string unfinished_name(const std::string& path) {
  return path + ".llmlaunch-part";
}

Error named(Error error, const std::string& path) {
  error.what = "--predict: " + error.what;
  error.where = path;
  return error;
}

/// Under another name first: no half file has the final one.
Result<void> write_finished(const std::string& path, const Bytes& bytes) {
  const auto name = replaceable_name(path);
  if (!name) return named(name.error(), path);
  Unfinished part(unfinished_name(*name));
  auto written = write_whole_file(part.path(), bytes);
  if (written) written = sync_to_disk(part.path());
  if (written) written = part.finish(*name);
  const std::filesystem::path folder = std::filesystem::path(*name).parent_path();
  if (written) written = sync_to_disk(folder.empty() ? "." : folder.string());
  return written ? written : named(written.error(), path);
}

/// Whether a file begins as ours do: safetensors with our two names in its header.
bool begins_with_logits(const std::string& path) {
  constexpr std::size_t kHeader = 512;
  std::ifstream in(path, std::ios::binary);
  std::string start(kHeader, '\0');
  in.read(start.data(), kHeader);
  start.resize(static_cast<std::size_t>(in.gcount()));
  return start.find("\"logits\":") != std::string::npos && start.find("\"labels\":") != std::string::npos;
}

}  // namespace

Result<void> prepare_predictions(const std::string& path, const std::string& other) {
  std::error_code ignored;  // what cannot be looked at is found by the write
  if (std::filesystem::is_directory(path, ignored)) {
    return make_error(Errc::invalid_config, "--predict: is a folder", path, "name a file; its folder has to be there");
  }
  if (!other.empty() && std::filesystem::equivalent(path, other, ignored)) {
    return make_error(Errc::invalid_config, "--predict and --loss_file name the same file", path, "give each its own");
  }
  const bool has_content =
      std::filesystem::is_regular_file(path, ignored) && std::filesystem::file_size(path, ignored) > 0;
  if (has_content && !begins_with_logits(path)) {
    return make_error(Errc::invalid_config, "--predict: is there already, and is no file of logits", path,
                      "name another one, or remove it");
  }
  const auto name = replaceable_name(path);
  if (!name) return named(name.error(), path);
  const Unfinished part(unfinished_name(*name));
  if (auto written = write_whole_file(part.path(), {}); !written) return named(written.error(), path);
  return ok;
}

Result<void> write_predictions(const std::string& path, const ImageSource& images, std::size_t at_once,
                               std::uint64_t step, Comm& comm, Backend& backend,
                               const std::function<void()>& after_batch) {
  const std::size_t ranks = comm.world_size();
  const std::size_t largest_share = (images.count() + ranks - 1) / ranks;  // dealt like cards: image i to rank i % n
  std::vector<float> all(images.count() * kClasses);
  std::vector<float> values;
  std::vector<std::uint8_t> labels;
  for (std::size_t first = 0; first < largest_share; first += at_once) {
    const std::size_t rows = std::min(at_once, largest_share - first);
    std::vector<std::uint32_t> mine;
    for (std::size_t row = first; row < first + rows; ++row) {
      if (const std::size_t image = row * ranks + comm.rank(); image < images.count()) {
        mine.push_back(static_cast<std::uint32_t>(image));
      }
    }
    std::vector<float> logits;
    if (!mine.empty()) {
      values.resize(mine.size() * kImageValues);
      labels.resize(mine.size());
      if (auto filled = fill_batch(images, mine, values, labels); !filled) return filled.error();
      auto said = backend.predict({.images = values, .labels = labels});
      if (!said) return said.error();
      logits = std::move(*said);
    }
    after_batch();
    logits.resize(rows * kClasses);  // a gather takes equally many from each; one rank may have a row less
    const auto gathered = comm.all_gather(std::as_bytes(std::span<const float>(logits)));
    if (!gathered) return gathered.error();
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t rank = 0; rank < ranks; ++rank) {
        const std::size_t image = (first + row) * ranks + rank;
        if (image >= images.count()) break;
        constexpr std::size_t kRowBytes = kClasses * sizeof(float);
        std::memcpy(&all[image * kClasses], (*gathered)[rank].data() + row * kRowBytes, kRowBytes);
      }
    }
  }
  if (comm.rank() != 0) return ok;
  const std::uint64_t count = images.count();
  const std::vector<TensorView> tensors = {{"logits", {count, kClasses}, all},
                                           {"labels", {count}, {}, images.labels()}};
  return write_finished(
      path,
      write_safetensors(tensors, {{"format", "pt"}, {"model", backend.model().name}, {"step", std::to_string(step)}}));
}

}  // namespace llmlaunch::trainer
