// The sampler against the rules of PyTorch's DistributedSampler.
#include "trainer/sampler.hpp"

#include <algorithm>
#include <numeric>
#include <set>

#include "tests/support/catch.hpp"

namespace trainer_sampler_test {

using namespace llmlaunch::trainer;

namespace {

using Positions = std::vector<std::uint32_t>;

std::vector<Positions> deal(std::uint64_t count, std::uint32_t world_size, std::uint64_t seed, std::uint64_t epoch) {
  std::vector<Positions> hands;
  for (std::uint32_t rank = 0; rank < world_size; ++rank) {
    const DistributedSampler sampler(count, world_size, rank, seed);
    hands.push_back(sampler.epoch(epoch));
    CHECK(hands.back().size() == sampler.size());
  }
  return hands;
}

Positions sorted(Positions positions) {
  std::sort(positions.begin(), positions.end());
  return positions;
}

Positions counting(std::uint32_t count) {
  Positions all(count);
  std::iota(all.begin(), all.end(), std::uint32_t{0});
  return all;
}

}  // namespace

TEST_CASE("rank r gets the entries r, r + n, … of one shuffled list") {
  const Positions list = shuffled(12, 7 + 3);
  const auto hands = deal(12, 4, 7, 3);
  for (std::uint32_t rank = 0; rank < 4; ++rank) {
    CHECK(hands[rank] == Positions{list[rank], list[rank + 4], list[rank + 8]});
  }
}

TEST_CASE("a list that does not divide is made longer from its own head") {
  const Positions list = shuffled(10, 5);
  const auto hands = deal(10, 4, 5, 0);
  CHECK(hands[0] == Positions{list[0], list[4], list[8]});
  CHECK(hands[1] == Positions{list[1], list[5], list[9]});
  CHECK(hands[2] == Positions{list[2], list[6], list[0]});
  CHECK(hands[3] == Positions{list[3], list[7], list[1]});
}

TEST_CASE("fewer images than ranks are repeated as often as it takes") {
  const Positions list = shuffled(2, 0);
  const auto hands = deal(2, 5, 0, 0);
  for (std::uint32_t rank = 0; rank < 5; ++rank) CHECK(hands[rank] == Positions{list[rank % 2]});
}

TEST_CASE("every rank gets as many images, and all are dealt") {
  for (const auto& [count, world_size, each] : std::vector<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>>{
           {60'000, 1, 60'000}, {60'000, 7, 8'572}, {60'000, 8, 7'500}, {1, 1, 1}, {13, 3, 5}}) {
    std::set<std::uint32_t> seen;
    for (const Positions& hand : deal(count, world_size, 1, 2)) {
      CHECK(hand.size() == each);
      seen.insert(hand.begin(), hand.end());
    }
    CHECK(seen.size() == count);
    CHECK(*seen.rbegin() == count - 1);
  }
}

TEST_CASE("a dropped tail leaves out what cannot be dealt evenly") {
  const Positions list = shuffled(10, 5);
  for (std::uint32_t rank = 0; rank < 4; ++rank) {
    const DistributedSampler sampler(10, 4, rank, 5, Tail::drop);
    CHECK(sampler.epoch(0) == Positions{list[rank], list[rank + 4]});
  }
  CHECK(DistributedSampler(3, 4, 0, 5, Tail::drop).epoch(0).empty());
}

TEST_CASE("no images give every rank nothing") {
  for (const Positions& hand : deal(0, 3, 0, 0)) CHECK(hand.empty());
}

TEST_CASE("epochs and seeds change the order, and epoch e of seed s is epoch 0 of seed s + e") {
  const auto order = [](std::uint64_t seed, std::uint64_t epoch) { return deal(1'000, 1, seed, epoch).front(); };
  CHECK(order(3, 0) == order(3, 0));
  CHECK(order(3, 0) != order(3, 1));
  CHECK(order(3, 0) != order(4, 0));
  CHECK(order(3, 1) == order(4, 0));
  CHECK(sorted(order(3, 1)) == counting(1'000));
}

TEST_CASE("the shuffle is the same for ever and on every machine") {
  CHECK(shuffled(10, 0) == Positions{4, 1, 7, 5, 3, 9, 0, 8, 6, 2});
  CHECK(shuffled(10, 1) == Positions{5, 6, 1, 2, 0, 8, 9, 3, 7, 4});
  CHECK(shuffled(10, 42) == Positions{2, 6, 1, 8, 4, 5, 0, 9, 3, 7});
}

TEST_CASE("every place of the shuffle is as likely for every entry") {
  constexpr std::uint32_t kEntries = 8;
  constexpr int kRounds = 8'000;
  int found[kEntries][kEntries] = {};
  for (int round = 0; round < kRounds; ++round) {
    const Positions order = shuffled(kEntries, static_cast<std::uint64_t>(round));
    for (std::uint32_t place = 0; place < kEntries; ++place) ++found[place][order[place]];
  }
  // 1,000 expected; one in a million draws is further than five deviations of 30 away.
  for (const auto& place : found) {
    for (const int count : place) CHECK(std::abs(count - kRounds / 8) < 150);
  }
}

}  // namespace trainer_sampler_test
