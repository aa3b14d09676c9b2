// A ring of batches between threads that fill it and the training loop that empties it. All state is behind one lock,
// which no thread of the loader holds while it fills a batch; without such threads nobody else wants it.
#include "trainer/batch_loader.hpp"

#include <fmt/format.h>

#include <new>
#include <system_error>
#include <utility>

#include "rendezvous/base/thread_limits.hpp"

namespace llmlaunch::trainer {
namespace {

Result<void> fill_without_exceptions(const BatchLoader::Fill& fill, std::uint64_t index, FilledBatch& into) {
  try {
    return fill(index, into);
  } catch (const std::bad_alloc&) {
    return make_error(Errc::out_of_resources, "no memory for a batch of images", {},
                      "use a smaller --per_device_train_batch_size or fewer --dataloader_num_workers");
  }
}

}  // namespace

Result<std::unique_ptr<BatchLoader>> BatchLoader::make(std::uint32_t workers) {
  std::unique_ptr<BatchLoader> loader(new BatchLoader(workers));
  try {
    while (loader->threads_.size() < workers) loader->threads_.emplace_back([raw = loader.get()] { raw->work(); });
  } catch (const std::system_error& e) {
    return make_error(Errc::out_of_resources,
                      fmt::format("--dataloader_num_workers: thread {} of {} cannot be started: {}",
                                  loader->threads_.size() + 1, workers, e.what()),
                      {}, fmt::format("use fewer, or {}", kSeeThreadLimits));
  }
  return loader;
}

BatchLoader::~BatchLoader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void BatchLoader::begin(std::uint64_t first, std::uint64_t last, Fill fill) {
  std::unique_lock lock(mutex_);
  last_ = to_fill_;  // no more of the earlier ones
  changed_.wait(lock, [&] { return filling_ == 0; });
  fill_ = std::move(fill);
  to_fill_ = first;
  taken_ = first;
  last_ = last;
  lock.unlock();
  changed_.notify_all();
}

Result<const FilledBatch*> BatchLoader::next() {
  std::unique_lock lock(mutex_);
  if (taken_ >= last_) return make_error(Errc::internal, fmt::format("no batch {}", taken_));
  Slot& slot = slots_[taken_ % slots_.size()];
  if (threads_.empty()) {
    slot.filled = fill_without_exceptions(fill_, taken_, slot.batch);
  } else {
    changed_.wait(lock, [&] { return taken_ < to_fill_ && slot.filled; });
  }
  ++taken_;
  lock.unlock();
  changed_.notify_all();
  if (!*slot.filled) return slot.filled->error();
  return &slot.batch;
}

void BatchLoader::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || may_fill(); });
    if (stopping_) return;
    const std::uint64_t index = to_fill_++;
    Slot& slot = slots_[index % slots_.size()];
    slot.filled.reset();
    ++filling_;
    lock.unlock();
    auto filled = fill_without_exceptions(fill_, index, slot.batch);
    lock.lock();
    slot.filled = std::move(filled);
    --filling_;
    changed_.notify_all();
  }
}

}  // namespace llmlaunch::trainer
