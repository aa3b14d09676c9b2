/// \file
/// A file that stays open and has to stay as it is while a job runs: read at any place, by several threads at once.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

class StillFile {
 public:
  /// The system's error; `Errc::invalid_config` for a pipe or a device.
  static Result<std::unique_ptr<const StillFile>> open(const std::string& path);
  ~StillFile();
  StillFile(const StillFile&) = delete;
  StillFile& operator=(const StillFile&) = delete;

  const std::string& path() const { return path_; }
  /// When it was opened.
  std::uint64_t size() const { return static_cast<std::uint64_t>(begun_.st_size); }

  /// Fills `into` from byte `offset` on. The system's error, or that of check_unchanged where the file ends earlier.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into) const;
  /// `Errc::invalid_config` when it has another size than when it was opened, or was written to.
  Result<void> check_unchanged() const;
  /// Device, number, size and time of the last change: equal on two processes of a host where it is the same file.
  std::string identity() const;

 private:
  StillFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_;
  struct stat begun_ {};
};

}  // namespace llmlaunch::trainer
