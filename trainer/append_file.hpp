/// \file
/// A file that grows by whole records. One that cannot be written (a full disk) leaves what was there, so that the next
/// one may follow it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

class AppendFile {
 public:
  AppendFile() = default;
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&& other) noexcept;
  ~AppendFile();

  /// Opens `path`, or makes it, and changes nothing in it. The system's error.
  static Result<AppendFile> open(const std::string& path);
  /// Keeps other jobs out of it, as output_lock.hpp says; false: another one writes it.
  bool lock() const;
  bool is_open() const { return descriptor_ >= 0; }
  /// Cuts what stands behind the first `keep` bytes. Nothing of a pipe or a terminal, where nothing stands.
  Result<void> cut(std::uint64_t keep);
  /// All bytes or, with the system's error, none of them; of a pipe perhaps some. A file that somebody has removed
  /// takes none: nobody would ever see them.
  Result<void> append(std::string_view bytes);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace llmlaunch::trainer
