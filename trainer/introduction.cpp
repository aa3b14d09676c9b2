// Names, and the talk about memory: after each of the bootstrap's two halves the ranks tell each other how it went.
#include "trainer/introduction.hpp"

#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <type_traits>
#include <utility>

#include "trainer/agreement.hpp"
#include "trainer/shared_memory_all_reduce.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr std::uint8_t kSharedMemoryVersion = 1;
static_assert(std::is_trivially_copyable_v<Introduction> && sizeof(Introduction) == 256);

/// The same in all containers of a machine.
void read_boot_id(std::array<char, 36>& id) {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  if (!file.read(id.data(), id.size())) id.fill('\0');
}

/// Of the first rank that has one, and empty where none has.
Result<std::string> first_reason(Comm& comm, const std::vector<std::string>& hosts, const std::string& mine) {
  const auto reasons = gather_texts(comm, mine);
  if (!reasons) return reasons.error();
  for (std::size_t rank = 0; rank < reasons->size(); ++rank) {
    if (!(*reasons)[rank].empty()) return fmt::format("rank {} on {}: {}", rank, hosts[rank], (*reasons)[rank]);
  }
  return std::string();
}

template <class T>
std::string reason_of(const Result<T>& result) {
  return result ? std::string() : to_string(result.error());
}

}  // namespace

Result<Introductions> introduce(Comm& comm, const std::string& host, bool share_memory) {
  Introductions result{.hosts = {},
                       .may_share_memory = share_memory && comm.world_size() >= 2,
                       .offer = {},
                       .listener = make_error(Errc::not_found, "this rank does not listen")};
  Introduction mine;
  host.copy(mine.host.data(), mine.host.size() - 1);
  read_boot_id(mine.machine);
  if (result.may_share_memory) {
    mine.shares_memory = kSharedMemoryVersion;
    if (comm.rank() == 0 && comm.world_size() <= kMaxSharedMemoryRanks) result.listener = SharedMemoryListener::open();
    if (result.listener) mine.offer = result.listener->offer();
  }
  const auto all = comm.all_gather(std::as_bytes(std::span(&mine, 1)));
  if (!all) return all.error();
  for (const Bytes& bytes : *all) {
    Introduction other;
    std::memcpy(&other, bytes.data(), sizeof other);
    other.host.back() = '\0';
    result.hosts.emplace_back(other.host.data());
    if (result.hosts.size() == 1) result.offer = other.offer;
    if (other.shares_memory != mine.shares_memory || other.machine != mine.machine) result.may_share_memory = false;
  }
  return result;
}

Result<SharedMemory> share_memory(Comm& comm, Introductions introductions, std::chrono::milliseconds timeout) {
  SharedMemory result;
  if (!introductions.may_share_memory) return result;
  const std::uint32_t world_size = comm.world_size();
  if (world_size > kMaxSharedMemoryRanks) {
    result.why_not = fmt::format("there are {} ranks, and {} share it at most", world_size, kMaxSharedMemoryRanks);
    return result;
  }
  const std::size_t bytes = SharedMemoryAllReduce::bytes(world_size);
  auto& listener = introductions.listener;
  std::optional<SharedMemoryCaller> caller;
  std::string mine;
  if (comm.rank() == 0) {
    mine = reason_of(listener);
  } else if (auto called = SharedMemoryCaller::call(introductions.offer, comm.rank())) {
    caller = std::move(*called);
  } else {
    mine = reason_of(called);
  }
  auto why_not = first_reason(comm, introductions.hosts, mine);
  if (!why_not) return why_not.error();
  result.why_not = std::move(*why_not);
  if (!result.why_not.empty()) return result;
  auto group = caller ? caller->receive(world_size, bytes, timeout) : listener->admit(world_size, bytes);
  why_not = first_reason(comm, introductions.hosts, reason_of(group));
  if (!why_not) return why_not.error();
  result.why_not = std::move(*why_not);
  if (result.why_not.empty()) result.group = std::move(*group);
  return result;
}

}  // namespace llmlaunch::trainer
