/// \file
/// The key-value pairs of one generation, within their limits. Pure; used by `WorldState`, private to this directory.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/message.hpp"
#include "rendezvous/shares.hpp"

namespace llmlaunch::rendezvous {

class Store {
 public:
  /// The limits exist as arguments so that a test need not fill 256 MiB. `members` share them (shares.hpp); with none
  /// they are for all together.
  explicit Store(std::size_t members = 0, std::size_t max_keys = kMaxKeys, std::size_t max_bytes = kMaxStoreBytes)
      : shared_(members > 0),
        max_keys_(max_keys),
        max_bytes_(max_bytes),
        keys_(max_keys, members),
        bytes_(max_bytes, members) {}

  /// Creates or replaces. `too_large` for a key or value beyond its limit, `out_of_resources` when the store is full,
  /// or `by` has its share and the common half is used up. A pair counts, key and value, as held by who created it or
  /// last made it larger: so nobody is charged for what others do, and a value that does not grow is never refused.
  Result<void> set(std::string_view key, Bytes value, Rank by = kNoRank);

  /// Adds to a decimal number, a missing key being 0, and gives the sum. `invalid_argument` when the value is no number
  /// or the sum leaves 64 bits; then nothing has changed.
  Result<std::int64_t> add(std::string_view key, std::int64_t delta, Rank by = kNoRank);

  /// What a compare-and-set did: `found` is the value that was there instead, null for none.
  struct Compared {
    bool swapped = false;
    SharedBytes found;
  };
  /// Sets the key to `value` if its value is `expected`, or if it is missing and nothing is expected. Errors as `set`,
  /// also when nothing would be swapped; a value and what is expected of it are within the limit of a value together.
  Result<Compared> compare_and_set(std::string_view key, const std::optional<Bytes>& expected, Bytes value,
                                   Rank by = kNoRank);

  /// Appends to the value, a missing key being empty, and gives its new length. Errors as `set`, about the whole value.
  Result<std::size_t> append(std::string_view key, ByteView value, Rank by = kNoRank);

  /// True when the key existed.
  bool remove(std::string_view key);

  struct Page {
    std::vector<std::string> keys;
    bool more = false;
  };
  /// The keys that begin with `prefix` and are greater than `after`, in byte order: at most `most`, kMaxListKeys and
  /// kMaxListBytes of them, and at least one if there is any.
  Page list(std::string_view prefix, std::string_view after, std::size_t most) const;

  /// The value, or null.
  SharedBytes find(std::string_view key) const;
  std::size_t size() const { return pairs_.size(); }
  std::size_t bytes() const { return bytes_.total(); }

 private:
  struct Pair {
    std::shared_ptr<Bytes> value;
    Rank holder{};
  };
  Result<void> check_room(std::string_view key, std::size_t value_bytes, const Pair* old, Rank by) const;
  void count(std::string_view key, std::size_t value_bytes, Pair& pair, Rank by);

  bool shared_;
  std::size_t max_keys_;
  std::size_t max_bytes_;
  Shares keys_;
  Shares bytes_;
  std::map<std::string, Pair, std::less<>> pairs_;  // in order, for `list`
};

}  // namespace llmlaunch::rendezvous
