/// \file
/// The key-value pairs of one generation, within their limits. Pure; used by `WorldState`, private to this directory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "rendezvous/message.hpp"

namespace llmlaunch::rendezvous {

class Store {
 public:
  /// `limits` exist as arguments so that a test need not fill 256 MiB.
  explicit Store(std::size_t max_keys = kMaxKeys, std::size_t max_bytes = kMaxStoreBytes)
      : max_keys_(max_keys), max_bytes_(max_bytes) {}

  /// Creates or replaces. `too_large` for a key or value beyond its limit, `out_of_resources` when the store is full.
  Result<void> set(std::string_view key, Bytes value);

  /// Adds to a decimal number, a missing key being 0, and gives the sum. `invalid_argument` when the value is no number
  /// or the sum leaves 64 bits; then nothing has changed.
  Result<std::int64_t> add(std::string_view key, std::int64_t delta);

  /// The value, or null.
  SharedBytes find(std::string_view key) const;
  std::size_t size() const { return pairs_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t max_keys_;
  std::size_t max_bytes_;
  std::size_t bytes_ = 0;
  std::unordered_map<std::string, SharedBytes> pairs_;
};

}  // namespace llmlaunch::rendezvous
