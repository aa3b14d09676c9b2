// mmap and mprotect, a table of allocations, and the words for an access that nobody may make.
#include "tests/support/cuda_host/memory.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace cuda_host {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kDeviceBytes = std::size_t{4} << 30U;
/// Larger ones, the libraries' workspaces, stay open: closing takes time for each page, at each wait.
constexpr std::size_t kMostToClose = std::size_t{16} << 20U;
constexpr unsigned char kUnwritten = 0xff;  // a NaN in float, half and double

struct Allocation {
  std::size_t bytes;
  std::uintptr_t pages;
  std::size_t pages_bytes;
  int device;
  bool is_freed;
};

struct Table {
  std::recursive_mutex mutex;
  std::map<std::uintptr_t, Allocation> allocations;  // by the address that was given, freed ones, too
  std::map<int, std::size_t> in_use;
  int open = 0;
};

Table& table() {
  static auto* const kTable = new Table;  // never destroyed: other threads and exit handlers may come later
  return *kTable;
}

std::atomic<const char*> running{nullptr};

std::uintptr_t number(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address);
}

std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

void protect(const Allocation& allocation, int protection) {
  if (mprotect(reinterpret_cast<void*>(allocation.pages), allocation.pages_bytes, protection) != 0) {
    std::perror("emulated device: mprotect");
    std::abort();
  }
}

bool closes(const Allocation& allocation) {
  return !allocation.is_freed && allocation.bytes <= kMostToClose;
}

struct sigaction earlier_action;

/// Says whose address it was, and lets the access fail again, with the action that was there before.
void explain_fault(int, siginfo_t* info, void*) {
  const std::uintptr_t address = number(info->si_addr);
  const char* const who = running.load() == nullptr ? "host code" : running.load();
  auto& known = table().allocations;
  auto next = known.upper_bound(address);
  const char* where = nullptr;
  std::size_t distance = 0;
  std::size_t bytes = 0;
  if (next != known.begin()) {
    const auto& [first, allocation] = *std::prev(next);
    if (address < allocation.pages + allocation.pages_bytes + kPage) {
      bytes = allocation.bytes;
      distance = address - first;
      where = allocation.is_freed           ? "inside freed"
              : distance < allocation.bytes ? "inside"
                                            : "from the beginning of, and behind the end of,";
    }
  }
  if (where == nullptr && next != known.end() && address + kPage >= next->second.pages) {
    where = "before";
    bytes = next->second.bytes;
    distance = next->first - address;
  }
  char line[512];
  const int length =
      where == nullptr
          ? std::snprintf(line, sizeof line, "emulated device: %s touched %p, which is no memory of a device\n", who,
                          info->si_addr)
          : std::snprintf(line, sizeof line,
                          "emulated device: %s touched %p, %zu bytes %s %zu bytes of device memory\n", who,
                          info->si_addr, distance, where, bytes);
  if (length > 0) static_cast<void>(!write(STDERR_FILENO, line, static_cast<std::size_t>(length)));
  sigaction(SIGSEGV, &earlier_action, nullptr);
}

void install_handler() {
  static const bool kDone = [] {
    struct sigaction action {};
    action.sa_sigaction = explain_fault;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &earlier_action);
    return true;
  }();
  static_cast<void>(kDone);
}

}  // namespace

void* allocate_device_memory(int device, std::size_t bytes) {
  install_handler();
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  if (all.in_use[device] + bytes > kDeviceBytes) return nullptr;
  const std::size_t aligned = rounded_up(bytes, kAlignment);
  const std::size_t inner = rounded_up(aligned, kPage);
  void* const mapped = mmap(nullptr, inner + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const std::uintptr_t pages = number(mapped) + kPage;
  const std::uintptr_t first = pages + inner - aligned;
  const Allocation made = {.bytes = bytes, .pages = pages, .pages_bytes = inner, .device = device, .is_freed = false};
  protect(made, PROT_READ | PROT_WRITE);
  std::memset(reinterpret_cast<void*>(pages), kUnwritten, inner);
  if (all.open == 0 && closes(made)) protect(made, PROT_NONE);
  all.allocations[first] = made;
  all.in_use[device] += bytes;
  return reinterpret_cast<void*>(first);
}

bool free_device_memory(void* address) {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  const auto found = all.allocations.find(number(address));
  if (found == all.allocations.end() || found->second.is_freed) return false;
  Allocation& allocation = found->second;
  protect(allocation, PROT_READ);
  const auto* const bytes = static_cast<const unsigned char*>(address);
  for (std::size_t i = allocation.bytes; i < rounded_up(allocation.bytes, kAlignment); ++i) {
    if (bytes[i] == kUnwritten) continue;
    std::fprintf(stderr, "emulated device: byte %zu behind the end of %zu bytes of device memory was written\n",
                 i - allocation.bytes, allocation.bytes);
    std::abort();
  }
  madvise(reinterpret_cast<void*>(allocation.pages), allocation.pages_bytes, MADV_DONTNEED);
  protect(allocation, PROT_NONE);
  allocation.is_freed = true;
  all.in_use[allocation.device] -= allocation.bytes;
  return true;
}

bool is_device_memory(const void* address, std::size_t bytes) {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  const auto next = all.allocations.upper_bound(number(address));
  if (next == all.allocations.begin()) return false;
  const auto& [first, allocation] = *std::prev(next);
  return !allocation.is_freed && number(address) - first + bytes <= allocation.bytes;
}

std::size_t device_memory_in_use(int device) {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  return all.in_use[device];
}

std::size_t device_memory_size() {
  return kDeviceBytes;
}

OpenMemory::OpenMemory() {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  if (all.open++ > 0) return;
  for (const auto& [first, allocation] : all.allocations) {
    if (closes(allocation)) protect(allocation, PROT_READ | PROT_WRITE);
  }
}

OpenMemory::~OpenMemory() {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  if (--all.open > 0) return;
  for (const auto& [first, allocation] : all.allocations) {
    if (closes(allocation)) protect(allocation, PROT_NONE);
  }
}

void set_running(const char* what) {
  running = what;
}

}  // namespace cuda_host
