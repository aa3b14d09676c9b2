/// \file
/// `GatheredOutput`: what all hosts of an exec print, kept until all is over, so that hosts that printed the same can
/// be shown once. Holds little in memory: what is more than that lies in one temporary file without a name, which is
/// gone when llmlaunch is, however it ends. Written by the output writer's thread alone; read after that has ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/types.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {

/// Kept in memory over all hosts together: thousands of hosts with a page of text each never touch the disk.
inline constexpr std::size_t kGatheredBytes = 32u << 20;

/// Takes pieces of text in their order; an error ends the reading and is given on.
using TextSink = std::function<Result<void>(std::string_view)>;

class GatheredOutput {
 public:
  /// `directory` is where the temporary file is made when it is needed.
  explicit GatheredOutput(std::size_t ranks, std::string directory, std::size_t memory = kGatheredBytes);

  /// An error only once: from then on the output is incomplete, and what has no room is dropped.
  Result<void> add(Rank rank, agent::Stream stream, ByteView bytes);
  bool incomplete() const { return incomplete_; }

  std::uint64_t size(Rank rank, agent::Stream stream) const;
  /// All bytes of a stream, in pieces of at most 64 KiB or what lay in memory.
  Result<void> read(Rank rank, agent::Stream stream, const TextSink& sink) const;
  /// SHA-256 of the stream.
  Result<std::string> digest(Rank rank, agent::Stream stream) const;

 private:
  struct Extent {  // of the file
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  struct Stream {
    std::vector<Extent> extents;
    std::string tail;  // behind the extents
  };
  static std::size_t index(Rank rank, agent::Stream stream);
  Result<void> spill();
  Result<void> spill_one(Stream& stream);

  std::string directory_;
  std::size_t memory_;
  std::size_t held_ = 0;
  std::vector<Stream> streams_;  // 2 per rank: stdout, stderr
  UniqueFd file_;
  std::uint64_t file_size_ = 0;
  bool incomplete_ = false;
};

}  // namespace llmlaunch::launcher
