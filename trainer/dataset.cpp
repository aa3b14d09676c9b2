// Finds and reads MNIST's files, and hands out batches. The format itself is idx.cpp's.
#include "trainer/dataset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <unistd.h>
#include <zlib.h>

#include "rendezvous/base/counted.hpp"
#include "trainer/files.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr const char* kHint = "--data_dir wants MNIST's four IDX files, plain or .gz; without it digits are drawn";

/// The spellings of "train-images-idx3-ubyte".
std::array<std::string, 4> spellings(const std::string& subject, const std::string& kind) {
  return {subject + "-" + kind, subject + "." + kind, subject + "-" + kind + ".gz", subject + "." + kind + ".gz"};
}

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;  // a file that exists but cannot be read is told by the reading
  return std::filesystem::exists(path, ignored);
}

Result<std::string> find_file(const std::string& folder, const std::string& subject, const std::string& kind) {
  const auto names = spellings(subject, kind);
  for (const std::string& name : names) {
    const std::filesystem::path path = std::filesystem::path(folder) / name;
    if (is_there(path)) return path.string();
  }
  return make_error(Errc::not_found, fmt::format("has neither {} nor {}, plain or .gz", names[0], names[1]), folder,
                    kHint);
}

std::string set_name(Split split) {
  return split == Split::train ? "train" : "t10k";
}

/// Whether one of the four files is there: then it is the folder that is meant, and what it lacks is told.
bool has_idx_files(const std::filesystem::path& folder) {
  for (const Split split : {Split::train, Split::test}) {
    for (const auto& [what, kind] : {std::pair("-images", "idx3-ubyte"), std::pair("-labels", "idx1-ubyte")}) {
      for (const std::string& name : spellings(set_name(split) + what, kind)) {
        if (is_there(folder / name)) return true;
      }
    }
  }
  return false;
}

/// That a folder is given, whatever is in it. Of one of the files in it that is said.
Result<void> check_folder(const std::filesystem::path& given) {
  std::error_code ignored;  // whatever it is, it is no folder to read from
  if (std::filesystem::is_directory(given, ignored)) return ok;
  if (!is_there(given)) return make_error(Errc::not_found, "no such folder", given.string(), kHint);
  const std::filesystem::path around = given.has_parent_path() ? given.parent_path() : ".";
  return make_error(
      Errc::not_found,
      std::filesystem::is_regular_file(given, ignored) ? "is a file, and a folder is wanted" : "is no folder",
      given.string(), has_idx_files(around) ? fmt::format("write --data_dir {}", around.string()) : kHint);
}

/// The folders in `folder`, by name; none where it cannot be read, for then there is nothing to be found in them.
std::vector<std::filesystem::path> subfolders(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  std::error_code failed;
  for (std::filesystem::directory_iterator at(folder, failed); !failed && at != std::filesystem::directory_iterator();
       at.increment(failed)) {
    std::error_code ignored;
    if (at->is_directory(ignored)) found.push_back(at->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// torchvision's sets of MNIST's format under other file names; nullopt: none of them is here.
std::optional<Error> other_set_in(const std::filesystem::path& folder) {
  std::set<std::string> splits;
  bool qmnist = false;
  std::error_code failed;
  for (std::filesystem::directory_iterator at(folder, failed); !failed && at != std::filesystem::directory_iterator();
       at.increment(failed)) {
    const std::string name = at->path().filename().string();
    constexpr std::string_view kEmnist = "emnist-";
    const std::size_t end = name.find("-train-images-idx3-ubyte");
    if (name.starts_with(kEmnist) && end != name.npos) splits.insert(name.substr(kEmnist.size(), end - kEmnist.size()));
    qmnist = qmnist || name.starts_with("qmnist-");
  }
  constexpr const char* kKnown = "is not read here; MNIST, FashionMNIST and KMNIST are, by the names of their files";
  if (!splits.empty()) {
    return make_error(Errc::not_found, fmt::format("holds EMNIST ({}), which {}", fmt::join(splits, ", "), kKnown),
                      folder.string(),
                      "digits and mnist have labels 0 to 9: link emnist-digits-train-images-idx3-ubyte as "
                      "train-images-idx3-ubyte, -test- as t10k-, and so on (the images stay transposed, as in "
                      "torchvision); the other splits have more than the ten classes of the networks here");
  }
  if (!qmnist) return std::nullopt;
  return make_error(
      Errc::not_found, fmt::format("holds QMNIST, which {}", kKnown), folder.string(),
      "its labels are eight numbers for each image, of which the first is the class; use MNIST's own files");
}

/// Under another name first: no half file has the final one.
Result<void> write_new_file(const std::string& path, const Bytes& bytes) {
  const std::string part = path + ".part";
  auto written = write_whole_file(part, bytes);
  if (written && std::rename(part.c_str(), path.c_str()) != 0) written = system_error(errno, "rename", part);
  if (!written) ::unlink(part.c_str());
  return written;
}

Result<Bytes> load_file(const std::string& path, std::size_t limit) {
  auto bytes = read_whole_file(path, limit, kHint);
  if (!bytes || !path.ends_with(".gz")) return bytes;
  return unpack_gzip(*bytes, limit, path);
}

}  // namespace

void Dataset::keep_first(std::uint64_t wanted) {
  const std::size_t kept = std::min<std::uint64_t>(wanted, count());
  labels.resize(kept);
  images.resize(kept * kImageValues);
}

Result<std::string> find_mnist_folder(const std::string& given) {
  const std::filesystem::path root(given);
  if (auto folder = check_folder(root); !folder) return folder.error();
  if (has_idx_files(root)) return given;
  if (has_idx_files(root / "raw")) return (root / "raw").string();
  const auto inside = subfolders(root);
  std::vector<std::string> sets;
  for (const auto& folder : inside) {
    if (has_idx_files(folder / "raw")) sets.push_back((folder / "raw").string());
  }
  if (sets.size() == 1) return sets.front();
  if (sets.size() > 1) {
    return make_error(Errc::invalid_config, fmt::format("holds {} data sets: {}", sets.size(), fmt::join(sets, ", ")),
                      given, "name one of them in --data_dir");
  }
  auto places = inside;
  places.insert(places.begin(), root);
  for (const auto& folder : places) {
    for (const auto& files : {folder, folder / "raw", folder / "raw" / "gzip"}) {
      if (auto other = other_set_in(files)) return *other;
    }
  }
  for (const auto& folder : places) {
    if (!is_there(folder / "processed" / "training.pt")) continue;
    return make_error(Errc::not_found, "has no IDX files, only what PyTorch made of them and alone can read",
                      (folder / "processed" / "training.pt").string(),
                      "fetch them again: torchvision.datasets.MNIST(root, download=True) leaves them in MNIST/raw");
  }
  const auto names = spellings("train-images", "idx3-ubyte");
  return make_error(
      Errc::not_found,
      fmt::format("has neither {} nor {}, plain or .gz, also not in raw/ or in a folder's raw/", names[0], names[1]),
      given, kHint);
}

Result<Dataset> load_mnist(const std::string& folder, Split split) {
  if (auto there = check_folder(folder); !there) return there.error();
  const std::string set = set_name(split);
  const auto image_path = find_file(folder, set + "-images", "idx3-ubyte");
  if (!image_path) return image_path.error();
  const auto label_path = find_file(folder, set + "-labels", "idx1-ubyte");
  if (!label_path) return label_path.error();
  const auto image_file = load_file(*image_path, kMaxImageFileBytes);
  if (!image_file) return image_file.error();
  const auto label_file = load_file(*label_path, kMaxLabelFileBytes);
  if (!label_file) return label_file.error();
  auto images = parse_idx_images(*image_file, *image_path);
  if (!images) return images.error();
  auto labels = parse_idx_labels(*label_file, *label_path);
  if (!labels) return labels.error();
  if (images->size() != labels->size() * kImageValues) {
    return make_error(Errc::invalid_config,
                      fmt::format("has {}, but {} has {}", counted(labels->size(), "label"), *image_path,
                                  counted(images->size() / kImageValues, "image")),
                      *label_path, "both files must be of the same set");
  }
  return Dataset{std::move(*images), std::move(*labels)};
}

Result<void> save_mnist(const std::string& folder, Split split, const Dataset& dataset) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) return system_error(failed.value(), "--export_dataset: mkdir", folder);
  const std::filesystem::path images = std::filesystem::path(folder) / (set_name(split) + "-images-idx3-ubyte");
  const std::filesystem::path labels = std::filesystem::path(folder) / (set_name(split) + "-labels-idx1-ubyte");
  for (const auto& path : {images, labels}) {
    std::error_code ignored;  // what cannot be looked at cannot be written either, and that is told
    if (std::filesystem::exists(path, ignored)) {
      return system_error(EEXIST, "--export_dataset: create", path.string(), "name a new folder, or remove the file");
    }
  }
  if (auto written = write_new_file(images.string(), write_idx_images(dataset.images)); !written) return written;
  return write_new_file(labels.string(), write_idx_labels(dataset.labels));
}

std::string checksum_of(const Dataset& dataset) {
  uLong crc = ::crc32_z(0, dataset.images.data(), dataset.images.size());
  crc = ::crc32_z(crc, dataset.labels.data(), dataset.labels.size());
  return fmt::format("{:08x}", crc);
}

float normalised(std::uint8_t pixel) {
  return (static_cast<float>(pixel) / 255.0F - 0.1307F) / 0.3081F;
}

void fill_batch(const Dataset& from, std::span<const std::uint32_t> positions, std::span<float> images,
                std::span<std::uint8_t> labels) {
  static const auto kNormalised = [] {
    std::array<float, 256> table{};
    for (std::size_t pixel = 0; pixel < table.size(); ++pixel) {
      table[pixel] = normalised(static_cast<std::uint8_t>(pixel));
    }
    return table;
  }();
  assert(images.size() == positions.size() * kImageValues && labels.size() == positions.size());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    assert(positions[i] < from.count());
    const std::uint8_t* pixels = from.images.data() + positions[i] * kImageValues;
    std::transform(pixels, pixels + kImageValues, images.begin() + static_cast<std::ptrdiff_t>(i * kImageValues),
                   [&](std::uint8_t pixel) { return kNormalised[pixel]; });
    labels[i] = from.labels[positions[i]];
  }
}

}  // namespace llmlaunch::trainer
