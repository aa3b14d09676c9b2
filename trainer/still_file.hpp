/// \file
/// A file that stays open and has to stay as it is while a job runs: read at any place, by several threads at once.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::trainer {

class StillFile {
 public:
  /// The system's error; `Errc::invalid_config` for a pipe or a device.
  static Result<std::unique_ptr<const StillFile>> open(const std::string& path);
  const std::string& path() const { return path_; }
  /// When it was opened.
  std::uint64_t size() const { return static_cast<std::uint64_t>(opened_.st_size); }

  /// Fills `into` from byte `offset` on. The system's error, or `Errc::invalid_config` where the file ends earlier.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into) const;
  /// Whether what was read of it so far is still in it, by its own reading.
  using HasSameBytes = std::function<Result<bool>()>;
  /// `Errc::invalid_config` when it has another size than when it was opened, or was written to. A file of the same
  /// size with another time, which somebody only touched or copied once more, is asked `has_same_bytes`, where it is
  /// given.
  Result<void> check_unchanged(const HasSameBytes& has_same_bytes = {}) const;
  /// Device, number, size and time of the last change: equal on two processes of a host where it is the same file.
  std::string identity() const;

 private:
  Error changed(const std::string& what) const;
  Error has_size(std::uint64_t bytes) const;
  Error ends_at(std::uint64_t offset) const;

  StillFile(std::string path, UniqueFd descriptor) : path_(std::move(path)), descriptor_(std::move(descriptor)) {}

  std::string path_;
  UniqueFd descriptor_;
  struct stat opened_ {};
  mutable std::mutex mutex_;
  mutable struct timespec unchanged_since_ {};  // a time of change at which its bytes were those of the beginning
};

}  // namespace llmlaunch::trainer
