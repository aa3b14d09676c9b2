/// \file
/// The emulated devices' memory: pages of this process, each allocation with a page in front of it and one behind it
/// that nobody may touch, and its end at the second one's. New memory is full of NaN. All but very large arrays are
/// closed to the host but while work of a device runs (`OpenMemory`), and freed memory stays closed for ever: its
/// addresses do not come again. So the host that follows a device's pointer ends by SIGSEGV, as it does with a real
/// one, and a line says where the address lies.
#pragma once

#include <cstddef>

namespace cuda_host {

/// cudaMalloc gives addresses that this divides; so much behind an odd size is checked only when the memory is freed.
inline constexpr std::size_t kAlignment = 256;

/// Null when there is no more.
void* allocate_device_memory(int device, std::size_t bytes);
/// False when nothing was allocated there.
bool free_device_memory(void* address);
/// Whether `bytes` from `address` on lie inside one allocation.
bool is_device_memory(const void* address, std::size_t bytes);
std::size_t device_memory_in_use(int device);
std::size_t device_memory_size();

/// While one lives, this process may read and write the memory.
class OpenMemory {
 public:
  OpenMemory();
  ~OpenMemory();
  OpenMemory(const OpenMemory&) = delete;
  OpenMemory& operator=(const OpenMemory&) = delete;
};

/// What is running, for the line of a fault; null: the host.
void set_running(const char* what);

}  // namespace cuda_host
