/// \file
/// Labelled images that batches are filled from: all in memory, or in a plain IDX file, of which a rank reads the
/// images that it is dealt. Used by training, tests and predictions; may be shared by threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/dataset.hpp"

namespace llmlaunch::trainer {

class ImageSource {
 public:
  using Pixels = std::span<const std::uint8_t, kImageValues>;
  using Room = std::array<std::uint8_t, kImageValues>;

  virtual ~ImageSource() = default;
  ImageSource(const ImageSource&) = delete;
  ImageSource& operator=(const ImageSource&) = delete;

  /// In memory in any case: a byte each.
  virtual const std::vector<std::uint8_t>& labels() const = 0;
  std::size_t count() const { return labels().size(); }

  /// The image at `position`: where it lies in memory, or `room`, into which it was read.
  virtual Result<Pixels> pixels(std::size_t position, Room& room) const = 0;
  /// Whether what was read so far are the images that were there when the job began. The error names the file.
  virtual Result<void> check_unchanged() const = 0;
  /// What `checksum` gave of all pixels at the beginning. A file that is merely touched after this is read again, and
  /// not taken for changed. Called before threads read.
  virtual void expect(std::uint32_t checksum) = 0;
  /// A CRC-32 of the pixels of `count` images from `first` on.
  virtual Result<std::uint32_t> checksum(std::size_t first, std::size_t count) const = 0;

  /// Which file of this host it is, and in which state; empty: none, for the images are in memory.
  virtual std::string identity() const = 0;
  /// nullptr: they are not in memory.
  virtual const Dataset* whole() const = 0;

 protected:
  ImageSource() = default;
};

/// These very images.
std::shared_ptr<ImageSource> in_memory(Dataset images);

/// The images of a split: of a plain file those that are asked for, by `pread`, which leaves them in the kernel's
/// cache, one copy for all ranks of a host; of a packed one all, in memory. `wanted`: only the first so many, 0 for
/// all; more than there are is `Errc::invalid_config`, which names `flag`. Errors as load_dataset's.
Result<std::shared_ptr<ImageSource>> open_images(const DataFiles& files, Split split, std::uint64_t wanted,
                                                 const char* flag);
/// The same, all in memory.
Result<std::shared_ptr<ImageSource>> load_images(const DataFiles& files, Split split, std::uint64_t wanted,
                                                 const char* flag);

/// The images and labels at `positions`, normalised, as of a Dataset. The error is that of the file, also where it was
/// changed while it was read.
Result<void> fill_batch(const ImageSource& from, std::span<const std::uint32_t> positions, std::span<float> images,
                        std::span<std::uint8_t> labels);

}  // namespace llmlaunch::trainer
