// A mapped file: a counter of arrivals, then one slot per rank.
#include "tests/support/cuda_host/exchange.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cuda_host {
namespace {

constexpr std::size_t kHead = 4096;

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::abort();
}

}  // namespace

struct Exchange::Header {
  std::atomic<std::uint32_t> here;
};

struct Exchange::Slot {
  std::atomic<std::uint64_t> posted, read;
  Operation operation;
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

Exchange::Exchange(const std::string& path, std::uint32_t rank, std::uint32_t ranks)
    : rank_(rank), ranks_(ranks), size_(kHead + ranks * (kHead + kMostBytes)) {
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) give_up(path.c_str());
  if (ftruncate(file, static_cast<off_t>(size_)) != 0) give_up("ftruncate");
  void* const mapped = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) give_up("mmap");
  close(file);
  memory_ = static_cast<std::byte*>(mapped);
  reinterpret_cast<Header*>(memory_)->here.fetch_add(1);
}

Exchange::~Exchange() {
  munmap(memory_, size_);
}

bool Exchange::all_here() const {
  return reinterpret_cast<Header*>(memory_)->here.load() >= ranks_;
}

std::string Exchange::make_file() {
  const int file = memfd_create("emulated-nccl", MFD_CLOEXEC);
  if (file < 0) give_up("memfd_create");
  return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file);
}

Exchange::Slot& Exchange::slot(std::uint32_t rank) const {
  return *reinterpret_cast<Slot*>(memory_ + kHead + rank * (kHead + kMostBytes));
}

bool Exchange::may_post() const {
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    if (slot(rank).read.load() < posted_) return false;
  }
  return true;
}

void Exchange::post(const Operation& operation, std::span<const std::byte> mine) {
  Slot& own = slot(rank_);
  own.operation = operation;
  std::memcpy(reinterpret_cast<std::byte*>(&own) + kHead, mine.data(), mine.size());
  own.posted.store(++posted_);
}

bool Exchange::all_posted() const {
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    if (slot(rank).posted.load() < posted_) return false;
  }
  return true;
}

Operation Exchange::operation_of(std::uint32_t rank) const {
  return slot(rank).operation;
}

std::span<const std::byte> Exchange::numbers_of(std::uint32_t rank) const {
  return {reinterpret_cast<const std::byte*>(&slot(rank)) + kHead, slot(rank).operation.bytes};
}

void Exchange::finish() {
  slot(rank_).read.store(posted_);
}

}  // namespace cuda_host
