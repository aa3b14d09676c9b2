// What people ask of a running job's store, over the native client.
#include "launcher/store_view.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "launcher/store_text.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/own_addresses.hpp"

namespace llmlaunch::launcher {
namespace {

using rendezvous::Client;
using rendezvous::Keyspace;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// To join: the head answers at once, unless it is stopped or drowned in work.
constexpr milliseconds kObserverJoin{5'000};
// For any answer.
constexpr milliseconds kObserverPatience{30'000};

// Until one is readable, or the deadline. False: the deadline.
Result<bool> wait_for_any(const std::vector<StoreView::Watch>& watches, steady_clock::time_point deadline) {
  std::vector<pollfd> waiting;
  for (const auto& watch : watches) waiting.push_back({watch.descriptor, POLLIN, 0});
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    if (left.count() <= 0) return false;
    constexpr milliseconds kLongestPoll{60'000};
    const int ready = ::poll(waiting.data(), waiting.size(), static_cast<int>(std::min(left, kLongestPoll).count()));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return system_error(errno, "poll");
  }
}

}  // namespace

std::vector<Keyspace> keyspaces(KeyspaceChoice where) {
  std::vector<Keyspace> chosen;
  if (where.native) chosen.push_back(Keyspace::native);
  if (where.pytorch) chosen.push_back(Keyspace::pytorch);
  return chosen;
}

bool is_absent_store(const Error& error, Keyspace keyspace, KeyspaceChoice where) {
  return keyspace == Keyspace::pytorch && where.native && error.code == Errc::unsupported;
}

Result<StoreView> StoreView::open(const RunningJob& job) {
  rendezvous::ClientOptions options;
  options.address = job.pass.address;
  options.port = job.pass.port;
  options.job_id = job.pass.job_id;
  options.generation = job.pass.generation;
  options.token = job.pass.token;
  options.host = "llmlaunch store on " + own_host_name();
  options.observer = true;
  options.timeout = kObserverPatience;
  options.join_timeout = kObserverJoin;
  auto client = Client::join(options);
  if (client) return StoreView(std::move(*client));
  Error error = client.error();
  const RunState state = run_state(job.directory);
  const bool silent = error.code == Errc::timed_out || error.code == Errc::unreachable;
  if (state == RunState::serves && !silent) return error;
  if (state == RunState::serves) {
    error.hint = fmt::format("llmlaunch of job {} is process {} on {}; is it stopped (Ctrl-Z)?", job.pass.job_id,
                             job.pass.pid, job.pass.head);
    return error;
  }
  return make_error(Errc::unreachable,
                    fmt::format("job {} {} meanwhile", job.pass.job_id, state == RunState::died ? "died" : "ended"));
}

Result<std::optional<FoundValue>> StoreView::look(const std::string& key, KeyspaceChoice where) {
  for (const Keyspace keyspace : keyspaces(where)) {
    auto value = client_->peek(key, keyspace);
    if (!value && is_absent_store(value.error(), keyspace, where)) continue;
    if (!value) return value.error();
    if (*value) return std::optional<FoundValue>(FoundValue{keyspace, std::move(**value)});
  }
  return std::optional<FoundValue>();
}

// Watches first and looks then, so that a key which comes in between is seen.
Result<std::optional<FoundValue>> StoreView::await(const std::string& key, KeyspaceChoice where,
                                                   steady_clock::time_point deadline) {
  auto watches = watch(key, false, where);
  if (!watches) return watches.error();
  auto found = look(key, where);
  if (!found || *found) return found;
  log_debug("waiting for key '{}' of job {}", one_line(key), client_->options().job_id);
  while (true) {
    const auto news = wait_for_any(*watches, deadline);
    if (!news) return news.error();
    if (!*news) return look(key, where);  // a queue tells of no value, and is named now
    for (const Watch& one : *watches) {
      auto change = one.watcher->next(milliseconds(0));
      if (!change && change.error().code == Errc::timed_out) continue;
      if (!change) return change.error();
      if (change->value) return std::optional<FoundValue>(FoundValue{one.keyspace, std::move(*change->value)});
    }
  }
}

Result<std::vector<ListedKey>> StoreView::list(const std::string& prefix, KeyspaceChoice where) {
  std::vector<ListedKey> listed;
  for (const Keyspace keyspace : keyspaces(where)) {
    std::string after;
    bool more = true;
    while (more) {
      auto page = client_->entries(prefix, after, keyspace);
      if (!page && is_absent_store(page.error(), keyspace, where)) break;
      if (!page) return page.error();
      more = page->more && !page->entries.empty();
      if (more) after = page->entries.back().key;
      for (auto& entry : page->entries) listed.push_back({keyspace, std::move(entry)});
    }
  }
  return listed;
}

Result<std::vector<StoreView::Watch>> StoreView::watch(const std::string& text, bool prefix, KeyspaceChoice where) {
  std::vector<Watch> watches;
  for (const Keyspace keyspace : keyspaces(where)) {
    auto watcher = prefix ? client_->watch_prefix(text, keyspace) : client_->watch(text, keyspace);
    if (!watcher && is_absent_store(watcher.error(), keyspace, where)) continue;
    if (!watcher) return watcher.error();
    const auto descriptor = (*watcher)->descriptor();
    if (!descriptor) return descriptor.error();
    watches.push_back({keyspace, std::move(*watcher), *descriptor});
  }
  return watches;
}

}  // namespace llmlaunch::launcher
