// Keys, values and sums; who waits for a key is WorldState's business.
#include "rendezvous/store.hpp"

#include <fmt/format.h>

#include <charconv>

#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {

Result<void> Store::set(std::string_view key, Bytes value) {
  if (auto fits = check_key(key); !fits) return fits;
  if (auto fits = check_value(key, value.size()); !fits) return fits;
  const auto found = pairs_.find(std::string(key));
  const std::size_t freed = found == pairs_.end() ? 0 : key.size() + found->second->size();
  const std::size_t bytes_after = bytes_ - freed + key.size() + value.size();
  if (found == pairs_.end() && pairs_.size() >= max_keys_) {
    return make_error(Errc::out_of_resources, fmt::format("the store holds {} keys, its limit; key {} is one too many",
                                                          max_keys_, quoted(key)));
  }
  if (bytes_after > max_bytes_) {
    return make_error(Errc::out_of_resources, fmt::format("the store would hold {} bytes with key {}; the limit is {}",
                                                          bytes_after, quoted(key), max_bytes_));
  }
  bytes_ = bytes_after;
  pairs_.insert_or_assign(std::string(key), std::make_shared<const Bytes>(std::move(value)));
  return ok;
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
  const auto found = pairs_.find(std::string(key));
  return found == pairs_.end() ? nullptr : found->second;
}

}  // namespace llmlaunch::rendezvous
