// Watches of a client: changes wait in a queue of their own until somebody takes them, so that nobody who is slow keeps
// the reading thread from the answers that others wait for.
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "rendezvous/client.hpp"
#include "rendezvous/client_impl.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
namespace {

std::size_t change_bytes(const Change& change) {
  return change.key.size() + (change.value ? change.value->size() : 0);
}

}  // namespace

// --- the link's part --------------------------------------------------------------------------------------------------

Result<std::uint32_t> ClientLink::watch(Watch request, Changes& changes, const std::string& subject) {
  Call call;
  const Result<std::uint32_t> number = begin(call, &changes);
  if (!number) return number.error();
  request.request = *number;
  const auto answer = answer_to(call, *number, Message(std::move(request)), options_.timeout, subject);
  if (answer) return *number;
  const std::scoped_lock lock(mutex_);
  watches_.erase(*number);
  return answer.error();
}

void ClientLink::unwatch(std::uint32_t number, const Changes& changes) {
  {
    const std::scoped_lock lock(mutex_);
    watches_.erase(number);
    if (!changes.known_to_server || end_reason_ || leaving_) return;
  }
  const auto deadline = std::chrono::steady_clock::now() + options_.timeout;
  if (auto sent = send(Cancel{number}, deadline); !sent) end(sent.error());
}

// Whether the message belongs to a watch. The mutex is held.
bool ClientLink::keep_change(Message& message) {
  if (auto* change = std::get_if<Change>(&message)) {
    const auto found = watches_.find(change->request);
    if (found == watches_.end() || found->second->end || leaving_) return true;  // given up; some were on the way
    Changes& changes = *found->second;
    const std::size_t bytes = change_bytes(*change);
    if (changes.bytes + bytes > kMaxWatchQueuedBytes) {
      changes.end = make_error(Errc::out_of_resources,
                               fmt::format("changes are taken more slowly than they are made: more than {} bytes wait",
                                           kMaxWatchQueuedBytes),
                               where_of(options_), "watch fewer keys, or keep smaller values in them");
    } else {
      changes.bytes += bytes;
      changes.queue.push_back(std::move(*change));
    }
    tell(changes);
    return true;
  }
  const auto* failure = std::get_if<Failure>(&message);
  if (failure == nullptr || calls_.contains(failure->request)) return false;
  const auto found = watches_.find(failure->request);
  if (found == watches_.end()) return false;
  if (!found->second->end) found->second->end = error_of(*failure, options_);
  found->second->known_to_server = false;
  tell(*found->second);
  return true;
}

Result<Change> ClientLink::next_change(Changes& changes, std::chrono::milliseconds timeout,
                                       const std::string& subject) {
  std::unique_lock lock(mutex_);
  const auto over = [&] { return is_over(changes); };
  changes.news.wait_for(lock, bounded(timeout), [&] { return !changes.queue.empty() || over(); });
  if (!changes.queue.empty()) {
    Change change = std::move(changes.queue.front());
    changes.queue.pop_front();
    changes.bytes -= change_bytes(change);
    show_state(changes);
    return change;
  }
  show_state(changes);
  if (changes.end) return *changes.end;
  if (end_reason_) return *end_reason_;
  if (leaving_) return make_error(Errc::closed, "the client that watched has left", where_of(options_));
  return make_error(Errc::timed_out, fmt::format("no change of {} within {}", subject, name_duration(timeout)),
                    where_of(options_));
}

// Something has come, or the watch has ended. The mutex is held.
void ClientLink::tell(Changes& changes) {
  changes.news.notify_all();
  show_state(changes);
}

// Makes the descriptor readable when `next_change` would not wait, and else not. The mutex is held. It is in the hands
// of another program, whose event loop may have read it empty: it is raised anew each time, and may be down already.
// One that is no eventfd any more (closed there, and another's since then) ends the watch.
void ClientLink::show_state(Changes& changes) {
  const bool wanted = !changes.queue.empty() || is_over(changes);
  if (changes.descriptor < 0 || (!wanted && !changes.raised)) return;
  std::uint64_t count = 1;
  const ssize_t moved =
      wanted ? ::write(changes.descriptor, &count, sizeof count) : ::read(changes.descriptor, &count, sizeof count);
  const int refusal = moved == sizeof count ? 0 : moved < 0 ? errno : EIO;
  changes.raised = wanted;
  if (refusal == 0 || refusal == EAGAIN || changes.end) return;
  changes.end = system_error(refusal, fmt::format("{} the watch's descriptor", wanted ? "raising" : "lowering"),
                             where_of(options_), "it belongs to the watch: whoever asked for it does not close it");
}

Result<int> ClientLink::descriptor_of(Changes& changes) {
  const std::scoped_lock lock(mutex_);
  if (changes.descriptor < 0) {
    changes.descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (changes.descriptor < 0) return system_error(errno, "eventfd");
    show_state(changes);
  }
  return changes.descriptor;
}

// --- the caller's part ------------------------------------------------------------------------------------------------

struct Watcher::Impl {
  std::shared_ptr<ClientLink> link;
  std::string subject;
  ClientLink::Changes changes;
  std::uint32_t number = 0;
};

Watcher::Watcher(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Watcher::~Watcher() {
  if (impl_->number != 0) impl_->link->unwatch(impl_->number, impl_->changes);
  if (impl_->changes.descriptor >= 0) ::close(impl_->changes.descriptor);
}

Result<KeyChange> Watcher::next(std::chrono::milliseconds timeout) {
  auto change = impl_->link->next_change(impl_->changes, timeout, impl_->subject);
  if (!change) return change.error();
  KeyChange seen{std::move(change->key), std::nullopt};
  if (!change->deleted) seen.value = change->value ? *change->value : Bytes();
  return seen;
}

Result<int> Watcher::descriptor() {
  return impl_->link->descriptor_of(impl_->changes);
}

Result<std::unique_ptr<Watcher>> Client::start_watch(std::string_view key, bool prefix, Keyspace keyspace) {
  if (auto known = impl_->knows(keyspace); !known) return known.error();
  if (auto known = impl_->needs_minor(1, "watch"); !known) return known.error();
  auto watched = std::make_unique<Watcher::Impl>();
  watched->link = impl_;
  watched->subject = fmt::format("{} {}", prefix ? "prefix" : "key", quoted(key));
  Watch request;
  request.prefix = prefix;
  request.key = key;
  request.keyspace = keyspace;
  const auto number = impl_->watch(std::move(request), watched->changes, "the watch of " + watched->subject);
  if (!number) return number.error();
  watched->number = *number;
  return std::unique_ptr<Watcher>(new Watcher(std::move(watched)));
}

Result<std::unique_ptr<Watcher>> Client::watch(std::string_view key, Keyspace keyspace) {
  if (auto fits = check_key(key); !fits) return fits.error();
  return start_watch(key, false, keyspace);
}

Result<std::unique_ptr<Watcher>> Client::watch_prefix(std::string_view prefix, Keyspace keyspace) {
  if (auto fits = check_prefix(prefix); !fits) return fits.error();
  return start_watch(prefix, true, keyspace);
}

}  // namespace llmlaunch::rendezvous
