// Memory that ranks share: how they get it, the all-reduce in it, and what happens when a rank is gone, stands still or
// writes nonsense. Ranks are threads of this process or children of it.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <thread>

#include "tests/support/catch.hpp"
#include "tests/support/file_size_limit.hpp"
#include "tests/support/rank_processes.hpp"
#include "trainer/shared_memory_all_reduce.hpp"
#include "trainer/shared_memory_bootstrap.hpp"

namespace shared_memory_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;
using namespace std::chrono_literals;

namespace {

using Groups = std::vector<SharedMemoryGroup>;
using Failure = std::optional<AllReduceFailure>;

/// One for each rank, all made here: the only wait is for what is there already.
Groups groups_of(std::uint32_t world_size) {
  const std::size_t bytes = SharedMemoryAllReduce::bytes(world_size);
  auto listener = SharedMemoryListener::open();
  REQUIRE(listener);
  std::vector<SharedMemoryCaller> callers;
  for (std::uint32_t rank = 1; rank < world_size; ++rank) {
    auto caller = SharedMemoryCaller::call(listener->offer(), rank);
    REQUIRE(caller);
    callers.push_back(std::move(*caller));
  }
  Groups groups;
  auto first = listener->admit(world_size, bytes);
  REQUIRE(first);
  groups.push_back(std::move(*first));
  for (auto& caller : callers) {
    auto group = caller.receive(world_size, bytes, test::kPatience);
    REQUIRE(group);
    groups.push_back(std::move(*group));
  }
  return groups;
}

/// Each rank on a thread; no assertion may stand in `body`.
void on_threads(Groups groups, const std::function<void(std::uint32_t rank, SharedMemoryAllReduce&)>& body) {
  std::vector<std::thread> threads;
  for (std::uint32_t rank = 0; rank < groups.size(); ++rank) {
    threads.emplace_back([&body, rank, group = std::move(groups[rank])]() mutable {
      SharedMemoryAllReduce all_reduce(std::move(group), rank);
      body(rank, all_reduce);
    });
  }
  for (auto& thread : threads) thread.join();
}

/// Rank 1 of two as a child process that averages for ever; rank 0 is here.
class TwoProcesses {
 public:
  TwoProcesses() {
    Groups groups = groups_of(2);
    child_ = ::fork();
    if (child_ == 0) {
      groups[0] = {};
      SharedMemoryAllReduce all_reduce(std::move(groups[1]), 1);
      std::vector<float> values(200'000, 3);
      while (!all_reduce.mean(values, test::kPatience)) {
      }
      ::_exit(0);
    }
    groups[1] = {};
    here_.emplace(std::move(groups[0]), 0);
  }
  ~TwoProcesses() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  TwoProcesses(const TwoProcesses&) = delete;
  TwoProcesses& operator=(const TwoProcesses&) = delete;

  Failure mean(std::chrono::milliseconds timeout = test::kPatience) {
    std::vector<float> values(200'000, 1);
    return here_->mean(values, timeout);
  }
  pid_t child() const { return child_; }

 private:
  pid_t child_ = -1;
  std::optional<SharedMemoryAllReduce> here_;
};

/// Of this process, mappings of shared memory.
std::size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find("memfd:llmlaunch-train") != line.npos ? 1U : 0U;
  return count;
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator list("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(list), end(list)));
}

bool is_lost(const Failure& failure, std::uint32_t rank) {
  return failure && failure->code == Errc::closed && failure->ranks == std::vector<std::uint32_t>{rank};
}

}  // namespace

TEST_CASE("every rank has the sum in the order of the ranks, bit for bit, for any number of values") {
  // None, less than a rank each, odd ones, whole chunks, and more than all slots hold together.
  const std::vector<std::size_t> sizes = {0, 1, 17, 1'000, 65'536, 65'537, 300'001, 3};
  for (const std::uint32_t world_size : {2U, 3U, 4U}) {
    std::vector<std::vector<std::vector<float>>> values(sizes.size());  // by size and rank
    std::vector<std::vector<float>> expected;
    std::mt19937 random(world_size);
    const float scale = 1.0F / static_cast<float>(world_size);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      for (std::uint32_t rank = 0; rank < world_size; ++rank) {
        values[i].emplace_back();
        for (std::size_t n = 0; n <= sizes[i]; ++n) values[i].back().push_back(static_cast<float>(random()) - 2e9F);
      }
      expected.emplace_back(values[i][0]);
      for (float& value : expected.back()) value *= scale;
      for (std::uint32_t rank = 1; rank < world_size; ++rank) {
        for (std::size_t n = 0; n < expected.back().size(); ++n) {
          const volatile float part = values[i][rank][n] * scale;
          expected.back()[n] += part;
        }
      }
    }
    std::vector<int> failures(world_size);
    on_threads(groups_of(world_size), [&](std::uint32_t rank, SharedMemoryAllReduce& all_reduce) {
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        // Not at the start of a cache line.
        if (all_reduce.mean(std::span(values[i][rank]).subspan(1), test::kPatience)) ++failures[rank];
      }
    });
    CHECK(failures == std::vector<int>(world_size));
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      for (std::uint32_t rank = 0; rank < world_size; ++rank) {
        INFO("rank " << rank << " of " << world_size << ", " << sizes[i] << " values");
        CHECK(std::memcmp(values[i][rank].data() + 1, expected[i].data() + 1, sizes[i] * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("a rank that is killed in the middle is lost, and soon") {
  TwoProcesses two;
  for (int i = 0; i < 5; ++i) REQUIRE_FALSE(two.mean());
  ::kill(two.child(), SIGKILL);
  const auto begin = std::chrono::steady_clock::now();
  Failure failure;
  while (!failure) failure = two.mean();
  CHECK(is_lost(failure, 1));
  CHECK(std::chrono::steady_clock::now() - begin < test::kPatience / 4);  // 20 ms, but machines may be busy
}

TEST_CASE("a rank that stands still ends the wait after the time limit, and not before") {
  TwoProcesses two;
  REQUIRE_FALSE(two.mean());
  ::kill(two.child(), SIGSTOP);
  int status = 0;
  REQUIRE(::waitpid(two.child(), &status, WUNTRACED) == two.child());
  const auto begin = std::chrono::steady_clock::now();
  Failure failure;
  for (int i = 0; i < 2 && !failure; ++i) failure = two.mean(50ms);  // it may have stopped between two of them
  REQUIRE(failure);
  CHECK(failure->code == Errc::timed_out);
  CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
}

TEST_CASE("every survivor names the rank that is gone, and one that has all it needs is none") {
  std::vector<Failure> failures(3);
  std::atomic<int> left = 0;
  on_threads(groups_of(3), [&](std::uint32_t rank, SharedMemoryAllReduce& all_reduce) {
    std::vector<float> values(100'000, 1);
    if (all_reduce.mean(values, test::kPatience)) return;
    if (rank == 2) return;
    failures[rank] = all_reduce.mean(values, test::kPatience);
    // Whoever goes first would be lost, too.
    ++left;
    while (left < 2) std::this_thread::yield();
  });
  CHECK(is_lost(failures[0], 2));
  CHECK(is_lost(failures[1], 2));
  CHECK_FALSE(failures[2]);
}

TEST_CASE("ranks with other numbers of values are told so, whichever has more") {
  std::vector<Failure> failures(2);
  on_threads(groups_of(2), [&](std::uint32_t rank, SharedMemoryAllReduce& all_reduce) {
    std::vector<float> values(rank == 0 ? 0 : 500'000, 1);
    failures[rank] = all_reduce.mean(values, test::kPatience);
  });
  for (const std::uint32_t rank : {0U, 1U}) {
    REQUIRE(failures[rank]);
    CHECK(failures[rank]->code == Errc::internal);
    CHECK(failures[rank]->ranks == std::vector<std::uint32_t>{1 - rank});
    CHECK(failures[rank]->values == (rank == 0 ? 500'000 : 0));
  }
}

/// Rank 1 of two as one that writes what it likes, but for its counter, which keeps up with rank 0's: what rank 0
/// makes of it. `values` is the number that it claims.
Failure beside_nonsense(std::vector<float>& own, std::uint64_t values, unsigned seed) {
  Groups groups = groups_of(2);
  std::byte* const memory = groups[1].memory.data();
  // Two ranks' controls of 128 bytes, each with its counter and 8 bytes on the number of values; then the slots.
  const auto round = [&](std::size_t rank) {
    return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(memory + rank * 128));
  };
  std::mt19937 random(seed);
  std::vector<std::byte> nonsense(4096, std::byte{0xff});
  if (seed > 0) std::generate(nonsense.begin(), nonsense.end(), [&] { return static_cast<std::byte>(random()); });
  const auto slots = std::span(groups[1].memory.data(), groups[1].memory.size()).subspan(256);
  for (std::size_t at = 0; at < slots.size(); at += nonsense.size()) {
    std::memcpy(slots.data() + at, nonsense.data(), std::min(nonsense.size(), slots.size() - at));
  }
  std::memcpy(memory + 128 + 8, &values, sizeof values);
  std::atomic<bool> over = false;
  std::thread follower([&] {
    while (!over) {
      round(1).store(round(0).load());
      std::this_thread::yield();
    }
  });
  Failure failure = SharedMemoryAllReduce(std::move(groups[0]), 0).mean(own, test::kPatience);
  over = true;
  follower.join();
  return failure;
}

TEST_CASE("nonsense in the memory is no place that is read or written") {
  for (unsigned seed = 0; seed < 3; ++seed) {
    std::vector<float> values(300'000, 1);
    CHECK_FALSE(beside_nonsense(values, values.size(), seed));
    CHECK(values != std::vector<float>(300'000, 1));  // it was read
  }
  for (const std::uint64_t claimed :
       {std::uint64_t{0}, std::uint64_t{300'001}, std::uint64_t{1} << 62, ~std::uint64_t{0}}) {
    std::vector<float> values(300'000, 1);
    const Failure failure = beside_nonsense(values, claimed, 1);
    REQUIRE(failure);
    CHECK(failure->code == Errc::internal);
    CHECK(failure->values == claimed);
  }
}

TEST_CASE("a counter that is nonsense ends the wait after the time limit") {
  for (const std::uint32_t counter : {2U, 1U << 31, ~0U}) {
    Groups groups = groups_of(2);
    std::memcpy(groups[1].memory.data() + 128, &counter, sizeof counter);
    std::vector<float> values(10, 1);
    const Failure failure = SharedMemoryAllReduce(std::move(groups[0]), 0).mean(values, 1ms);
    REQUIRE(failure);
    CHECK(failure->code == Errc::timed_out);
  }
}

TEST_CASE("who is of another job gets no memory, and a rank that has not called none for all") {
  auto listener = SharedMemoryListener::open();
  auto other = SharedMemoryListener::open();
  REQUIRE((listener && other));
  CHECK(listener->offer().name != other->offer().name);
  CHECK(listener->offer().secret != other->offer().secret);
  SharedMemoryOffer guessed = listener->offer();
  guessed.secret.back() ^= std::byte{1};
  auto stranger = SharedMemoryCaller::call(guessed, 1);
  auto beyond = SharedMemoryCaller::call(listener->offer(), 2);
  REQUIRE((stranger && beyond));
  SECTION("the rank has called as well") {
    auto rank = SharedMemoryCaller::call(listener->offer(), 1);
    auto again = SharedMemoryCaller::call(listener->offer(), 1);
    REQUIRE((rank && again));
    CHECK(listener->admit(2, 4096));
    CHECK(rank->receive(2, 4096, test::kPatience));
    CHECK_FALSE(again->receive(2, 4096, test::kPatience));
  }
  SECTION("the rank has not") {
    CHECK(listener->admit(2, 4096).error().code == Errc::not_found);
  }
  for (auto* caller : {&*stranger, &*beyond}) {
    const auto group = caller->receive(2, 4096, test::kPatience);
    REQUIRE_FALSE(group);
    CHECK((group.error().code == Errc::closed || group.error().code == std::errc::connection_reset));
  }
  // Nobody listens any more.
  CHECK(SharedMemoryCaller::call(listener->offer(), 1).error().code == std::errc::connection_refused);
}

TEST_CASE("a rank 0 that says nothing is not waited for longer than the limit") {
  auto listener = SharedMemoryListener::open();
  REQUIRE(listener);
  auto caller = SharedMemoryCaller::call(listener->offer(), 1);
  REQUIRE(caller);
  CHECK(caller->receive(2, 4096, 1ms).error().code == Errc::timed_out);
}

TEST_CASE("another user and another network namespace get no memory") {
  if (::geteuid() != 0) {
    WARN("skipped: only root can be somebody else");
    return;
  }
  auto listener = SharedMemoryListener::open();
  REQUIRE(listener);
  bool has_namespace = false;
  std::error_code refused;
  std::thread([&] {
    has_namespace = ::unshare(CLONE_NEWNET) == 0;  // of this thread alone
    if (!has_namespace) return;
    auto caller = SharedMemoryCaller::call(listener->offer(), 1);
    if (!caller) refused = caller.error().code;
  }).join();
  if (has_namespace) {
    CHECK(refused == std::errc::connection_refused);
  } else {
    WARN("skipped: no network namespace can be made here");
  }

  // A child that is another user by then, asks and tells what it got by its status; it does not trust root either.
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(65534) != 0) ::_exit(1);
    ::_exit(SharedMemoryCaller::call(listener->offer(), 1).error().code == Errc::unauthenticated ? 0 : 2);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);

  // Whom the caller trusts does not trust the caller: whose user listens is kept from then.
  REQUIRE(::seteuid(65534) == 0);
  auto of_user = SharedMemoryListener::open();
  REQUIRE(::seteuid(0) == 0);
  REQUIRE(of_user);
  const pid_t caller = ::fork();
  if (caller == 0) {
    if (::setuid(65534) != 0) ::_exit(1);
    ::_exit(SharedMemoryCaller::call(of_user->offer(), 1) ? 0 : 2);
  }
  REQUIRE(::waitpid(caller, &status, 0) == caller);
  CHECK(status == 0);
  CHECK(of_user->admit(2, 4096).error().code == Errc::not_found);
}

TEST_CASE("memory of another size, or of one that may change, is refused") {
  const auto memory = make_shared_memory(8192);
  REQUIRE(memory);
  CHECK(SharedMemoryMapping::of(memory->value(), 8192));
  CHECK(SharedMemoryMapping::of(memory->value(), 4096).error().code == Errc::protocol);
  CHECK(::ftruncate(memory->value(), 0) != 0);
  const UniqueFd unsealed(::memfd_create("test", MFD_CLOEXEC));
  REQUIRE(::ftruncate(unsealed.value(), 8192) == 0);
  CHECK(SharedMemoryMapping::of(unsealed.value(), 8192).error().code == Errc::protocol);
}

TEST_CASE("the memory is no program, where the kernel knows of that") {
  constexpr unsigned kNoProgram = 0x0008;  // MFD_NOEXEC_SEAL
  if (!UniqueFd(::memfd_create("test", MFD_CLOEXEC | kNoProgram))) {
    WARN("skipped: this kernel does not know MFD_NOEXEC_SEAL");
    return;
  }
  const auto memory = make_shared_memory(4096);
  REQUIRE(memory);
  struct stat status {};
  REQUIRE(::fstat(memory->value(), &status) == 0);
  CHECK((status.st_mode & 0111) == 0);
}

TEST_CASE("memory that is not to be had is an error at the start") {
  const test::FileSizeLimit limit(4096);
  const auto memory = make_shared_memory(8192);
  REQUIRE_FALSE(memory);
  CHECK(memory.error().code == std::errc::file_too_large);
}

TEST_CASE("no descriptor and no mapping stays, whoever is turned away") {
  const std::size_t before = open_descriptors();
  {
    const Groups groups = groups_of(4);
    CHECK(mappings() == 4);
    auto listener = SharedMemoryListener::open();
    REQUIRE(listener);
    const auto caller = SharedMemoryCaller::call(listener->offer(), 7);
    CHECK(caller);
    CHECK_FALSE(listener->admit(2, 4096));
  }
  CHECK(open_descriptors() == before);
  CHECK(mappings() == 0);
}

}  // namespace shared_memory_test
