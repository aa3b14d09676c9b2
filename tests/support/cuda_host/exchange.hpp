/// \file
/// Where ranks of the emulated NCCL, processes or threads of this machine, leave their numbers for each other: memory
/// that all of them map, of which the communicator's id is the path. It goes with its processes. Who waits looks again;
/// nobody notices that another has died, as NCCL does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace cuda_host {

/// What a rank takes part in. All must say the same.
struct Operation {
  std::uint64_t kind, bytes, type, root;
  bool operator==(const Operation&) const = default;
};

class Exchange {
 public:
  /// The largest message; the file has holes where nothing is written.
  static constexpr std::size_t kMostBytes = std::size_t{64} << 20U;

  /// A path for all ranks, as long as this process lives.
  static std::string make_file();

  /// The file of this path.
  Exchange(const std::string& path, std::uint32_t rank, std::uint32_t ranks);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  std::uint32_t ranks() const { return ranks_; }
  bool all_here() const;

  /// False while others have not read this rank's operation before.
  bool may_post() const;
  /// The next operation of this rank.
  void post(const Operation& operation, std::span<const std::byte> mine);
  /// Whether all have posted the same number of operations as this rank.
  bool all_posted() const;
  /// Of the last operation.
  Operation operation_of(std::uint32_t rank) const;
  std::span<const std::byte> numbers_of(std::uint32_t rank) const;
  /// They have been read here.
  void finish();

 private:
  struct Header;
  struct Slot;
  Slot& slot(std::uint32_t rank) const;

  std::uint32_t rank_, ranks_;
  std::size_t size_ = 0;
  std::byte* memory_ = nullptr;
  std::uint64_t posted_ = 0;
};

}  // namespace cuda_host
