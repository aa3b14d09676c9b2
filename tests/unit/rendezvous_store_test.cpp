#include "rendezvous/store.hpp"

#include <fmt/format.h>

#include <limits>

#include "tests/support/catch.hpp"

namespace rendezvous_store_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;

namespace {

Bytes bytes_of(std::string_view text) {
  const ByteView bytes = as_bytes(text);
  return Bytes(bytes.begin(), bytes.end());
}

}  // namespace

TEST_CASE("the store keeps, replaces and gives back values") {
  Store store;
  CHECK(store.find("k") == nullptr);
  REQUIRE(store.set("k", bytes_of("one")));
  REQUIRE(store.set("k", bytes_of("three")));
  CHECK(*store.find("k") == bytes_of("three"));
  CHECK(store.size() == 1);
  CHECK(store.bytes() == 6);
}

TEST_CASE("sums start at 0 and are kept as decimal text") {
  Store store;
  CHECK(*store.add("n", 5) == 5);
  CHECK(*store.add("n", -7) == -2);
  CHECK(*store.find("n") == bytes_of("-2"));
  REQUIRE(store.set("n", bytes_of("40")));
  CHECK(*store.add("n", 2) == 42);
}

TEST_CASE("a sum that cannot be leaves the value as it was") {
  Store store;
  REQUIRE(store.set("t", bytes_of("12x")));
  const auto text = store.add("t", 1);
  REQUIRE_FALSE(text);
  CHECK(text.error().code == Errc::invalid_argument);
  CHECK(text.error().what == "cannot add to key 't': its value '12x' is not a number");
  REQUIRE(store.add("n", std::numeric_limits<std::int64_t>::max()));
  const auto overflow = store.add("n", 1);
  REQUIRE_FALSE(overflow);
  CHECK(overflow.error().what ==
        "cannot add 1 to key 'n': 9223372036854775807 is stored, and the sum does not fit 64 bits");
  CHECK(*store.find("n") == bytes_of("9223372036854775807"));
}

TEST_CASE("keys and values beyond their limits are refused") {
  Store store;
  CHECK(store.set("", {}).error().what == "an empty key");
  CHECK(store.set(std::string(kMaxKeyBytes, 'k'), {}));
  const auto key = store.set(std::string(kMaxKeyBytes + 1, 'k'), {});
  REQUIRE_FALSE(key);
  CHECK(key.error().code == Errc::too_large);
  CHECK(key.error().what == "key '" + std::string(64, 'k') + "…' has 8193 bytes; the limit is 8192");
  CHECK(store.set("v", Bytes(kMaxValueBytes)));
  const auto value = store.set("v", Bytes(kMaxValueBytes + 1));
  REQUIRE_FALSE(value);
  CHECK(value.error().what == "the value of key 'v' has 8388609 bytes; the limit is 8388608");
}

TEST_CASE("a full store refuses new keys and larger values, and takes what fits") {
  Store store(0, 2, 20);
  REQUIRE(store.set("a", Bytes(5)));
  REQUIRE(store.set("b", Bytes(5)));
  const auto third = store.set("c", {});
  REQUIRE_FALSE(third);
  CHECK(third.error().code == Errc::out_of_resources);
  CHECK(third.error().what == "the store holds 2 keys, its limit; key 'c' is one too many");
  const auto large = store.set("a", Bytes(14));
  REQUIRE_FALSE(large);
  CHECK(large.error().what == "the store would hold 21 bytes with key 'a'; the limit is 20");
  CHECK(store.set("a", Bytes(13)));
  CHECK(store.bytes() == 20);
}

TEST_CASE("the store counts what compare-and-set, append and delete add and free") {
  Store store(0, 4, 100);
  CHECK(store.compare_and_set("k", std::nullopt, bytes_of("12345"))->swapped);
  CHECK(*store.append("k", bytes_of("678")) == 8);
  CHECK(store.bytes() == 9);
  CHECK_FALSE(store.compare_and_set("k", std::nullopt, bytes_of("x"))->swapped);
  CHECK(store.compare_and_set("k", bytes_of("12345678"), bytes_of("1"))->swapped);
  CHECK(store.bytes() == 2);
  CHECK(store.remove("k"));
  CHECK_FALSE(store.remove("k"));
  CHECK(store.bytes() == 0);
  CHECK(store.size() == 0);
}

TEST_CASE("a full store refuses what would grow it by append or compare-and-set, and keeps what it has") {
  Store store(0, 1, 20);
  REQUIRE(store.append("k", bytes_of("0123456789")));
  const auto grown = store.append("k", Bytes(10));
  REQUIRE_FALSE(grown);
  CHECK(grown.error().what == "the store would hold 21 bytes with key 'k'; the limit is 20");
  CHECK(store.append("l", bytes_of("x")).error().code == Errc::out_of_resources);
  CHECK(store.compare_and_set("l", std::nullopt, bytes_of("x")).error().code == Errc::out_of_resources);
  CHECK(*store.find("k") == bytes_of("0123456789"));
  CHECK(store.bytes() == 11);
}

TEST_CASE("who takes without end is refused, and every other rank still has its share") {
  constexpr Rank kGreedy{0}, kOther{1};
  // Three ranks and the observers: 40 are common, 10 are the share of each.
  Store store(4, 80, 8000);
  const auto add = [&store](Rank by, std::size_t most) {
    std::size_t added = 0;
    while (added < most && store.set(fmt::format("{}.{}", number(by), added), {}, by)) ++added;
    return added;
  };
  CHECK(add(kGreedy, 100) == 50);
  const auto refused = store.set("more", {}, kGreedy);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::out_of_resources);
  CHECK(to_string(refused.error()) ==
        "rank 0 holds 50 of the store's 80 keys, and what is not others' share is used up; key 'more' is one too many\n"
        "   hint: delete keys that are not needed any more");
  CHECK(add(kOther, 100) == 10);
  CHECK(add(Rank{2}, 100) == 10);
  CHECK(add(kNoRank, 100) == 10);
  CHECK(store.size() == 80);
  CHECK(store.set("more", {}, kNoRank).error().what ==
        "the observers hold 10 of the store's 80 keys, and what is not others' share is used up; key 'more' is one too "
        "many");
  // What the greedy one gives back is common again.
  CHECK(store.remove("0.0"));
  CHECK(store.set("more", {}, kOther));
  CHECK_FALSE(store.set("0.0", {}, kGreedy));
}

TEST_CASE("bytes are shared as keys are, and a pair is held by who last made it larger") {
  constexpr Rank kGreedy{0}, kOther{1};
  Store store(2, 100, 400);  // 200 are common, 100 are the share of each
  REQUIRE(store.set("a", Bytes(299), kGreedy));
  const auto refused = store.append("a", Bytes(1), kGreedy);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().what ==
        "rank 0 holds 300 of the store's 400 bytes, and what is not others' share is used up; key 'a' needs 301");
  CHECK(store.set("a", Bytes(299), kGreedy));
  REQUIRE(store.set("b", Bytes(49), kOther));
  CHECK_FALSE(store.append("b", Bytes(1), kGreedy));
  CHECK(store.add("n", 1, kOther));
  CHECK(*store.add("n", 1, kGreedy) == 2);  // no larger: it stays the other's
  CHECK(store.append("b", Bytes(48), kOther));
  CHECK(store.bytes() == 400);
  CHECK_FALSE(store.append("b", Bytes(1), kOther));
  CHECK_FALSE(store.compare_and_set("b", Bytes(97), Bytes(98), kOther));
  CHECK(store.compare_and_set("b", Bytes(97), Bytes(1), kGreedy)->swapped);
  // The other takes the greedy one's pair over: it must have room for all of it.
  CHECK_FALSE(store.append("a", Bytes(80), kOther));
  CHECK(store.set("a", {}, kOther));
  CHECK(store.append("a", Bytes(150), kOther));
  CHECK(store.remove("a"));
  CHECK(store.remove("b"));
  CHECK(store.remove("n"));
  CHECK(store.bytes() == 0);
  CHECK(store.set("c", Bytes(299), kGreedy));
}

}  // namespace rendezvous_store_test
