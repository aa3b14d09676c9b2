// Reads and writes the files of a data set, and hands out batches. The format itself is idx.cpp's.
#include "trainer/dataset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "rendezvous/base/counted.hpp"
#include "trainer/files.hpp"
#include "trainer/unfinished.hpp"

namespace llmlaunch::trainer {
namespace {

/// Under another name first: no half file has the final one.
Result<void> write_new_file(const std::string& path, const Bytes& bytes) {
  Unfinished part(path + ".part");
  if (auto written = write_whole_file(part.path(), bytes); !written) return written;
  return part.finish(path);
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

Result<void> save_mnist(const std::string& folder, Split split, const Dataset& dataset) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) return system_error(failed.value(), "--export_dataset: mkdir", folder);
  const std::string set = split == Split::train ? "train" : "t10k";
  const std::filesystem::path images = std::filesystem::path(folder) / (set + "-images-idx3-ubyte");
  const std::filesystem::path labels = std::filesystem::path(folder) / (set + "-labels-idx1-ubyte");
  // The packed ones, too: they would never be read again, for plain files come first.
  const auto packed = [](const std::filesystem::path& path) { return std::filesystem::path(path.string() + ".gz"); };
  for (const auto& path : {images, labels, packed(images), packed(labels)}) {
    std::error_code ignored;  // what cannot be looked at cannot be written either, and that is told
    if (std::filesystem::exists(path, ignored)) {
      return system_error(EEXIST, "--export_dataset: create", path.string(), "name a new folder, or remove the file");
    }
  }
  if (auto written = write_new_file(images.string(), write_idx_images(dataset.images)); !written) return written;
  return write_new_file(labels.string(), write_idx_labels(dataset.labels));
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
