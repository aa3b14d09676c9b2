// What admitted peers ask for: unique ids, barriers; the store's requests are in world_store.cpp. A request that cannot
// be answered yet is held back until its answer exists, its time is up, its peer cancels or goes, or the generation
// ends; `take` is the way out of one, `fail_all_open` that of all.
#include <fmt/format.h>

#include <cassert>
#include <utility>

#include "rendezvous/wording.hpp"
#include "rendezvous/world_state.hpp"

namespace llmlaunch::rendezvous {

void WorldState::serve(PeerId id, Peer& peer, Message& message, TimePoint now) {
  if (std::holds_alternative<Leave>(message)) {
    out_.push_back(Close{id, std::nullopt});
    return remove(id, Presence::left, Error{});
  }
  if (const auto* cancel = std::get_if<Cancel>(&message)) {
    const auto held = peer.open.find(cancel->request);
    if (held == peer.open.end()) return;  // answered already
    take(held->second);
    return fail(id, cancel->request, make_error(Errc::canceled, "canceled by the client"));
  }
  if (const auto* unknown = std::get_if<Unknown>(&message)) {
    if (unknown->request == 0) return;
    return fail(
        id, unknown->request,
        make_error(Errc::unsupported, fmt::format("this rendezvous knows no request of type {}", unknown->type)));
  }
  std::visit(
      [&](auto& request) {
        if constexpr (requires { on(id, peer, request, now); }) {
          if (request.request == 0) return reject(id, make_error(Errc::protocol, "a request with number 0"));
          if (peer.open.contains(request.request)) {
            return reject(id, make_error(Errc::protocol, fmt::format("request {} is open already", request.request)));
          }
          if (!end_reason_) return on(id, peer, request, now);
          fail(id, request.request,
               make_error(Errc::generation_ended,
                          fmt::format("generation {} has ended: {}", number(options_.generation), *end_reason_)));
        } else {
          reject(id, make_error(Errc::protocol, "a message that only a server sends, or only a handshake holds"));
        }
      },
      message);
}

void WorldState::on(PeerId id, Peer& peer, PublishId& message, TimePoint) {
  if (peer.hello.rank == kNoRank) {
    return fail(id, message.request, make_error(Errc::refused, "an observer publishes no unique id: ranks do"));
  }
  if (message.index >= kMaxUniqueIds) {
    return fail(id, message.request,
                make_error(Errc::too_large,
                           fmt::format("unique id {}: the limit is {} per generation", message.index, kMaxUniqueIds)));
  }
  const auto [stored, fresh] = ids_.emplace(message.index, message.id);
  if (!fresh && stored->second != message.id) {
    return fail(id, message.request,
                make_error(Errc::refused, fmt::format("unique id {} of generation {} is published "
                                                      "already, with other bytes",
                                                      message.index, number(options_.generation))));
  }
  send(id, Done{message.request});
  while (id_waiters_.contains(message.index)) {
    const Open open = take(*id_waiters_.at(message.index).begin());
    send(open.peer, Id{open.request, message.id});
  }
}

void WorldState::on(PeerId id, Peer& peer, GetId& message, TimePoint now) {
  if (message.index >= kMaxUniqueIds) {
    return fail(id, message.request,
                make_error(Errc::too_large,
                           fmt::format("unique id {}: the limit is {} per generation", message.index, kMaxUniqueIds)));
  }
  if (const auto found = ids_.find(message.index); found != ids_.end()) {
    return send(id, Id{message.request, found->second});
  }
  if (const auto error = rootless(message.index)) return fail(id, message.request, *error);
  hold(id, peer, message.request, message.timeout_ms, 0, ForId{message.index}, now);
}

void WorldState::on(PeerId id, Peer& peer, Barrier& message, TimePoint now) {
  if (const auto fits = check_key(message.name, "barrier name"); !fits) return fail(id, message.request, fits.error());
  if (peer.hello.rank == kNoRank) {
    return fail(id, message.request, make_error(Errc::refused, "an observer enters no barrier: it is for ranks"));
  }
  if (const auto error = absence(message.name)) return fail(id, message.request, *error);
  const auto found = barriers_.find(message.name);
  const std::size_t waiting = found == barriers_.end() ? 0 : found->second.waiting.size();
  if (waiting > 0 && found->second.waiting.contains(peer.hello.rank)) {
    return fail(id, message.request,
                make_error(Errc::invalid_argument, fmt::format("rank {} already waits in barrier {}",
                                                               number(peer.hello.rank), quoted(message.name))));
  }
  if (waiting + 1 < slots_.size()) {
    const std::size_t bytes = message.name.size();
    hold(id, peer, message.request, message.timeout_ms, bytes, ForBarrier{std::move(message.name)}, now);
    return;
  }
  send(id, Done{message.request});
  while (barriers_.contains(message.name)) {
    const Open open = take(barriers_.at(message.name).waiting.begin()->second);
    send(open.peer, Done{open.request});
  }
}

// False when it may not be held: then it has been answered.
bool WorldState::hold(PeerId id, Peer& peer, std::uint32_t request, std::optional<std::uint32_t> timeout_ms,
                      std::size_t bytes, Subject subject, TimePoint now) {
  const bool hopes = peer.hello.rank != kNoRank && !std::holds_alternative<ForChanges>(subject);
  if (hopes && !ended_unjoined_.empty()) give_up_on_ended();
  std::optional<Error> error = failed_;
  if (!error && (peer.open.size() >= kMaxOpenRequests || peer.open_bytes + bytes > kMaxOpenRequestBytes)) {
    error = make_error(
        Errc::out_of_resources,
        fmt::format("{} has {} requests with {} bytes of keys waiting; the limits are {} and {}", name_peer(peer),
                    peer.open.size(), peer.open_bytes, kMaxOpenRequests, kMaxOpenRequestBytes));
  }
  if (error) {
    fail(id, request, *error);
    return false;
  }
  const OpenId open_id = next_open_++;
  Open open;
  open.peer = id;
  open.request = request;
  open.rank = peer.hello.rank;
  open.timeout = std::chrono::milliseconds(timeout_ms.value_or(0));
  if (timeout_ms) open.deadline = now + open.timeout;
  open.bytes = bytes;
  if (const auto* unique_id = std::get_if<ForId>(&subject)) id_waiters_[unique_id->index].insert(open_id);
  if (const auto* value = std::get_if<ForValue>(&subject)) key_waiters_[value->key].insert(open_id);
  if (const auto* keys = std::get_if<ForKeys>(&subject)) {
    for (const auto& [key, exists] : keys->exist) key_waiters_[key].insert(open_id);
  }
  if (const auto* barrier = std::get_if<ForBarrier>(&subject)) {
    OpenBarrier& entered = barriers_[barrier->name];
    entered.waiting.emplace(open.rank, open_id);
    entered.arrived.insert(open.rank);
  }
  if (const auto* changes = std::get_if<ForChanges>(&subject))
    watches(changes->keyspace).add(open_id, changes->key, changes->prefix);
  open.subject = std::move(subject);
  peer.open.emplace(request, open_id);
  peer.open_bytes += bytes;
  if (open.deadline) deadlines_.emplace(*open.deadline, open_id);
  open_.emplace(open_id, std::move(open));
  return true;
}

// Takes a held request out of every index. Whoever takes it answers it.
WorldState::Open WorldState::take(OpenId id) {
  const auto node = open_.extract(id);
  assert(!node.empty());
  Open open = std::move(node.mapped());
  if (open.deadline) deadlines_.erase({*open.deadline, id});
  if (const auto peer = peers_.find(open.peer); peer != peers_.end()) {
    peer->second.open.erase(open.request);
    peer->second.open_bytes -= open.bytes;
  }
  const auto drop = [id](auto& index, const auto& key) {
    const auto found = index.find(key);
    if (found == index.end()) return;
    found->second.erase(id);
    if (found->second.empty()) index.erase(found);
  };
  if (const auto* unique_id = std::get_if<ForId>(&open.subject)) drop(id_waiters_, unique_id->index);
  if (const auto* value = std::get_if<ForValue>(&open.subject)) drop(key_waiters_, value->key);
  if (const auto* keys = std::get_if<ForKeys>(&open.subject)) {
    for (const auto& [key, exists] : keys->exist) drop(key_waiters_, key);
  }
  if (const auto* barrier = std::get_if<ForBarrier>(&open.subject)) {
    const auto found = barriers_.find(barrier->name);
    found->second.waiting.erase(open.rank);
    if (found->second.waiting.empty()) barriers_.erase(found);
  }
  if (const auto* changes = std::get_if<ForChanges>(&open.subject))
    watches(changes->keyspace).remove(id, changes->key, changes->prefix);
  return open;
}

// A rank has gone: barriers wait for all ranks, and unique id 0 comes from rank 0.
void WorldState::fail_hopes_on(Rank rank) {
  while (!barriers_.empty()) {
    const std::string name = barriers_.begin()->first;
    const Error error = *absence(name);
    while (barriers_.contains(name)) {
      const Open open = take(barriers_.at(name).waiting.begin()->second);
      fail(open.peer, open.request, error);
    }
  }
  while (rank == Rank{0} && id_waiters_.contains(0)) {
    const Open open = take(*id_waiters_.at(0).begin());
    fail(open.peer, open.request, *rootless(0));
  }
}

// The other way out, for all at once: ten thousand ranks wait for their end, and each index is emptied faster than each
// request is taken out of it.
void WorldState::fail_all_open(const Error& error) {
  const auto all = std::exchange(open_, {});
  deadlines_.clear();
  id_waiters_.clear();
  key_waiters_.clear();
  barriers_.clear();
  for (auto& of_keyspace : watches_) of_keyspace = {};
  for (auto& [id, peer] : peers_) {
    peer.open.clear();
    peer.open_bytes = 0;
  }
  out_.reserve(out_.size() + all.size() + peers_.size());
  for (const auto& [id, open] : all) fail(open.peer, open.request, error);
}

std::optional<Error> WorldState::absence(const std::string& barrier) const {
  if (gone_ == 0) return std::nullopt;
  std::vector<Rank> lost;
  std::vector<Rank> left;
  for (std::uint32_t rank = 0; rank < slots_.size(); ++rank) {
    if (slots_[rank].presence == Presence::lost) lost.push_back(Rank{rank});
    if (slots_[rank].presence == Presence::left) left.push_back(Rank{rank});
  }
  const std::string who = lost.empty()
                              ? name_ranks(left, options_.hosts) + (left.size() == 1 ? " has" : " have") + " left"
                              : name_ranks(lost, options_.hosts) + " lost the connection";
  return make_error(Errc::closed, fmt::format("barrier {} cannot complete: {}", quoted(barrier), who));
}

std::optional<Error> WorldState::rootless(std::uint32_t index) const {
  const Presence root = slots_[0].presence;
  if (index != 0 || (root != Presence::lost && root != Presence::left)) return std::nullopt;
  return make_error(Errc::closed,
                    fmt::format("{} {} before it published unique id 0", name_rank(Rank{0}, served_host(Rank{0})),
                                root == Presence::lost ? "lost the connection" : "left"));
}

// Of a barrier in which the time of somebody has passed. Who waited is not to blame, also when it went before the
// others.
std::string WorldState::who_is_late(const OpenBarrier& barrier) const {
  std::vector<Rank> late, gave_up;
  for (std::uint32_t rank = 0; rank < slots_.size(); ++rank) {
    if (!barrier.arrived.contains(Rank{rank}))
      late.push_back(Rank{rank});
    else if (!barrier.waiting.contains(Rank{rank}))
      gave_up.push_back(Rank{rank});
  }
  if (!late.empty()) return name_ranks(late, options_.hosts) + " did not arrive";
  return name_ranks(gave_up, options_.hosts) + " had waited and gone when the last rank arrived";
}

Error WorldState::timeout_error(const Open& open, TimeoutWords& words) const {
  const std::string within = name_duration(open.timeout);
  std::string what;
  if (const auto* unique_id = std::get_if<ForId>(&open.subject)) {
    what = fmt::format("unique id {} was not published within {}", unique_id->index, within);
  } else if (const auto* value = std::get_if<ForValue>(&open.subject)) {
    what = fmt::format("key {} was not set within {}", quoted(value->key), within);
  } else if (const auto* keys = std::get_if<ForKeys>(&open.subject)) {
    constexpr std::size_t kNamedKeys = 4;
    std::string named;
    std::size_t count = 0;
    for (const auto& [key, exists] : keys->exist) {
      if (exists) continue;
      if (count++ == kNamedKeys) break;
      named += (named.empty() ? "" : ", ") + quoted(key);
    }
    const std::size_t all = keys->missing;
    if (all > kNamedKeys) named += fmt::format(" and {} more", all - kNamedKeys);
    what =
        fmt::format("{} {} {} not set within {}", all == 1 ? "key" : "keys", named, all == 1 ? "was" : "were", within);
  } else if (const auto* barrier = std::get_if<ForBarrier>(&open.subject)) {
    const auto [late, fresh] = words.barriers.try_emplace(barrier->name);
    if (fresh) late->second = who_is_late(barriers_.at(barrier->name));
    what = fmt::format("barrier {} was not complete within {}: {}", quoted(barrier->name), within, late->second);
  }
  if (!words.unjoined) {
    const auto missing = missing_ranks();
    words.unjoined = missing.empty() ? std::string()
                                     : fmt::format("; {} {} not joined", name_ranks(missing, options_.hosts),
                                                   missing.size() == 1 ? "has" : "have");
  }
  what += *words.unjoined;
  return make_error(Errc::timed_out, std::move(what));
}

void WorldState::fail(PeerId id, std::uint32_t request, const Error& error) {
  const bool ours = error.code.category() == error_category();
  send(id, Failure{request, ours ? static_cast<Errc>(error.code.value()) : Errc::internal, error.what, error.hint});
}

}  // namespace llmlaunch::rendezvous
