// The two bodies of a source of images, and batches of them. Called by each rank of a job at its start and at every
// batch.
#include "trainer/image_source.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>

#include "rendezvous/base/counted.hpp"
#include "trainer/still_file.hpp"

namespace llmlaunch::trainer {
namespace {

/// Of a file at once, for a checksum.
constexpr std::size_t kPieceBytes = 1 << 20;

std::uint32_t crc_of(std::uint32_t before, const void* bytes, std::size_t count) {
  return static_cast<std::uint32_t>(::crc32_z(before, static_cast<const Bytef*>(bytes), count));
}

class MemoryImages final : public ImageSource {
 public:
  explicit MemoryImages(Dataset images) : images_(std::move(images)) {}

  const std::vector<std::uint8_t>& labels() const override { return images_.labels; }
  Result<Pixels> pixels(std::size_t position, Room&) const override {
    assert(position < count());
    return Pixels(images_.images.data() + position * kImageValues, kImageValues);
  }
  Result<void> check_unchanged() const override { return ok; }
  void expect(std::uint32_t) override {}
  Result<std::uint32_t> checksum(std::size_t first, std::size_t count) const override {
    return crc_of(0, images_.images.data() + first * kImageValues, count * kImageValues);
  }
  std::string identity() const override { return {}; }
  const Dataset* whole() const override { return &images_; }

 private:
  Dataset images_;
};

class FileImages final : public ImageSource {
 public:
  FileImages(std::unique_ptr<const StillFile> file, std::vector<std::uint8_t> labels)
      : file_(std::move(file)), labels_(std::move(labels)) {}

  const std::vector<std::uint8_t>& labels() const override { return labels_; }
  Result<Pixels> pixels(std::size_t position, Room& room) const override {
    assert(position < count());
    if (auto read = file_->read(place_of(position), std::as_writable_bytes(std::span(room))); !read) {
      return read.error();
    }
    return Pixels(room);
  }
  Result<void> check_unchanged() const override {
    if (!expected_) return file_->check_unchanged();
    return file_->check_unchanged([this]() -> Result<bool> {
      const auto crc = crc_of_pixels(0, count());
      if (!crc) return crc.error();
      return *crc == *expected_;
    });
  }
  void expect(std::uint32_t checksum) override { expected_ = checksum; }
  Result<std::uint32_t> checksum(std::size_t first, std::size_t count) const override {
    const auto crc = crc_of_pixels(first, count);
    if (!crc) return crc;
    if (auto same = check_unchanged(); !same) return same.error();
    return crc;
  }
  std::string identity() const override { return file_->identity(); }
  const Dataset* whole() const override { return nullptr; }

 private:
  static std::uint64_t place_of(std::size_t image) { return kImageHeaderBytes + image * kImageValues; }

  Result<std::uint32_t> crc_of_pixels(std::size_t first, std::size_t count) const {
    std::uint32_t crc = 0;
    std::vector<std::byte> piece(std::min(kPieceBytes, count * kImageValues));
    for (std::uint64_t at = place_of(first), end = place_of(first + count); at < end; at += piece.size()) {
      piece.resize(std::min<std::uint64_t>(piece.size(), end - at));
      if (auto read = file_->read(at, piece); !read) return read.error();
      crc = crc_of(crc, piece.data(), piece.size());
    }
    return crc;
  }

  std::unique_ptr<const StillFile> file_;
  std::vector<std::uint8_t> labels_;
  std::optional<std::uint32_t> expected_;
};

Result<void> check_wanted(std::uint64_t wanted, std::uint64_t there, const std::string& folder, const char* flag) {
  if (wanted <= there) return ok;
  return make_error(
      Errc::invalid_config,
      fmt::format("{} {}, but there {} only {}", flag, wanted, there == 1 ? "is" : "are", counted(there, "image")),
      folder);
}

}  // namespace

std::shared_ptr<ImageSource> in_memory(Dataset images) {
  return std::make_shared<MemoryImages>(std::move(images));
}

Result<std::shared_ptr<ImageSource>> load_images(const DataFiles& files, Split split, std::uint64_t wanted,
                                                 const char* flag) {
  auto all = load_dataset(files, split);
  if (!all) return all.error();
  if (auto enough = check_wanted(wanted, all->count(), files.folder, flag); !enough) return enough.error();
  if (wanted > 0) all->keep_first(wanted);
  return in_memory(std::move(*all));
}

Result<std::shared_ptr<ImageSource>> open_images(const DataFiles& files, Split split, std::uint64_t wanted,
                                                 const char* flag) {
  const auto paths = files_of(files, split);
  if (!paths) return paths.error();
  if (paths->images.ends_with(".gz")) return load_images(files, split, wanted, flag);
  auto file = StillFile::open(paths->images);
  if (!file) return file.error();
  std::array<std::byte, kImageHeaderBytes> header{};
  const auto begin = std::span(header).first(std::min<std::uint64_t>(header.size(), (*file)->size()));
  if (auto read = (*file)->read(0, begin); !read) return read.error();
  const auto count = check_idx_images(begin, (*file)->size(), paths->images);
  if (!count) return count.error();
  auto labels = load_labels(files, *paths, *count);
  if (!labels) return labels.error();
  if (auto enough = check_wanted(wanted, *count, files.folder, flag); !enough) return enough.error();
  if (wanted > 0) labels->resize(wanted);
  return std::make_shared<FileImages>(std::move(*file), std::move(*labels));
}

Result<void> fill_batch(const ImageSource& from, std::span<const std::uint32_t> positions, std::span<float> images,
                        std::span<std::uint8_t> labels) {
  assert(images.size() == positions.size() * kImageValues && labels.size() == positions.size());
  ImageSource::Room room;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const auto pixels = from.pixels(positions[i], room);
    if (!pixels) return pixels.error();
    normalise(*pixels, images.subspan(i * kImageValues, kImageValues));
    labels[i] = from.labels()[positions[i]];
  }
  return from.check_unchanged();  // after the reading, so that it is told of before the batch is used
}

}  // namespace llmlaunch::trainer
