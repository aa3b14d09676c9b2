/// \file
/// Memory that processes of one machine have in common. It has no name in any file system, so that nothing stays
/// behind, however they end; and it cannot shrink, so that no access to it ends a process.
#pragma once

#include <cstddef>
#include <utility>

#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::trainer {

/// A descriptor of `bytes` zeros, all of which are there: where memory is not enough, or a limit of the process forbids
/// it, it is the system's error now and no SIGBUS later. A cgroup's limit of memory is none: it ends a process (OOM
/// killer), here or, as for all memory, whenever the group needs more.
Result<UniqueFd> make_shared_memory(std::size_t bytes);

/// Such memory in this process's address space. The descriptor may be closed meanwhile.
class SharedMemoryMapping {
 public:
  /// `Errc::protocol` for what has another size or may still shrink, else the system's error.
  static Result<SharedMemoryMapping> of(int descriptor, std::size_t bytes);

  SharedMemoryMapping() = default;
  SharedMemoryMapping(SharedMemoryMapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  SharedMemoryMapping& operator=(SharedMemoryMapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~SharedMemoryMapping();

  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace llmlaunch::trainer
