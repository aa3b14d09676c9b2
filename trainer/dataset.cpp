// Reads and writes the files of a data set, and hands out batches. The format itself is idx.cpp's.
#include "trainer/dataset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <utility>

#include "rendezvous/base/counted.hpp"
#include "trainer/files.hpp"
#include "trainer/unfinished.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr const char* kImages = "images-idx3-ubyte";
constexpr const char* kLabels = "labels-idx1-ubyte";

/// What is there already stays. The packed ones count, too: they would never be read again, for plain files come first.
Result<void> check_absent(const std::string& path) {
  for (const std::string& name : {path, path + ".gz"}) {
    std::error_code ignored;  // what cannot be looked at cannot be written either, and that is told
    if (std::filesystem::exists(name, ignored)) {
      return system_error(EEXIST, "--export_dataset: create", name, "name a new folder, or remove the file");
    }
  }
  return ok;
}

Result<Bytes> load_file(const std::string& path, std::size_t limit) {
  auto bytes = read_whole_file(path, limit, kDataHint);
  if (!bytes || !path.ends_with(".gz")) return bytes;
  return unpack_gzip(*bytes, limit, path);
}

}  // namespace

void Dataset::keep_first(std::uint64_t wanted) {
  const std::size_t kept = std::min<std::uint64_t>(wanted, count());
  labels.resize(kept);
  images.resize(kept * kImageValues);
}

Result<std::vector<std::uint8_t>> load_labels(const DataFiles& files, const SplitFiles& paths, std::uint64_t images) {
  const auto file = load_file(paths.labels, kMaxLabelFileBytes);
  if (!file) return file.error();
  auto labels = files.labels == LabelFormat::bytes ? parse_idx_labels(*file, paths.labels)
                                                   : parse_qmnist_labels(*file, paths.labels);
  if (!labels || labels->size() == images) return labels;
  return make_error(
      Errc::invalid_config,
      fmt::format("has {}, but {} has {}", counted(labels->size(), "label"), paths.images, counted(images, "image")),
      paths.labels, "both files must be of the same set");
}

Result<Dataset> load_dataset(const DataFiles& files, Split split) {
  const auto paths = files_of(files, split);
  if (!paths) return paths.error();
  const auto image_file = load_file(paths->images, kMaxImageFileBytes);
  if (!image_file) return image_file.error();
  auto images = parse_idx_images(*image_file, paths->images);
  if (!images) return images.error();
  auto labels = load_labels(files, *paths, images->size() / kImageValues);
  if (!labels) return labels.error();
  return Dataset{std::move(*images), std::move(*labels)};
}

Result<void> save_mnist(const std::string& folder, const std::vector<LabelledSplit>& splits) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) return system_error(failed.value(), "--export_dataset: mkdir", folder);
  const auto path_of = [&](Split split, const char* what) {
    const std::string set = split == Split::train ? "train" : "t10k";
    return (std::filesystem::path(folder) / fmt::format("{}-{}", set, what)).string();
  };
  for (const auto& [split, dataset] : splits) {
    for (const char* what : {kImages, kLabels}) {
      if (auto absent = check_absent(path_of(split, what)); !absent) return absent;
    }
  }
  std::vector<std::unique_ptr<Unfinished>> parts;
  std::vector<Unfinished::Named> files;
  for (const auto& [split, dataset] : splits) {
    for (const char* what : {kImages, kLabels}) {
      const std::string path = path_of(split, what);
      parts.push_back(std::make_unique<Unfinished>(path + ".part"));
      files.push_back({parts.back().get(), path});
      const Bytes bytes = what == kImages ? write_idx_images(dataset->images) : write_idx_labels(dataset->labels);
      if (auto written = write_whole_file(parts.back()->path(), bytes); !written) return written;
    }
  }
  // Half a set could be neither read nor written again.
  return Unfinished::finish_together(files);
}

float normalised(std::uint8_t pixel) {
  return (static_cast<float>(pixel) / 255.0F - 0.1307F) / 0.3081F;
}

void normalise(std::span<const std::uint8_t> pixels, std::span<float> into) {
  static const auto kNormalised = [] {
    std::array<float, 256> table{};
    for (std::size_t pixel = 0; pixel < table.size(); ++pixel) {
      table[pixel] = normalised(static_cast<std::uint8_t>(pixel));
    }
    return table;
  }();
  assert(pixels.size() == into.size());
  std::transform(pixels.begin(), pixels.end(), into.begin(), [&](std::uint8_t pixel) { return kNormalised[pixel]; });
}

void fill_batch(const Dataset& from, std::span<const std::uint32_t> positions, std::span<float> images,
                std::span<std::uint8_t> labels) {
  assert(images.size() == positions.size() * kImageValues && labels.size() == positions.size());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    assert(positions[i] < from.count());
    normalise(std::span(from.images).subspan(positions[i] * kImageValues, kImageValues),
              images.subspan(i * kImageValues, kImageValues));
    labels[i] = from.labels[positions[i]];
  }
}

}  // namespace llmlaunch::trainer
