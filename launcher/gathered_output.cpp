// Memory first, then one unlinked file that all streams share: their pieces are written whenever memory is full, so
// that a piece is large when streams are few, and the list of pieces stays small beside what they hold.
#include "launcher/gathered_output.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "launcher/agent/nameless_file.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::size_t kShownPieceBytes = 64u << 10;

}  // namespace

GatheredOutput::GatheredOutput(std::size_t ranks, std::string directory, std::size_t memory)
    : directory_(std::move(directory)), memory_(memory), streams_(2 * ranks) {}

std::size_t GatheredOutput::index(Rank rank, agent::Stream stream) {
  return 2 * std::size_t{number(rank)} + (stream == agent::Stream::err ? 1 : 0);
}

Result<void> GatheredOutput::add(Rank rank, agent::Stream stream, ByteView bytes) {
  if (incomplete_) return ok;
  streams_[index(rank, stream)].tail += as_text(bytes);
  held_ += bytes.size();
  if (held_ <= memory_) return ok;
  const Result<void> spilled = spill();
  incomplete_ = !spilled;
  return spilled;
}

Result<void> GatheredOutput::spill() {
  if (!file_) {
    file_ = agent::nameless_file(directory_);
    if (!file_) {
      return system_error(errno, "cannot make a temporary file in " + directory_, {}, "TMPDIR names another place");
    }
  }
  for (Stream& stream : streams_)
    if (auto spilled = spill_one(stream); !spilled) return spilled;
  held_ = 0;
  return ok;
}

Result<void> GatheredOutput::spill_one(Stream& stream) {
  std::string_view rest = stream.tail;
  if (rest.empty()) return ok;
  const Extent extent{file_size_, rest.size()};
  while (!rest.empty()) {
    const ssize_t put = ::pwrite(file_.value(), rest.data(), rest.size(), static_cast<off_t>(file_size_));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(errno, "cannot write the temporary file in " + directory_);
    file_size_ += static_cast<std::uint64_t>(put);
    rest.remove_prefix(static_cast<std::size_t>(put));
  }
  const bool follows =
      !stream.extents.empty() && stream.extents.back().offset + stream.extents.back().size == extent.offset;
  if (follows)
    stream.extents.back().size += extent.size;
  else
    stream.extents.push_back(extent);
  stream.tail = std::string();
  return ok;
}

std::uint64_t GatheredOutput::size(Rank rank, agent::Stream stream) const {
  const Stream& one = streams_[index(rank, stream)];
  std::uint64_t size = one.tail.size();
  for (const Extent& extent : one.extents) size += extent.size;
  return size;
}

Result<void> GatheredOutput::read(Rank rank, agent::Stream stream, const TextSink& sink) const {
  const Stream& one = streams_[index(rank, stream)];
  std::string piece(one.extents.empty() ? 0 : kShownPieceBytes, '\0');
  for (const Extent& extent : one.extents) {
    for (std::uint64_t at = 0; at < extent.size;) {
      const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(kShownPieceBytes, extent.size - at));
      const ssize_t got = ::pread(file_.value(), piece.data(), size, static_cast<off_t>(extent.offset + at));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return system_error(got < 0 ? errno : EIO, "cannot read the temporary file in " + directory_);
      at += static_cast<std::uint64_t>(got);
      if (auto taken = sink(std::string_view(piece).substr(0, static_cast<std::size_t>(got))); !taken) return taken;
    }
  }
  if (one.tail.empty()) return ok;
  return sink(one.tail);
}

Result<std::string> GatheredOutput::digest(Rank rank, agent::Stream stream) const {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1)
    return make_error(Errc::out_of_resources, "no memory to compare the output of hosts");
  const auto taken = read(rank, stream, [&context](std::string_view piece) -> Result<void> {
    EVP_DigestUpdate(context.get(), piece.data(), piece.size());
    return ok;
  });
  if (!taken) return taken.error();
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &length);
  return std::string(reinterpret_cast<const char*>(digest.data()), length);
}

}  // namespace llmlaunch::launcher
