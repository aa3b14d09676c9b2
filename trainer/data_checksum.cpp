// A host's ranks take the CRC-32 of a part of the file each, and put the parts together: the number is that of the
// whole. Called once, before the first step.
#include "trainer/data_checksum.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <optional>
#include <sstream>
#include <vector>

#include "trainer/agreement.hpp"

namespace llmlaunch::trainer {
namespace {

/// Of a rank that reads all by itself.
constexpr const char* kNoFile = "-";

/// What a rank has read of a set.
struct Part {
  std::string file = kNoFile;  ///< ImageSource::identity
  std::size_t images = 0;
  std::uint32_t crc = 0;
};

/// What a rank says of itself and of both sets.
struct Share {
  std::string host;
  std::uint32_t local_rank = 0;
  std::uint32_t local_world_size = 1;
  std::array<Part, 2> parts = {};
};

std::string words_of(const Share& share) {
  std::string text = fmt::format("{} {}", share.local_rank, share.local_world_size);
  for (const Part& part : share.parts) text += fmt::format(" {} {} {}", part.file, part.images, part.crc);
  return text + " " + share.host;
}

Result<Share> share_in(const std::string& text) {
  std::istringstream in(text);
  Share share;
  in >> share.local_rank >> share.local_world_size;
  for (Part& part : share.parts) in >> part.file >> part.images >> part.crc;
  if (!in || in.get() != ' ') {
    return make_error(Errc::protocol, "a rank's words for its part of the data cannot be read: '" + text + "'");
  }
  std::getline(in, share.host);
  return share;
}

std::uint32_t joined(std::uint32_t first, std::uint32_t second, std::size_t second_bytes) {
  return static_cast<std::uint32_t>(::crc32_combine(first, second, static_cast<z_off_t>(second_bytes)));
}

std::string with_labels(std::uint32_t pixels, const ImageSource& images) {
  const auto& labels = images.labels();
  const auto crc = static_cast<std::uint32_t>(::crc32_z(0, labels.data(), labels.size()));
  return fmt::format("{:08x}", joined(pixels, crc, labels.size()));
}

/// Where the part of a local rank begins, and that of the one before it ends.
std::size_t begin_of_part(std::size_t images, std::size_t local_rank, std::size_t local_world_size) {
  return images * local_rank / local_world_size;
}

/// This rank's part of the file, where its host has others.
Result<Part> part_of(const ImageSource& images, const World& world) {
  const std::string file = images.identity();
  if (file.empty() || world.local_world_size < 2 || world.local_rank >= world.local_world_size) return Part{};
  const std::size_t first = begin_of_part(images.count(), world.local_rank, world.local_world_size);
  const std::size_t last = begin_of_part(images.count(), world.local_rank + 1, world.local_world_size);
  const auto crc = images.checksum(first, last - first);
  if (!crc) return crc.error();
  return Part{.file = file, .images = last - first, .crc = *crc};
}

/// The CRC of all pixels, from the parts of this host's ranks; nothing where these are not all of one file.
std::optional<std::uint32_t> from_parts(const std::vector<Share>& ranks, const Share& mine, std::size_t set,
                                        std::size_t images) {
  if (mine.parts[set].file == kNoFile) return std::nullopt;
  std::vector<const Part*> parts(mine.local_world_size, nullptr);
  for (const Share& rank : ranks) {
    if (rank.host != mine.host) continue;
    if (rank.local_world_size != mine.local_world_size || rank.local_rank >= parts.size()) return std::nullopt;
    if (rank.parts[set].file != mine.parts[set].file || parts[rank.local_rank] != nullptr) return std::nullopt;
    parts[rank.local_rank] = &rank.parts[set];
  }
  std::uint32_t crc = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t count = begin_of_part(images, i + 1, parts.size()) - begin_of_part(images, i, parts.size());
    if (parts[i] == nullptr || parts[i]->images != count) return std::nullopt;
    crc = joined(crc, parts[i]->crc, count * kImageValues);
  }
  return crc;
}

}  // namespace

Result<void> checksum_data(Comm& comm, const World& world, DataSource& data) {
  const std::array sets = {data.train.get(), data.test.get()};
  Share mine{.host = world.host, .local_rank = world.local_rank, .local_world_size = world.local_world_size};
  for (std::size_t set = 0; set < sets.size(); ++set) {
    auto part = part_of(*sets[set], world);
    if (!part) return part.error();
    mine.parts[set] = std::move(*part);
  }
  const auto texts = gather_texts(comm, words_of(mine));
  if (!texts) return texts.error();
  std::vector<Share> ranks;
  for (const std::string& text : *texts) {
    auto share = share_in(text);
    if (!share) return share.error();
    ranks.push_back(std::move(*share));
  }
  const std::array checksums = {&data.train_checksum, &data.test_checksum};
  for (std::size_t set = 0; set < sets.size(); ++set) {
    auto pixels = from_parts(ranks, mine, set, sets[set]->count());
    if (!pixels) {
      const auto own = sets[set]->checksum(0, sets[set]->count());
      if (!own) return own.error();
      pixels = *own;
    }
    sets[set]->expect(*pixels);
    *checksums[set] = with_labels(*pixels, *sets[set]);
  }
  return ok;
}

}  // namespace llmlaunch::trainer
