// Keys, values and sums; who waits for a key is WorldState's business.
#include "rendezvous/store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {

// Whether the pair may stand in place of the old one.
Result<void> Store::check_room(std::string_view key, std::size_t value_bytes, const Bytes* old) const {
  if (auto fits = check_key(key); !fits) return fits;
  if (auto fits = check_value(key, value_bytes); !fits) return fits;
  const std::size_t freed = old == nullptr ? 0 : key.size() + old->size();
  const std::size_t bytes_after = bytes_ - freed + key.size() + value_bytes;
  if (old == nullptr && pairs_.size() >= max_keys_) {
    return make_error(Errc::out_of_resources, fmt::format("the store holds {} keys, its limit; key {} is one too many",
                                                          max_keys_, quoted(key)));
  }
  if (bytes_after > max_bytes_) {
    return make_error(Errc::out_of_resources, fmt::format("the store would hold {} bytes with key {}; the limit is {}",
                                                          bytes_after, quoted(key), max_bytes_));
  }
  return ok;
}

Result<void> Store::set(std::string_view key, Bytes value) {
  const auto found = pairs_.find(key);
  const Bytes* old = found == pairs_.end() ? nullptr : found->second.get();
  if (auto fits = check_room(key, value.size(), old); !fits) return fits;
  bytes_ += value.size();
  if (old == nullptr) {
    bytes_ += key.size();
    pairs_.emplace(key, std::make_shared<Bytes>(std::move(value)));
  } else {
    bytes_ -= old->size();
    found->second = std::make_shared<Bytes>(std::move(value));  // the old one may be on its way to somebody
  }
  return ok;
}

Result<Store::Compared> Store::compare_and_set(std::string_view key, const std::optional<Bytes>& expected,
                                               Bytes value) {
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
  if (auto stored = set(key, std::move(value)); !stored) return stored.error();
  return Compared{true, nullptr};
}

Result<std::size_t> Store::append(std::string_view key, ByteView value) {
  const auto found = pairs_.find(key);
  if (found == pairs_.end()) {
    if (auto stored = set(key, Bytes(value.begin(), value.end())); !stored) return stored.error();
    return value.size();
  }
  std::shared_ptr<Bytes>& kept = found->second;
  const std::size_t size = kept->size() + value.size();
  if (auto fits = check_room(key, size, kept.get()); !fits) return fits.error();
  if (kept.use_count() > 1) kept = std::make_shared<Bytes>(*kept);  // what is on its way to somebody stays as it is
  kept->insert(kept->end(), value.begin(), value.end());
  bytes_ += value.size();
  return size;
}

bool Store::remove(std::string_view key) {
  const auto found = pairs_.find(key);
  if (found == pairs_.end()) return false;
  bytes_ -= key.size() + found->second->size();
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

Result<std::int64_t> Store::add(std::string_view key, std::int64_t delta) {
  std::int64_t old_value = 0;
  if (const SharedBytes value = find(key)) {
    const std::string_view text = as_text(*value);
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), old_value);
    if (code != std::errc() || end != text.data() + text.size()) {
      return make_error(Errc::invalid_argument,
                        fmt::format("cannot add to key {}: its value {} is not a number", quoted(key), quoted(text)));
    }
  }
  std::int64_t sum = 0;
  if (__builtin_add_overflow(old_value, delta, &sum)) {
    return make_error(Errc::invalid_argument,
                      fmt::format("cannot add {} to key {}: {} is stored, and the sum does not fit 64 bits", delta,
                                  quoted(key), old_value));
  }
  const std::string text = fmt::to_string(sum);
  const ByteView bytes = as_bytes(text);
  if (auto stored = set(key, Bytes(bytes.begin(), bytes.end())); !stored) return stored.error();
  return sum;
}

SharedBytes Store::find(std::string_view key) const {
  const auto found = pairs_.find(key);
  return found == pairs_.end() ? nullptr : found->second;
}

}  // namespace llmlaunch::rendezvous
