// TCPStore: who waits for which keys. A wait is known to all its keys, and they to it, so that the coming of a key and
// the end of a wait cost what they change and no more, however many ranks wait for each other's keys.
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "rendezvous/tcpstore_state.hpp"

namespace llmlaunch::rendezvous::tcpstore {
namespace {

// Waits that are over stay in a key's list until they are more than those that go on, and this many.
constexpr std::size_t kKeptOver = 16;

}  // namespace

void State::wait(PeerId id, Peer& peer, std::vector<std::string>& keys) {
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  std::erase_if(keys, [this](const std::string& key) { return values_.contains(key); });
  // Of queues that are there it may take from the one; with several nobody could say from which.
  if (keys.size() == 1 && queues_.contains(keys[0])) peer.woken_for = keys[0];
  std::erase_if(keys, [this](const std::string& key) { return queues_.contains(key); });
  if (keys.empty()) return answer(id, answer_u8(0));
  wait_for(id, peer, keys);
}

// Who is not the last one waits for a key that is there: whatever is written to it next wakes all.
void State::barrier(PeerId id, Peer& peer, Command& command) {
  const std::string& key = command.keys[0];
  const auto count = sum_of(key, 1);
  if (!count) return hang_up(id, count.error(), true);
  if (auto stored = put(key, decimal_text(*count), Wake::nobody); !stored) return hang_up(id, stored.error(), true);
  if (*count < command.number) return wait_for(id, peer, command.keys);
  wake_all(key);
  answer(id, answer_u8(0));
}

void State::wait_for(PeerId id, Peer& peer, std::vector<std::string>& keys) {
  if (waits_held_ + keys.size() > limits_.waits) {
    return refuse(id, Errc::out_of_resources,
                  fmt::format("it waits for {} keys; with those that others wait for the limit is {}", keys.size(),
                              limits_.waits));
  }
  const WaitId number = next_wait_++;
  Wait& wait = waits_[number];
  wait.peer = id;
  wait.missing = keys.size();
  waits_held_ += keys.size();
  for (std::string& key : keys) {
    std::shared_ptr<Waiters>& waiters = waiters_[key];
    if (!waiters) waiters = std::make_shared<Waiters>();
    if (waiters->key.empty()) waiters->key = std::move(key);
    waiters->ids.push_back(number);
    ++waiters->live;
    wait.keys.push_back(waiters);
  }
  peer.wait = number;
}

// The key has come.
void State::wake_all(const std::string& key) {
  const auto node = waiters_.extract(key);
  if (node.empty()) return;
  Waiters& waiters = *node.mapped();
  waiters.served = true;
  for (const WaitId number : waiters.ids) {
    const auto found = waits_.find(number);
    if (found != waits_.end() && --found->second.missing == 0) finish_wait(number);
  }
}

// A queue has one value more: for one who waits for nothing else.
void State::wake_one(const std::string& key) {
  const auto found = waiters_.find(key);
  if (found == waiters_.end()) return;
  const std::shared_ptr<Waiters> waiters = found->second;
  while (!waiters->ids.empty()) {
    const WaitId number = waiters->ids.front();
    waiters->ids.pop_front();
    const auto waiting = waits_.find(number);
    if (waiting == waits_.end()) continue;
    Wait& wait = waiting->second;
    if (--wait.missing == 0) {
      peers_.at(wait.peer).woken_for = key;
      return finish_wait(number);
    }
    wait.keys.erase(std::find(wait.keys.begin(), wait.keys.end(), waiters));
    --waits_held_;
    if (--waiters->live == 0) break;
  }
  if (waiters->live == 0) waiters_.erase(waiters->key);
}

void State::finish_wait(WaitId number) {
  const PeerId peer = waits_.at(number).peer;
  peers_.at(peer).wait.reset();
  drop_wait(number);
  answer(peer, answer_u8(0));
}

void State::drop_wait(WaitId number) {
  const auto node = waits_.extract(number);
  assert(!node.empty());
  waits_held_ -= node.mapped().keys.size();
  for (const std::shared_ptr<Waiters>& waiters : node.mapped().keys) {
    if (waiters->served) continue;
    if (--waiters->live == 0) {
      waiters_.erase(waiters->key);
    } else if (waiters->ids.size() > 2 * waiters->live + kKeptOver) {
      std::erase_if(waiters->ids, [this](WaitId id) { return !waits_.contains(id); });
    }
  }
}

// Who was woken for a queue's value and goes, or does something else, leaves it to the next one. PyTorch's own server
// lets that one wait until another value comes.
void State::pass_on(Peer& peer, const Command* next) {
  if (!peer.woken_for) return;
  const std::string key = *std::exchange(peer.woken_for, std::nullopt);
  if (next != nullptr && next->verb == Verb::queue_pop && next->keys[0] == key) return;
  if (queues_.contains(key)) wake_one(key);
}

}  // namespace llmlaunch::rendezvous::tcpstore
