// Batches by threads: the same ones in the same order as without, never more ahead than said, errors in their place.
#include "trainer/batch_loader.hpp"

#include <atomic>
#include <memory>

#include "tests/support/catch.hpp"

namespace trainer_batch_loader_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

std::unique_ptr<BatchLoader> loader_of(std::uint32_t workers) {
  auto loader = BatchLoader::make(workers);
  REQUIRE(loader);
  return std::move(*loader);
}

/// Batch i is one image with the values i.
Result<void> numbered(std::uint64_t index, FilledBatch& into) {
  into.images.assign(784, static_cast<float>(index));
  into.labels.assign(1, static_cast<std::uint8_t>(index));
  return ok;
}

float next_of(BatchLoader& loader) {
  const auto batch = loader.next();
  REQUIRE(batch);
  REQUIRE((*batch)->images.size() == 784);
  CHECK((*batch)->images.front() == (*batch)->images.back());
  return (*batch)->images.front();
}

/// A door that fills wait at until it is opened, and that counts who is at it.
class Door {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait_for(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

}  // namespace

TEST_CASE("with and without threads, all batches come in their order, epoch after epoch") {
  for (const std::uint32_t workers : {0U, 1U, 3U}) {
    CAPTURE(workers);
    const auto loader = loader_of(workers);
    for (const std::uint64_t first : {0U, 7U, 2U}) {
      loader->begin(first, 40, numbered);
      for (std::uint64_t i = first; i < 40; ++i) REQUIRE(next_of(*loader) == static_cast<float>(i));
      const auto after = loader->next();
      REQUIRE_FALSE(after);
      CHECK(after.error().what == "no batch 40");
    }
  }
}

TEST_CASE("without threads a batch is filled when it is asked for") {
  const auto loader = loader_of(0);
  std::uint64_t filled = 0;
  loader->begin(0, 9, [&](std::uint64_t index, FilledBatch& into) {
    ++filled;
    return numbered(index, into);
  });
  CHECK(filled == 0);
  next_of(*loader);
  next_of(*loader);
  CHECK(filled == 2);
}

TEST_CASE("threads fill at once, at most two batches each beside the one in use") {
  constexpr std::uint32_t kWorkers = 3;
  const auto loader = loader_of(kWorkers);
  Door door;
  std::atomic<std::uint64_t> begun = 0;
  std::atomic<std::uint64_t> furthest = 0;
  loader->begin(0, 100, [&](std::uint64_t index, FilledBatch& into) {
    ++begun;
    if (index < kWorkers) door.pass();
    for (std::uint64_t seen = furthest; seen < index && !furthest.compare_exchange_weak(seen, index);) {
    }
    return numbered(index, into);
  });
  door.wait_for(kWorkers);  // each thread has one: they work at once
  CHECK(begun == kWorkers);
  door.open();
  for (std::uint64_t i = 0; i < 100; ++i) {
    REQUIRE(next_of(*loader) == static_cast<float>(i));
    CHECK(furthest <= i + kBatchesAhead * kWorkers);
  }
  CHECK(begun == 100);
}

TEST_CASE("the batch in use is not written over while others are filled") {
  const auto loader = loader_of(2);
  Door door;
  std::atomic<int> filled = 0;
  loader->begin(0, 50, [&](std::uint64_t index, FilledBatch& into) {
    const auto done = numbered(index, into);
    if (++filled == 5) door.pass();
    return done;
  });
  const auto batch = loader->next();
  REQUIRE(batch);
  // Four ahead of it: the fifth fill stands at the door, and there will be no sixth before the next call.
  door.wait_for(1);
  for (const float value : (*batch)->images) REQUIRE(value == 0);
  door.open();
  CHECK(next_of(*loader) == 1);
}

TEST_CASE("an error comes in its place, after the batches before it") {
  for (const std::uint32_t workers : {0U, 2U}) {
    const auto loader = loader_of(workers);
    loader->begin(0, 9, [](std::uint64_t index, FilledBatch& into) -> Result<void> {
      if (index == 3) return make_error(Errc::invalid_config, "image 99 is damaged");
      if (index == 5) throw std::bad_alloc();
      return numbered(index, into);
    });
    for (const float expected : {0.0F, 1.0F, 2.0F}) CHECK(next_of(*loader) == expected);
    const auto failed = loader->next();
    REQUIRE_FALSE(failed);
    CHECK(failed.error().what == "image 99 is damaged");
    CHECK(next_of(*loader) == 4);
    const auto no_memory = loader->next();
    REQUIRE_FALSE(no_memory);
    CHECK(no_memory.error().code == Errc::out_of_resources);
    CHECK(no_memory.error().what == "no memory for a batch of images");
  }
}

TEST_CASE("a new list drops what is left of the old one, and the end waits for nobody but those at work") {
  const auto loader = loader_of(2);
  const auto owned = std::make_shared<int>(1);
  loader->begin(0, 1'000'000, [owned](std::uint64_t index, FilledBatch& into) { return numbered(index, into); });
  CHECK(next_of(*loader) == 0);
  loader->begin(500, 502, numbered);
  CHECK(owned.use_count() == 1);  // nobody fills for the old list any more
  CHECK(next_of(*loader) == 500);
  CHECK(next_of(*loader) == 501);
  loader->begin(0, 1'000'000, numbered);
  // and is destroyed in the middle of it
}

}  // namespace trainer_batch_loader_test
