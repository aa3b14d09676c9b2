// A thread that looks at the clock, and at the store when a wait is long. All ranks make the same calls in the same
// order, so that the number of a call is the same on each; those that only start something do not count, for a step
// that a device did not take may have started less on one rank than on others.
#include "trainer/late_ranks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "trainer/agreement.hpp"

namespace llmlaunch::trainer {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Between two looks at the clock.
constexpr milliseconds kMostBetween{1000};
/// A wait that is worth a word to the store, where the limit is not short.
constexpr milliseconds kLongWait{5000};
/// Ranks that are named; of more there is the number.
constexpr std::size_t kNamed = 4;

std::string prefix_of(std::uint64_t call) {
  return fmt::format("trainer/waits/{}/", call);
}

class Waits {
 public:
  Waits(rendezvous::Client& client, std::vector<std::string> hosts, milliseconds limit)
      : client_(client),
        hosts_(std::move(hosts)),
        between_(std::clamp(limit / 20, milliseconds(1), kMostBetween)),
        long_(std::min(kLongWait, limit / 4)),
        ask_after_(limit / 10 * 9),
        thread_([this] { run(); }) {}

  ~Waits() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Waits(const Waits&) = delete;
  Waits& operator=(const Waits&) = delete;

  /// The limit of what the next call waits for runs from now.
  void start() {
    const std::lock_guard lock(mutex_);
    if (!started_) started_ = Clock::now();
  }
  void enter() {
    const std::lock_guard lock(mutex_);
    ++call_;
    waits_since_ = Clock::now();
    if (!started_) started_ = waits_since_;
  }
  /// What is known of who did not come.
  std::string leave() {
    const std::lock_guard lock(mutex_);
    waits_since_.reset();
    started_.reset();
    return std::exchange(late_, {});
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, between_, [this] { return ended_; })) {
      if (noted_ && (!waits_since_ || *noted_ != call_)) {
        const std::uint64_t old = *std::exchange(noted_, std::nullopt);
        lock.unlock();
        static_cast<void>(client_.remove(key_of(old)));  // one that stays is of a call that is over
        lock.lock();
      } else if (!noted_ && waits_since_ && Clock::now() >= *waits_since_ + long_) {
        const std::uint64_t call = call_;
        lock.unlock();
        const auto put = client_.put(key_of(call), {});
        lock.lock();
        if (!put) return;  // then nobody is named, and the limit holds all the same
        noted_ = call;
      } else if (noted_ && asked_ != *noted_ && Clock::now() >= *started_ + ask_after_) {
        asked_ = *noted_;
        lock.unlock();
        const auto late = who_is_late(asked_);
        lock.lock();
        if (waits_since_ && call_ == asked_) late_ = late;
      }
    }
  }

  std::string key_of(std::uint64_t call) const {
    return prefix_of(call) + std::to_string(number(client_.options().rank));
  }

  /// Empty: it cannot be known.
  std::string who_is_late(std::uint64_t call) const {
    const std::string prefix = prefix_of(call);
    std::set<std::string> here;
    for (std::string after;;) {
      auto page = client_.list(prefix, after);
      if (!page || page->keys.empty()) return {};
      after = page->keys.back();
      here.insert(page->keys.begin(), page->keys.end());
      if (!page->more) break;
    }
    std::vector<std::size_t> late;
    for (std::size_t rank = 0; rank < hosts_.size(); ++rank) {
      if (!here.contains(prefix + std::to_string(rank))) late.push_back(rank);
    }
    if (late.empty()) return "all ranks wait in it";
    const double seconds = std::chrono::duration<double>(ask_after_ - long_).count();
    return fmt::format("{} had not come to it within {:.3g} s", named(late), seconds);
  }

  std::string named(const std::vector<std::size_t>& ranks) const {
    std::string text = ranks.size() == 1 ? "rank " : "ranks ";
    for (std::size_t i = 0; i < std::min(ranks.size(), kNamed); ++i) {
      text += fmt::format("{}{} on {}", i == 0 ? "" : ", ", ranks[i], hosts_[ranks[i]]);
    }
    return ranks.size() > kNamed ? text + fmt::format(" and {} more", ranks.size() - kNamed) : text;
  }

  rendezvous::Client& client_;
  const std::vector<std::string> hosts_;
  const milliseconds between_, long_, ask_after_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::uint64_t call_ = 0;
  std::optional<Clock::time_point> waits_since_;  // in that call
  std::optional<Clock::time_point> started_;      // what that call, or the next one, waits for
  std::optional<std::uint64_t> noted_;            // the call that the store knows of
  std::uint64_t asked_ = 0;                       // the last call of which the others were asked
  std::string late_;
  std::thread thread_;  // last: it uses all of the above
};

class WatchedComm final : public Comm {
 public:
  WatchedComm(std::unique_ptr<Comm> comm, rendezvous::Client& client, std::vector<std::string> hosts,
              milliseconds limit)
      : comm_(std::move(comm)), waits_(client, std::move(hosts), limit) {}

  std::uint32_t rank() const override { return comm_->rank(); }
  std::uint32_t world_size() const override { return comm_->world_size(); }
  std::string description() const override { return comm_->description(); }

  Result<void> start_all_reduce_mean(std::span<float> values) override {
    waits_.start();
    return comm_->start_all_reduce_mean(values);
  }
  Result<void> join() override { return comm_->join(); }
  Result<void> wait() override {
    return watched([&] { return comm_->wait(); });
  }
  Result<void> drain() override {
    return watched([&] { return comm_->drain(); });
  }
  Result<void> broadcast(std::span<float> values) override {
    return watched([&] { return comm_->broadcast(values); });
  }
  Result<std::vector<Bytes>> all_gather(ByteView mine) override {
    return watched([&] { return comm_->all_gather(mine); });
  }
  Result<void> barrier() override {
    return watched([&] { return comm_->barrier(); });
  }
  Result<void> finish() override {
    return watched([&] { return comm_->finish(); });
  }

 private:
  template <class Function>
  std::invoke_result_t<Function> watched(Function&& function) {
    waits_.enter();
    auto result = function();
    const std::string late = waits_.leave();
    if (result || result.error().code != Errc::timed_out || late.empty()) return result;
    Error error = result.error();
    error.what += "; " + late;
    return error;
  }

  std::unique_ptr<Comm> comm_;
  Waits waits_;
};

}  // namespace

Result<std::unique_ptr<Comm>> name_late_ranks(std::unique_ptr<Comm> comm, rendezvous::Client& client,
                                              const std::string& host, milliseconds limit) {
  auto hosts = gather_texts(*comm, host);
  if (!hosts) return hosts.error();
  return std::unique_ptr<Comm>(std::make_unique<WatchedComm>(std::move(comm), client, std::move(*hosts), limit));
}

}  // namespace llmlaunch::trainer
