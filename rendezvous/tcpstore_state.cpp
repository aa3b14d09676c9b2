// TCPStore: who is connected, and what each command does. Who waits for what is in tcpstore_waits.cpp.
#include "rendezvous/tcpstore_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "rendezvous/base/whole_number.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous::tcpstore {
namespace {

std::optional<std::int64_t> decimal(ByteView bytes) {
  return parse_whole<std::int64_t>(as_text(bytes));
}

std::size_t cost(const std::string& key, std::size_t value_bytes) {
  return key.size() + value_bytes + kEntryOverhead;
}

}  // namespace

Bytes decimal_text(std::int64_t number) {
  const std::string text = fmt::to_string(number);
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

// --- connections ---------------------------------------------------------------------------------------------------

StoreActions State::on_connect(PeerId id, std::string address) {
  if (!ended_ && peers_.size() >= limits_.connections && !silent_.empty())
    hang_up(*silent_.begin(), make_error(Errc::out_of_resources, "others need its connection"), false);
  const bool full = peers_.size() >= limits_.connections;
  peers_[id].address = std::move(address);
  silent_.insert(id);
  if (ended_) {
    hang_up(id, make_error(Errc::generation_ended, *ended_), false);
  } else if (full) {
    refuse(id, Errc::out_of_resources, fmt::format("the store serves {} connections, its limit", limits_.connections));
  }
  return take_actions();
}

StoreActions State::on_command(PeerId id, Command command) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return {};  // closed already; its last bytes were still on the way
  Peer& peer = found->second;
  if (!peer.valid) {
    if (command.verb != Verb::validate || command.number != kMagic)
      return on_malformed(id, make_error(Errc::protocol, "its first command is no VALIDATE"));
    peer.valid = true;
    silent_.erase(id);
  } else {
    serve(id, peer, command);
  }
  return take_actions();
}

StoreActions State::on_malformed(PeerId id, const Error& error) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return {};
  Error reason = error;
  if (!found->second.valid) {
    reason.what += "; it may be a PyTorch before 2.1, which speaks another dialect";
    reason.hint = "set llmlaunch.rendezvous.use_agent_store: false, and rank 0 makes PyTorch's store itself";
  }
  hang_up(id, std::move(reason), true);
  return take_actions();
}

StoreActions State::on_late(PeerId id) {
  if (silent_.contains(id))
    hang_up(id, make_error(Errc::timed_out, fmt::format("no handshake within {}", name_duration(kHandshakeTimeout))),
            false);
  return take_actions();
}

StoreActions State::on_disconnect(PeerId id) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return {};
  Peer peer = std::move(found->second);
  peers_.erase(found);
  silent_.erase(id);
  if (peer.wait) drop_wait(*peer.wait);
  pass_on(peer, nullptr);
  return take_actions();
}

StoreActions State::end(std::string reason) {
  if (ended_) return {};
  ended_ = std::move(reason);
  StoreActions all;
  while (!peers_.empty()) {
    hang_up(peers_.begin()->first, make_error(Errc::generation_ended, *ended_), false);
    for (StoreAction& action : take_actions())
      if (std::holds_alternative<Hangup>(action)) all.push_back(std::move(action));
  }
  return all;
}

void State::hang_up(PeerId id, Error reason, bool at_fault) {
  const auto node = peers_.extract(id);
  silent_.erase(id);
  reason.where = node.mapped().address;
  out_.push_back(Hangup{id, std::move(reason), at_fault});
  if (node.mapped().wait) drop_wait(*node.mapped().wait);
  pass_on(node.mapped(), nullptr);
}

void State::answer(PeerId id, Bytes bytes, SharedBytes value) {
  out_.push_back(Answer{id, std::move(bytes), std::move(value)});
}

// --- commands ------------------------------------------------------------------------------------------------------

void State::serve(PeerId id, Peer& peer, Command& command) {
  pass_on(peer, &command);
  if (command.verb == Verb::cancel_wait) {
    if (peer.wait) drop_wait(*std::exchange(peer.wait, std::nullopt));
    return answer(id, answer_u8(1));
  }
  if (peer.wait) return refuse(id, Errc::protocol, fmt::format("{} while its WAIT is open", verb_name(command.verb)));
  switch (command.verb) {
    case Verb::validate: return refuse(id, Errc::protocol, "a second VALIDATE");
    case Verb::wait: return wait(id, peer, command.keys);
    case Verb::barrier: return barrier(id, peer, command);
    case Verb::list_keys: return list_keys(id);
    case Verb::ping: return answer(id, answer_u32(static_cast<std::uint32_t>(command.number)));
    case Verb::num_keys: return answer(id, answer_i64(static_cast<std::int64_t>(values_.size())));
    case Verb::queue_push:
    case Verb::queue_pop:
    case Verb::queue_len: return serve_queue(id, command);
    default: return serve_keys(id, command);
  }
}

void State::serve_keys(PeerId id, Command& command) {
  switch (command.verb) {
    case Verb::set: set(id, command.keys[0], std::move(command.values[0])); break;
    case Verb::compare_set: return compare_set(id, command);
    case Verb::get: return answer_value(id, command.keys[0]);
    case Verb::add: return add(id, command.keys[0], command.number);
    case Verb::append: return append(id, command.keys[0], std::move(command.values[0]));
    case Verb::delete_key: return answer(id, answer_i64(erase(command.keys[0]) ? 1 : 0));
    case Verb::check: {
      const bool all = std::all_of(command.keys.begin(), command.keys.end(),
                                   [this](const std::string& key) { return is_there(key); });
      return answer(id, answer_u8(all ? 0 : 1));
    }
    case Verb::multi_get:
      for (const std::string& key : command.keys) answer_value(id, key);
      break;
    default:  // MULTI_SET
      for (std::size_t i = 0; i < command.keys.size(); ++i)
        if (!set(id, command.keys[i], std::move(command.values[i]))) return;
  }
}

void State::serve_queue(PeerId id, Command& command) {
  const std::string& key = command.keys[0];
  const auto found = queues_.find(key);
  const std::size_t length = found == queues_.end() ? 0 : found->second.size();
  if (command.verb == Verb::queue_len) return answer(id, answer_i64(static_cast<std::int64_t>(length)));
  if (command.verb == Verb::queue_pop) {
    answer(id, answer_i64(static_cast<std::int64_t>(length)));
    if (length == 0) return;
    const Value value = std::move(found->second.front());
    found->second.pop_front();
    bytes_ -= cost(key, value->size());
    if (found->second.empty()) queues_.erase(found);
    return answer(id, answer_value_head(value->size()), value);
  }
  if (length >= limits_.queue_length)
    return refuse(id, Errc::out_of_resources,
                  fmt::format("queue {} has {} values, its limit", quoted(key), limits_.queue_length));
  Bytes& value = command.values[0];
  if (!fits(id, key, 0, cost(key, value.size()), length == 0)) return;
  queues_[key].push_back(std::make_shared<Bytes>(std::move(value)));
  wake_one(key);
}

void State::compare_set(PeerId id, Command& command) {
  const std::string& key = command.keys[0];
  Bytes& expected = command.values[0];
  const auto found = values_.find(key);
  if (found == values_.end() && !expected.empty()) {
    const Value shown = std::make_shared<Bytes>(std::move(expected));
    return answer(id, answer_value_head(shown->size()), shown);
  }
  if (found == values_.end() || *found->second == expected)
    if (!set(id, key, std::move(command.values[1]))) return;
  answer_value(id, key);
}

void State::add(PeerId id, const std::string& key, std::int64_t delta) {
  const auto sum = sum_of(key, delta);
  if (!sum) return hang_up(id, sum.error(), true);
  if (set(id, key, decimal_text(*sum))) answer(id, answer_i64(*sum));
}

Result<std::int64_t> State::sum_of(const std::string& key, std::int64_t delta) const {
  std::int64_t sum = 0;
  if (const auto found = values_.find(key); found != values_.end()) {
    const auto old = decimal(*found->second);
    if (!old)
      return make_error(Errc::invalid_argument, fmt::format("cannot add to key {}: its value {} is not a number",
                                                            quoted(key), quoted(as_text(*found->second))));
    sum = *old;
  }
  if (__builtin_add_overflow(sum, delta, &sum))
    return make_error(Errc::invalid_argument,
                      fmt::format("cannot add {} to key {}: the sum does not fit 64 bits", delta, quoted(key)));
  return sum;
}

void State::append(PeerId id, const std::string& key, Bytes value) {
  const auto found = values_.find(key);
  if (found == values_.end()) {
    set(id, key, std::move(value));
    return;
  }
  const std::size_t size = found->second->size() + value.size();
  if (size > kMaxValueBytes)
    return refuse(id, Errc::too_large,
                  fmt::format("key {} would have {} bytes; the limit is {}", quoted(key), size, kMaxValueBytes));
  if (!fits(id, key, 0, value.size(), false)) return;
  // Answers that have not left yet keep what they were.
  if (found->second.use_count() > 1) found->second = std::make_shared<Bytes>(*found->second);
  found->second->insert(found->second->end(), value.begin(), value.end());
  note_change(key, found->second);
  wake_all(key);
}

// --- keys ----------------------------------------------------------------------------------------------------------

// Otherwise the peer is gone.
bool State::set(PeerId id, const std::string& key, Bytes value) {
  const auto stored = put(key, std::move(value));
  if (!stored) hang_up(id, stored.error(), true);
  return stored.has_value();
}

Result<void> State::put(const std::string& key, Bytes value, Wake wake) {
  const auto found = values_.find(key);
  const bool fresh = found == values_.end();
  const std::size_t freed = fresh ? 0 : cost(key, found->second->size());
  const std::size_t needed = cost(key, value.size());
  if (auto fits = room(key, freed, needed, fresh); !fits) return fits;
  bytes_ += needed - freed;
  const Value stored = std::make_shared<Bytes>(std::move(value));
  if (fresh)
    values_.emplace(key, stored);
  else
    found->second = stored;
  note_change(key, stored);
  if (wake == Wake::all) wake_all(key);  // also for a key that was there: a barrier may wait for it
  return ok;
}

// Room for it, which is then taken; otherwise the peer is gone.
bool State::fits(PeerId id, const std::string& key, std::size_t freed, std::size_t needed, bool fresh) {
  const auto there_is = room(key, freed, needed, fresh);
  if (there_is)
    bytes_ += needed - freed;
  else
    hang_up(id, there_is.error(), true);
  return there_is.has_value();
}

Result<void> State::room(const std::string& key, std::size_t freed, std::size_t needed, bool fresh) const {
  if (fresh && keys() >= limits_.keys)
    return make_error(Errc::out_of_resources, fmt::format("the store holds {} keys, its limit; key {} is one too many",
                                                          limits_.keys, quoted(key)));
  const std::size_t after = bytes_ - freed + needed;
  if (after > limits_.bytes)
    return make_error(Errc::out_of_resources, fmt::format("the store would hold {} bytes with key {}; the limit is {}",
                                                          after, quoted(key), limits_.bytes));
  return ok;
}

void State::note_change(const std::string& key, const Value& value) {
  if (observed_) out_.push_back(Changed{key, value});
}

bool State::erase(const std::string& key) {
  const auto found = values_.find(key);
  if (found == values_.end()) return false;
  bytes_ -= cost(key, found->second->size());
  values_.erase(found);
  note_change(key, nullptr);
  return true;
}

bool State::is_there(const std::string& key) const {
  return values_.contains(key) || queues_.contains(key);
}

void State::list_keys(PeerId id) {
  std::size_t size = answer_i64(0).size() * (1 + values_.size());
  for (const auto& [key, value] : values_) size += key.size();
  if (size > kMaxKeyListBytes)
    return refuse(id, Errc::too_large,
                  fmt::format("the store's {} keys are {} bytes in a list; the limit is {}", values_.size(), size,
                              kMaxKeyListBytes));
  Bytes list = answer_i64(static_cast<std::int64_t>(values_.size()));
  list.reserve(size);
  for (const auto& [key, value] : values_) {
    const Bytes head = answer_value_head(key.size());
    list.insert(list.end(), head.begin(), head.end());
    const ByteView text = as_bytes(key);
    list.insert(list.end(), text.begin(), text.end());
  }
  answer(id, std::move(list));
}

void State::answer_value(PeerId id, const std::string& key) {
  const auto found = values_.find(key);
  if (found == values_.end()) return answer(id, answer_value_head(0));
  answer(id, answer_value_head(found->second->size()), found->second);
}

}  // namespace llmlaunch::rendezvous::tcpstore
