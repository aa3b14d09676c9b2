// memfd_create, sealed and filled, and its mapping.
#include "trainer/shared_memory_region.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

namespace llmlaunch::trainer {
namespace {

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // Linux 6.3
#endif

constexpr int kFixedSize = F_SEAL_SHRINK | F_SEAL_GROW;

/// Nobody runs it as a program, and where vm.memfd_noexec is 2, this has to be said; older kernels do not know the
/// word.
UniqueFd create_memfd() {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  UniqueFd fd(::memfd_create("llmlaunch-train", kFlags | MFD_NOEXEC_SEAL));
  if (!fd && errno == EINVAL) fd.reset(::memfd_create("llmlaunch-train", kFlags));
  return fd;
}

}  // namespace

Result<UniqueFd> make_shared_memory(std::size_t bytes) {
  UniqueFd fd = create_memfd();
  if (!fd) return system_error(errno, "memfd_create");
  int failed = 0;
  do failed = ::posix_fallocate(fd.value(), 0, static_cast<off_t>(bytes));
  while (failed == EINTR);
  if (failed != 0) return system_error(failed, "fallocate of shared memory");
  if (::fcntl(fd.value(), F_ADD_SEALS, kFixedSize | F_SEAL_SEAL) != 0) return system_error(errno, "F_ADD_SEALS");
  return fd;
}

Result<SharedMemoryMapping> SharedMemoryMapping::of(int descriptor, std::size_t bytes) {
  const int seals = ::fcntl(descriptor, F_GET_SEALS);
  if (seals < 0) return system_error(errno, "F_GET_SEALS");
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return system_error(errno, "fstat of shared memory");
  if ((seals & kFixedSize) != kFixedSize || status.st_size != static_cast<off_t>(bytes)) {
    return make_error(Errc::protocol, "shared memory of another size, or of one that is not fixed");
  }
  void* const data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, 0);
  if (data == MAP_FAILED) return system_error(errno, "mmap of shared memory");
  SharedMemoryMapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.bytes_ = bytes;
  return mapping;
}

SharedMemoryMapping::~SharedMemoryMapping() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

}  // namespace llmlaunch::trainer
