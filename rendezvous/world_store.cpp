// What admitted peers ask of the store, who is woken when a key appears, and who hears of changes. A request that waits
// is held back as world_requests.cpp says.
#include <fmt/format.h>

#include <utility>

#include "rendezvous/wording.hpp"
#include "rendezvous/world_state.hpp"

namespace llmlaunch::rendezvous {

bool WorldState::lacks_pytorch(PeerId id, std::uint32_t request) {
  if (options_.pytorch) return false;
  fail(id, request,
       make_error(Errc::unsupported, "PyTorch's store is not served by this rendezvous", {},
                  "rank 0 has it where llmlaunch.rendezvous.use_agent_store is false"));
  return true;
}

// True: it has been taken care of.
template <class Request>
bool WorldState::is_for_pytorch(PeerId id, Request& message) {
  if (message.keyspace == Keyspace::native) return false;
  if (!lacks_pytorch(id, message.request)) out_.push_back(AskPyTorch{id, std::move(message)});
  return true;
}

void WorldState::on(PeerId id, Peer& peer, Set& message, TimePoint) {
  if (is_for_pytorch(id, message)) return;
  const bool existed = store_.find(message.key) != nullptr;
  if (const auto stored = store_.set(message.key, std::move(message.value), peer.hello.rank); !stored) {
    return fail(id, message.request, stored.error());
  }
  send(id, Done{message.request});
  key_was_set(message.key, existed);
}

void WorldState::on(PeerId id, Peer& peer, Get& message, TimePoint now) {
  if (const auto fits = check_key(message.key); !fits) return fail(id, message.request, fits.error());
  if (SharedBytes value = store_.find(message.key)) return send(id, Value{message.request, std::move(value)});
  const std::size_t bytes = message.key.size();
  hold(id, peer, message.request, message.timeout_ms, bytes, ForValue{std::move(message.key)}, now);
}

void WorldState::on(PeerId id, Peer& peer, Wait& message, TimePoint now) {
  ForKeys keys;
  std::size_t bytes = 0;
  for (std::string& key : message.keys) {
    if (const auto fits = check_key(key); !fits) return fail(id, message.request, fits.error());
    const bool exists = store_.find(key) != nullptr;
    const std::size_t key_bytes = key.size();
    if (!keys.exist.emplace(std::move(key), exists).second) continue;
    bytes += key_bytes;
    if (!exists) ++keys.missing;
  }
  if (keys.missing == 0) return send(id, Done{message.request});
  hold(id, peer, message.request, message.timeout_ms, bytes, std::move(keys), now);
}

void WorldState::on(PeerId id, Peer& peer, Add& message, TimePoint) {
  if (is_for_pytorch(id, message)) return;
  const bool existed = store_.find(message.key) != nullptr;
  const auto sum = store_.add(message.key, message.delta, peer.hello.rank);
  if (!sum) return fail(id, message.request, sum.error());
  send(id, Number{message.request, *sum});
  key_was_set(message.key, existed);
}

void WorldState::on(PeerId id, Peer& peer, CompareSet& message, TimePoint) {
  const bool existed = store_.find(message.key) != nullptr;
  auto compared = store_.compare_and_set(message.key, message.expected, std::move(message.value), peer.hello.rank);
  if (!compared) return fail(id, message.request, compared.error());
  const bool swapped = compared->swapped;
  send(id, Compared{message.request, swapped, swapped || compared->found, std::move(compared->found)});
  if (swapped) key_was_set(message.key, existed);
}

void WorldState::on(PeerId id, Peer& peer, Append& message, TimePoint) {
  const bool existed = store_.find(message.key) != nullptr;
  const auto size = store_.append(message.key, message.value, peer.hello.rank);
  if (!size) return fail(id, message.request, size.error());
  send(id, Number{message.request, static_cast<std::int64_t>(*size)});
  key_was_set(message.key, existed);
}

void WorldState::on(PeerId id, Peer&, Delete& message, TimePoint) {
  if (is_for_pytorch(id, message)) return;
  if (const auto fits = check_key(message.key); !fits) return fail(id, message.request, fits.error());
  const bool existed = store_.remove(message.key);
  send(id, Number{message.request, existed ? 1 : 0});
  if (existed) key_was_deleted(message.key);
}

void WorldState::on(PeerId id, Peer&, List& message, TimePoint) {
  for (const std::string* text : {&message.prefix, &message.after}) {
    if (const auto fits = check_prefix(*text); !fits) return fail(id, message.request, fits.error());
  }
  Store::Page page = store_.list(message.prefix, message.after, message.limit);
  send(id, Keys{message.request, page.more, std::move(page.keys)});
}

void WorldState::on(PeerId id, Peer&, Peek& message, TimePoint) {
  if (is_for_pytorch(id, message)) return;
  if (const auto fits = check_key(message.key); !fits) return fail(id, message.request, fits.error());
  if (SharedBytes value = store_.find(message.key)) return send(id, Value{message.request, std::move(value)});
  fail(id, message.request, make_error(Errc::not_found, fmt::format("key {} is not set", quoted(message.key))));
}

void WorldState::on(PeerId id, Peer&, Entries& message, TimePoint) {
  if (is_for_pytorch(id, message)) return;
  for (const std::string* text : {&message.prefix, &message.after}) {
    if (const auto fits = check_prefix(*text); !fits) return fail(id, message.request, fits.error());
  }
  Store::Page page = store_.list(message.prefix, message.after, message.limit);
  Sizes sizes{message.request, page.more, {}};
  for (std::string& key : page.keys) {
    const std::size_t bytes = store_.find(key)->size();
    sizes.entries.push_back({std::move(key), bytes, 0});
  }
  send(id, std::move(sizes));
}

void WorldState::on(PeerId id, Peer& peer, Watch& message, TimePoint now) {
  if (message.keyspace == Keyspace::pytorch && lacks_pytorch(id, message.request)) return;
  if (const auto fits = message.prefix ? check_prefix(message.key) : check_key(message.key); !fits) {
    return fail(id, message.request, fits.error());
  }
  const std::size_t bytes = message.key.size();
  ForChanges changes{std::move(message.key), message.prefix, message.keyspace};
  if (hold(id, peer, message.request, std::nullopt, bytes, std::move(changes), now)) send(id, Done{message.request});
}

Actions WorldState::on_slow_watcher(PeerId id, std::uint32_t request) {
  const auto peer = peers_.find(id);
  if (peer == peers_.end()) return {};
  const auto held = peer->second.open.find(request);
  if (held == peer->second.open.end()) return {};
  const Open open = take(held->second);
  const auto& watch = std::get<ForChanges>(open.subject);
  fail(id, request,
       make_error(Errc::out_of_resources,
                  fmt::format("{} reads the changes of {} {} more slowly than they are made: more than {} bytes wait",
                              name_peer(peer->second), watch.prefix ? "prefix" : "key", quoted(watch.key),
                              kMaxWatchQueuedBytes),
                  {}, "watch fewer keys, or keep smaller values in them"));
  return take_actions();
}

// Answers those who waited for the key alone or last, and tells those who watch it.
void WorldState::key_was_set(const std::string& key, bool existed) {
  const auto waiters = existed ? key_waiters_.end() : key_waiters_.find(key);
  if (waiters != key_waiters_.end()) {
    const std::vector<OpenId> woken(waiters->second.begin(), waiters->second.end());  // `take` changes the set
    for (const OpenId id : woken) {
      auto* keys = std::get_if<ForKeys>(&open_.at(id).subject);
      if (keys != nullptr) {
        keys->exist.at(key) = true;
        if (--keys->missing > 0) continue;
      }
      const bool wants_value = keys == nullptr;
      const Open open = take(id);
      if (wants_value)
        send(open.peer, Value{open.request, store_.find(key)});
      else
        send(open.peer, Done{open.request});
    }
  }
  if (!watches(Keyspace::native).empty()) tell_watchers(Keyspace::native, key, store_.find(key));
}

// Who waits for several keys waits for this one again.
void WorldState::key_was_deleted(const std::string& key) {
  if (const auto waiters = key_waiters_.find(key); waiters != key_waiters_.end()) {
    for (const OpenId id : waiters->second) {
      auto& keys = std::get<ForKeys>(open_.at(id).subject);  // a Get of a key that existed is held by nobody
      keys.exist.at(key) = false;
      ++keys.missing;
    }
  }
  tell_watchers(Keyspace::native, key, nullptr);
}

Actions WorldState::on_pytorch_change(const std::string& key, const SharedBytes& value) {
  tell_watchers(Keyspace::pytorch, key, value);
  return take_actions();
}

void WorldState::tell_watchers(Keyspace keyspace, const std::string& key, const SharedBytes& value) {
  for (const OpenId id : watches(keyspace).watchers(key)) {
    const Open& watch = open_.at(id);
    send(watch.peer, Change{watch.request, value == nullptr, key, value});
  }
}

}  // namespace llmlaunch::rendezvous
