/// \file
/// Who watches which keys: exact ones, and all that begin with a prefix. Finding those of a key costs one look-up for
/// each length that a watched prefix has, however many watches there are. Pure; used by `WorldState`, private to this
/// directory.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace llmlaunch::rendezvous {

template <class Id>
class WatchIndex {
 public:
  void add(Id id, const std::string& key, bool prefix) { (prefix ? prefixes_[key.size()] : keys_)[key].insert(id); }
  void remove(Id id, const std::string& key, bool prefix) {
    if (!prefix) return drop(keys_, key, id);
    const auto found = prefixes_.find(key.size());
    if (found == prefixes_.end()) return;
    drop(found->second, key, id);
    if (found->second.empty()) prefixes_.erase(found);
  }
  /// Those who are to hear of a change of this key, the oldest first.
  std::vector<Id> watchers(const std::string& key) const {
    std::set<Id> all;
    const auto collect = [&all](const Watchers& of, const std::string& name) {
      if (const auto found = of.find(name); found != of.end()) all.insert(found->second.begin(), found->second.end());
    };
    collect(keys_, key);
    for (const auto& [length, of] : prefixes_) {
      if (length > key.size()) break;
      collect(of, key.substr(0, length));
    }
    return {all.begin(), all.end()};
  }
  bool empty() const { return keys_.empty() && prefixes_.empty(); }

 private:
  using Watchers = std::unordered_map<std::string, std::set<Id>>;
  static void drop(Watchers& of, const std::string& key, Id id) {
    const auto found = of.find(key);
    if (found == of.end()) return;
    found->second.erase(id);
    if (found->second.empty()) of.erase(found);
  }
  Watchers keys_;
  std::map<std::size_t, Watchers> prefixes_;  // by length
};

}  // namespace llmlaunch::rendezvous
