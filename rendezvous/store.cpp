// Keys, values and sums; who waits for a key is WorldState's business.
#include "rendezvous/store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "rendezvous/base/whole_number.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {

namespace {

std::string name_holder(Rank rank) {
  return rank == kNoRank ? "the observers hold" : fmt::format("rank {} holds", number(rank));
}

}  // namespace

// Whether the pair may stand in place of the old one.
Result<void> Store::check_room(std::string_view key, std::size_t value_bytes, const Pair* old, Rank by) const {
  if (auto fits = check_key(key); !fits) return fits;
  if (auto fits = check_value(key, value_bytes); !fits) return fits;
  if (old != nullptr && value_bytes <= old->value->size()) return ok;
  const Rank from = old == nullptr ? by : old->holder;
  const std::size_t freed = old == nullptr ? 0 : key.size() + old->value->size();
  const std::size_t needed = key.size() + value_bytes;
  const auto full = [](std::string what) {
    return make_error(Errc::out_of_resources, std::move(what), {}, "delete keys that are not needed any more");
  };
  if (!keys_.has_room(by, 1, from, old == nullptr ? 0 : 1)) {
    if (!shared_)
      return full(fmt::format("the store holds {} keys, its limit; key {} is one too many", max_keys_, quoted(key)));
    return full(
        fmt::format("{} {} of the store's {} keys, and what is not others' share is used up; key {} is one too many",
                    name_holder(by), keys_.held(by), max_keys_, quoted(key)));
  }
  if (!bytes_.has_room(by, needed, from, freed)) {
    if (!shared_)
      return full(fmt::format("the store would hold {} bytes with key {}; the limit is {}", bytes() - freed + needed,
                              quoted(key), max_bytes_));
    return full(fmt::format("{} {} of the store's {} bytes, and what is not others' share is used up; key {} needs {}",
                            name_holder(by), bytes_.held(by), max_bytes_, quoted(key), needed));
  }
  return ok;
}

// The pair, of which there is no value yet or another, is about to have one of so many bytes.
void Store::count(std::string_view key, std::size_t value_bytes, Pair& pair, Rank by) {
  const std::size_t old_bytes = pair.value ? key.size() + pair.value->size() : 0;
  keys_.free(pair.holder, pair.value ? 1 : 0);
  bytes_.free(pair.holder, old_bytes);
  if (key.size() + value_bytes > old_bytes) pair.holder = by;
  keys_.take(pair.holder, 1);
  bytes_.take(pair.holder, key.size() + value_bytes);
}

Result<void> Store::set(std::string_view key, Bytes value, Rank by) {
  auto found = pairs_.find(key);
  if (auto fits = check_room(key, value.size(), found == pairs_.end() ? nullptr : &found->second, by); !fits)
    return fits;
  if (found == pairs_.end()) found = pairs_.emplace(key, Pair{}).first;
  count(key, value.size(), found->second, by);
  found->second.value = std::make_shared<Bytes>(std::move(value));  // the old one may be on its way to somebody
  return ok;
}

Result<Store::Compared> Store::compare_and_set(std::string_view key, const std::optional<Bytes>& expected, Bytes value,
                                               Rank by) {
  if (auto fits = check_key(key); !fits) return fits.error();
  const std::size_t both = value.size() + (expected ? expected->size() : 0);
  if (both > kMaxValueBytes) {
    return make_error(Errc::too_large,
                      fmt::format("the expected and the new value of key {} have {} bytes together; the "
                                  "limit is {}",
                                  quoted(key), both, kMaxValueBytes));
  }
  const SharedBytes found = find(key);
  if (expected ? !found || *found != *expected : found != nullptr) return Compared{false, found};
  if (auto stored = set(key, std::move(value), by); !stored) return stored.error();
  return Compared{true, nullptr};
}

Result<std::size_t> Store::append(std::string_view key, ByteView value, Rank by) {
  const auto found = pairs_.find(key);
  if (found == pairs_.end()) {
    if (auto stored = set(key, Bytes(value.begin(), value.end()), by); !stored) return stored.error();
    return value.size();
  }
  std::shared_ptr<Bytes>& kept = found->second.value;
  const std::size_t size = kept->size() + value.size();
  if (auto fits = check_room(key, size, &found->second, by); !fits) return fits.error();
  count(key, size, found->second, by);
  if (kept.use_count() > 1) kept = std::make_shared<Bytes>(*kept);  // what is on its way to somebody stays as it is
  kept->insert(kept->end(), value.begin(), value.end());
  return size;
}

bool Store::remove(std::string_view key) {
  const auto found = pairs_.find(key);
  if (found == pairs_.end()) return false;
  keys_.free(found->second.holder, 1);
  bytes_.free(found->second.holder, key.size() + found->second.value->size());
  pairs_.erase(found);
  return true;
}

Store::Page Store::list(std::string_view prefix, std::string_view after, std::size_t most) const {
  Page page;
  std::size_t bytes = 0;
  auto at = after < prefix ? pairs_.lower_bound(prefix) : pairs_.upper_bound(after);
  for (; at != pairs_.end() && at->first.starts_with(prefix); ++at) {
    bytes += at->first.size();
    const std::size_t count = page.keys.size();
    page.more = count > 0 && (count >= std::min(most, kMaxListKeys) || bytes > kMaxListBytes);
    if (page.more) break;
    page.keys.push_back(at->first);
  }
  return page;
}

Result<std::int64_t> Store::add(std::string_view key, std::int64_t delta, Rank by) {
  std::int64_t old_value = 0;
  if (const SharedBytes value = find(key)) {
    const std::string_view text = as_text(*value);
    const auto number = parse_whole<std::int64_t>(text);
    if (!number) {
      return make_error(Errc::invalid_argument,
                        fmt::format("cannot add to key {}: its value {} is not a number", quoted(key), quoted(text)));
    }
    old_value = *number;
  }
  std::int64_t sum = 0;
  if (__builtin_add_overflow(old_value, delta, &sum)) {
    return make_error(Errc::invalid_argument,
                      fmt::format("cannot add {} to key {}: {} is stored, and the sum does not fit 64 bits", delta,
                                  quoted(key), old_value));
  }
  const std::string text = fmt::to_string(sum);
  const ByteView bytes = as_bytes(text);
  if (auto stored = set(key, Bytes(bytes.begin(), bytes.end()), by); !stored) return stored.error();
  return sum;
}

SharedBytes Store::find(std::string_view key) const {
  const auto found = pairs_.find(key);
  return found == pairs_.end() ? nullptr : found->second.value;
}

}  // namespace llmlaunch::rendezvous
