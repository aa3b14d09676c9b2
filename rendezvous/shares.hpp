/// \file
/// Who holds how much of what is limited for all, so that one who takes without end cannot keep others from a little.
/// Pure; used by `Store`, private to this directory.
#pragma once

#include <cassert>
#include <cstddef>
#include <unordered_map>

#include "rendezvous/message.hpp"

namespace llmlaunch::rendezvous {

/// Half of the limit is common, first come first served. The other half is shared out equally to the members, and what
/// one holds comes out of its own share first. With no members all of it is common. Nothing beyond the limit is ever
/// held. A member is a rank, or kNoRank: all observers together.
class Shares {
 public:
  Shares(std::size_t limit, std::size_t members)
      : common_(members == 0 ? limit : limit - limit / 2), share_(members == 0 ? 0 : limit / 2 / members) {}

  /// Whether `to` may hold `added` more once `from`, which may be the same, holds `freed` less.
  bool has_room(Rank to, std::size_t added, Rank from, std::size_t freed) const {
    std::size_t excess = excess_ - beyond(held(from)) + beyond(held(from) - freed);
    const std::size_t before = held(to) - (to == from ? freed : 0);
    excess += beyond(before + added) - beyond(before);
    return excess <= common_;
  }
  void take(Rank member, std::size_t count) {
    if (count == 0) return;
    std::size_t& holds = held_[member];
    excess_ += beyond(holds + count) - beyond(holds);
    holds += count;
    total_ += count;
  }
  void free(Rank member, std::size_t count) {
    if (count == 0) return;
    const auto found = held_.find(member);
    assert(found != held_.end() && found->second >= count);
    excess_ -= beyond(found->second) - beyond(found->second - count);
    total_ -= count;
    found->second -= count;
    if (found->second == 0) held_.erase(found);
  }

  std::size_t held(Rank member) const {
    const auto found = held_.find(member);
    return found == held_.end() ? 0 : found->second;
  }
  std::size_t total() const { return total_; }
  /// What nobody else can take from a member.
  std::size_t share() const { return share_; }

 private:
  std::size_t beyond(std::size_t holds) const { return holds > share_ ? holds - share_ : 0; }

  std::size_t common_;
  std::size_t share_;
  std::size_t excess_ = 0;  // of the common half
  std::size_t total_ = 0;
  std::unordered_map<Rank, std::size_t> held_;
};

}  // namespace llmlaunch::rendezvous
