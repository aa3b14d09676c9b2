// The thread and the store of `WaitWatch`, and the communicator that tells it of its calls.
#include "trainer/late_ranks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "rendezvous/base/whole_number.hpp"
#include "trainer/agreement.hpp"
#include "trainer/wait_watch.hpp"

namespace llmlaunch::trainer {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kWaits = "trainer/waits/";

std::string answer_key(std::uint64_t call) {
  return fmt::format("trainer/late/{}", call);
}

/// A key whose text is no number is not of this program.
std::optional<WaitWatch::Waiter> waiter_in(std::string_view key) {
  const std::string_view text = key.substr(std::min(kWaits.size(), key.size()));
  const std::size_t slash = std::min(text.find('/'), text.size());
  const auto rank = parse_whole<std::uint64_t>(text.substr(0, slash));
  const auto call = parse_whole<std::uint64_t>(text.substr(std::min(slash + 1, text.size())));
  if (!rank || !call) return std::nullopt;
  return WaitWatch::Waiter{.rank = *rank, .call = *call};
}

Result<std::vector<WaitWatch::Waiter>> who_waits(rendezvous::Client& client) {
  std::vector<WaitWatch::Waiter> waiters;
  std::string last;
  for (bool more = true; more;) {
    const auto page = client.list(kWaits, last);
    if (!page) return page.error();
    for (const std::string& key : page->keys) {
      if (const auto waiter = waiter_in(key)) waiters.push_back(*waiter);
    }
    more = page->more && !page->keys.empty();
    if (more) last = page->keys.back();
  }
  return waiters;
}

class WatchThread {
 public:
  WatchThread(rendezvous::Client& client, std::vector<std::string> hosts, milliseconds limit)
      : client_(client), watch_(number(client.options().rank), std::move(hosts), limit), thread_([this] { run(); }) {}

  ~WatchThread() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  WatchThread(const WatchThread&) = delete;
  WatchThread& operator=(const WatchThread&) = delete;

  void start() {
    const std::lock_guard lock(mutex_);
    watch_.on_start(now());
  }
  void enter() {
    const std::lock_guard lock(mutex_);
    watch_.on_enter(now());
  }
  std::string leave() {
    const std::lock_guard lock(mutex_);
    return watch_.on_leave();
  }

 private:
  std::string waits_key(std::uint64_t call) const {
    return fmt::format("{}{}/{}", kWaits, number(client_.options().rank), call);
  }

  using Lock = std::unique_lock<std::mutex>;

  static WaitWatch::Time now() { return std::chrono::steady_clock::now(); }

  void run() {
    Lock lock(mutex_);
    while (!watch_.is_useless() && !changed_.wait_for(lock, watch_.tick(), [this] { return ended_; })) {
      while (std::visit([&](const auto& action) { return take(lock, action); }, watch_.on_tick(now()))) {
      }
    }
  }

  /// The store may take its time.
  template <class Request>
  static std::invoke_result_t<Request> unlocked(Lock& lock, Request&& request) {
    lock.unlock();
    auto answer = request();
    lock.lock();
    return answer;
  }

  // Each gives what the outcome gives.
  static bool take(Lock&, WaitWatch::Rest) { return false; }
  bool take(Lock& lock, const WaitWatch::Note& note) {
    const auto noted = unlocked(lock, [&] { return client_.put(waits_key(note.call), {}); });
    return watch_.on_noted(note.call, noted, now());
  }
  bool take(Lock& lock, const WaitWatch::Hear& hear) {
    const auto compared =
        unlocked(lock, [&] { return client_.compare_and_set(answer_key(hear.call), std::nullopt, {}); });
    if (!compared) return watch_.on_heard(compared.error());
    return watch_.on_heard(WaitWatch::Heard{.created = compared->swapped,
                                            .answer = std::string(compared->found ? as_text(*compared->found) : "")});
  }
  bool take(Lock& lock, WaitWatch::Ask) {
    return watch_.on_asked(unlocked(lock, [&] { return who_waits(client_); }));
  }
  bool take(Lock& lock, const WaitWatch::Tell& tell) {
    return watch_.on_told(unlocked(lock, [&] { return client_.put(answer_key(tell.call), as_bytes(tell.answer)); }));
  }
  /// What stays because the store does not answer names nobody who is not late.
  bool take(Lock& lock, const WaitWatch::Forget& forget) {
    unlocked(lock, [&] {
      static_cast<void>(client_.remove(waits_key(forget.call)));
      if (forget.answer) static_cast<void>(client_.remove(answer_key(forget.call)));
      return ok;
    });
    return true;
  }

  rendezvous::Client& client_;
  WaitWatch watch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
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
  Result<void> join() override {
    if (!comm_->join_waits()) return comm_->join();
    return watched([&] { return comm_->join(); });
  }
  bool join_waits() const override { return comm_->join_waits(); }
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
  WatchThread waits_;
};

}  // namespace

Result<std::unique_ptr<Comm>> name_late_ranks(std::unique_ptr<Comm> comm, rendezvous::Client& client,
                                              const std::string& host, milliseconds limit) {
  auto hosts = gather_texts(*comm, host);
  if (!hosts) return hosts.error();
  return std::unique_ptr<Comm>(std::make_unique<WatchedComm>(std::move(comm), client, std::move(*hosts), limit));
}

}  // namespace llmlaunch::trainer
