// Buckets, their order and the checks between ranks, with a group in which the test plays the others.
#include "trainer/ddp.hpp"

#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "tests/support/catch.hpp"

namespace trainer_ddp_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

/// A group in which the test plays all other ranks: it records what is started and says what they sent.
class ScriptedComm final : public Comm {
 public:
  explicit ScriptedComm(std::uint32_t world_size, std::uint32_t rank = 0) : world_size_(world_size), rank_(rank) {}
  std::uint32_t rank() const override { return rank_; }
  std::uint32_t world_size() const override { return world_size_; }
  std::string description() const override { return "scripted"; }
  Result<void> start_all_reduce_mean(std::span<float> values) override {
    started.push_back({static_cast<std::size_t>(values.data() - base), values.size()});
    if (start_fails) return make_error(Errc::closed, "lost rank 1");
    return ok;
  }
  Result<void> wait() override {
    ++waits;
    if (wait_fails) return make_error(Errc::closed, "lost rank 1");
    return ok;
  }
  Result<void> join() override {
    ++joins;
    if (wait_fails) return make_error(Errc::closed, "lost rank 1");
    return ok;
  }
  Result<void> broadcast(std::span<float>) override { return ok; }
  Result<std::vector<Bytes>> all_gather(ByteView mine) override {
    std::vector<Bytes> all(world_size_, Bytes(mine.begin(), mine.end()));
    if (others) others(all);
    return all;
  }
  Result<void> barrier() override { return ok; }
  Result<void> finish() override { return ok; }

  const float* base = nullptr;
  std::vector<Range> started;
  int waits = 0;
  int joins = 0;
  bool start_fails = false;
  bool wait_fails = false;
  std::function<void(std::vector<Bytes>&)> others;

 private:
  std::uint32_t world_size_;
  std::uint32_t rank_;
};

// BasicNet: weight and bias of conv1, conv2, fc1, fc2.
const std::vector<std::size_t> kBasicNet = {288, 32, 18'432, 64, 1'179'648, 128, 1'280, 10};
constexpr std::size_t kBasicNetValues = 1'199'882;

std::vector<Range> places_of(const std::vector<std::size_t>& counts) {
  std::vector<Range> places;
  std::size_t first = 0;
  for (const std::size_t count : counts) {
    places.push_back({first, count});
    first += count;
  }
  return places;
}

Result<void> backward(GradientReducer& reducer, const std::vector<std::size_t>& order) {
  for (const std::size_t parameter : order) {
    if (auto done = reducer.ready(parameter); !done) return done;
  }
  return reducer.finish_step();
}

std::vector<std::vector<std::size_t>> parameters_of(const std::vector<Bucket>& buckets) {
  std::vector<std::vector<std::size_t>> result;
  for (const Bucket& bucket : buckets) result.push_back(bucket.parameters);
  return result;
}

using Lists = std::vector<std::vector<std::size_t>>;
const std::vector<std::size_t> kBackward = {7, 6, 5, 4, 3, 2, 1, 0};

}  // namespace

TEST_CASE("BasicNet's buckets are those of PyTorch: the linear layers, then the convolutions") {
  const auto places = places_of(kBasicNet);
  const auto buckets = plan_buckets(places, kBackward, {});
  CHECK(parameters_of(buckets) == Lists{{7, 6, 5, 4}, {3, 2, 1, 0}});
  CHECK(buckets[0].ranges == std::vector<Range>{{18'816, 1'181'066}});
  CHECK(buckets[1].ranges == std::vector<Range>{{0, 18'816}});
  CHECK(buckets[0].ranges[0].count + buckets[1].ranges[0].count == kBasicNetValues);
}

TEST_CASE("the buckets are those that PyTorch's DDP makes anew, without a cap and with any") {
  std::ifstream file(LLMLAUNCH_FIXTURES "/torch_numbers.json");
  REQUIRE(file);
  const auto all = nlohmann::json::parse(file).at("buckets");
  REQUIRE(all.size() == 16);
  // mlp: weight and bias of three linear layers.
  const std::vector<std::size_t> mlp = {401'408, 512, 262'144, 512, 5'120, 10};
  std::set<std::size_t> seen;
  for (const auto& one : all) {
    const auto& counts = one.at("model") == "basicnet" ? kBasicNet : mlp;
    const auto& cap = one.at("cap_mb");
    CAPTURE(one.dump());
    const auto order = one.at("order").get<std::vector<std::size_t>>();
    const auto caps = bucket_caps(cap.is_null() ? std::nullopt : std::optional(cap.get<double>()));
    const auto buckets = plan_buckets(places_of(counts), order, caps);
    CHECK(parameters_of(buckets) == one.at("parameters").get<Lists>());
    seen.insert(buckets.size());
  }
  CHECK(seen == std::set<std::size_t>{1, 2, 3, 6, 8});
}

TEST_CASE("a bucket closes as soon as it holds its cap, the first by a cap of its own") {
  const auto places = places_of({4, 4, 4, 4, 4, 4});
  const std::vector<std::size_t> order = {5, 4, 3, 2, 1, 0};
  struct Row {
    std::size_t first_bytes, bytes;
    Lists expected;
  };
  const std::vector<Row> rows = {
      {16, 32, {{5}, {4, 3}, {2, 1}, {0}}},    // exactly full
      {17, 33, {{5, 4}, {3, 2, 1}, {0}}},      // one byte more needs one more parameter
      {1, 1, {{5}, {4}, {3}, {2}, {1}, {0}}},  // every parameter is larger than the cap
      {1'000, 1, {{5, 4, 3, 2, 1, 0}}},        // the first takes all
  };
  for (const Row& row : rows) {
    CAPTURE(row.first_bytes, row.bytes);
    CHECK(parameters_of(plan_buckets(places, order, {row.first_bytes, row.bytes})) == row.expected);
  }
}

TEST_CASE("a bucket of parameters that are no neighbours has one range for each run of neighbours") {
  const auto buckets = plan_buckets(places_of({1, 2, 3, 4}), std::vector<std::size_t>{3, 0, 2, 1}, {32, 1'000});
  REQUIRE(buckets.size() == 2);
  CHECK(buckets[0].ranges == std::vector<Range>{{0, 1}, {3, 7}});
  CHECK(buckets[1].ranges == std::vector<Range>{{1, 2}});
}

TEST_CASE("the first step reduces everything at once, later steps bucket by bucket while backward runs") {
  std::vector<float> gradient(kBasicNetValues);
  ScriptedComm comm(2);
  comm.base = gradient.data();
  GradientReducer reducer(comm, gradient, places_of(kBasicNet), {});
  for (const std::size_t parameter : kBackward) {
    CHECK(comm.started.empty());
    REQUIRE(reducer.ready(parameter));
  }
  CHECK(comm.started == std::vector<Range>{{0, kBasicNetValues}});
  REQUIRE(reducer.finish_step());
  CHECK(comm.waits == 1);

  comm.started.clear();
  for (const std::size_t parameter : {7U, 6U, 5U}) REQUIRE(reducer.ready(parameter));
  CHECK(comm.started.empty());
  REQUIRE(reducer.ready(4));
  CHECK(comm.started == std::vector<Range>{{18'816, 1'181'066}});
  for (const std::size_t parameter : {3U, 2U, 1U, 0U}) REQUIRE(reducer.ready(parameter));
  CHECK(comm.started.size() == 2);
  REQUIRE(reducer.finish_step());
  CHECK(comm.waits == 2);
}

TEST_CASE("a run that goes on reduces its first step as the undisturbed run does that step") {
  std::vector<float> gradient(kBasicNetValues);
  ScriptedComm comm(3);
  comm.base = gradient.data();
  GradientReducer undisturbed(comm, gradient, places_of(kBasicNet), {});
  REQUIRE(backward(undisturbed, kBackward));
  comm.started.clear();
  REQUIRE(backward(undisturbed, kBackward));
  const auto later = comm.started;
  REQUIRE(later.size() == 2);
  comm.started.clear();
  GradientReducer resumed(comm, gradient, places_of(kBasicNet), {});
  resumed.resume();
  CHECK_FALSE(resumed.finish_step());  // of no gradients
  GradientReducer again(comm, gradient, places_of(kBasicNet), {});
  again.resume();
  for (int step = 0; step < 2; ++step) {
    comm.started.clear();
    REQUIRE(backward(again, kBackward));
    CHECK(comm.started == later);
  }
}

TEST_CASE("a later bucket that is full first waits for its turn") {
  std::vector<float> gradient(kBasicNetValues);
  ScriptedComm comm(2);
  comm.base = gradient.data();
  GradientReducer reducer(comm, gradient, places_of(kBasicNet), {});
  REQUIRE(backward(reducer, kBackward));
  comm.started.clear();
  for (const std::size_t parameter : {0U, 1U, 2U, 3U}) REQUIRE(reducer.ready(parameter));
  CHECK(comm.started.empty());
  for (const std::size_t parameter : {4U, 5U, 6U, 7U}) REQUIRE(reducer.ready(parameter));
  CHECK(comm.started == std::vector<Range>{{18'816, 1'181'066}, {0, 18'816}});
}

TEST_CASE("the buckets follow rank 0's order and not this rank's") {
  std::vector<float> gradient(kBasicNetValues);
  ScriptedComm comm(2, 1);
  comm.base = gradient.data();
  comm.others = [](std::vector<Bytes>& all) {
    const std::vector<std::uint32_t> order = {0, 1, 2, 3, 4, 5, 6, 7};
    std::memcpy(all[0].data(), order.data(), all[0].size());
  };
  GradientReducer reducer(comm, gradient, places_of(kBasicNet), {});
  REQUIRE(backward(reducer, kBackward));
  CHECK(parameters_of(reducer.buckets()) == Lists{{0, 1, 2, 3, 4}, {5, 6, 7}});
}

TEST_CASE("the reducer passes on what the communicator says, and names a parameter without gradient") {
  std::vector<float> gradient(kBasicNetValues);
  ScriptedComm comm(2);
  comm.base = gradient.data();
  GradientReducer reducer(comm, gradient, places_of(kBasicNet), {});
  SECTION("when a reduction cannot start") {
    comm.start_fails = true;
    const auto done = backward(reducer, kBackward);
    REQUIRE_FALSE(done);
    CHECK(done.error().what == "lost rank 1");
  }
  SECTION("when a reduction fails on its way") {
    comm.wait_fails = true;
    CHECK_FALSE(backward(reducer, kBackward));
  }
  SECTION("when a parameter never became ready") {
    const auto done = backward(reducer, {7, 6, 5, 4, 3, 1, 0});
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::internal);
    CHECK(done.error().what == "the backward pass gave no gradient for parameter 2");
    CHECK(comm.waits == 0);
  }
}

TEST_CASE("ranks that differ from rank 0 are named") {
  ScriptedComm comm(8);
  CHECK(check_equal_on_all_ranks(comm, "same", "parameters after epoch 1"));
  comm.others = [](std::vector<Bytes>& all) {
    for (const std::size_t rank : {2U, 3U, 4U, 7U}) all[rank][0] = std::byte{'S'};
  };
  const auto several = check_equal_on_all_ranks(comm, "same", "parameters after epoch 1");
  REQUIRE_FALSE(several);
  CHECK(
      several.error().what ==
      "parameters after epoch 1 differ: rank 0 has same, rank 2 has Same, rank 3 has Same, rank 4 has Same, rank 7 has "
      "Same (4 of 8 ranks: 2-4,7)");
  comm.others = [](std::vector<Bytes>& all) { all[5][0] = std::byte{'x'}; };
  const auto one = check_equal_on_all_ranks(comm, "same", "parameters after epoch 1");
  REQUIRE_FALSE(one);
  CHECK(one.error().what == "parameters after epoch 1 differ: rank 0 has same, rank 5 has xame");
}

TEST_CASE("sums over ranks add every rank's numbers") {
  ScriptedComm comm(3);
  comm.others = [](std::vector<Bytes>& all) {
    const std::vector<double> other = {10.0, 0.5};
    std::memcpy(all[2].data(), other.data(), all[2].size());
  };
  const std::vector<double> mine = {1.0, 2.0};
  const auto sum = sum_over_ranks(comm, mine);
  REQUIRE(sum);
  CHECK(*sum == std::vector<double>{12.0, 4.5});
}

TEST_CASE("a step that only the device waits for starts the same buckets, and again in the next one") {
  std::vector<float> gradient(kBasicNetValues);
  ScriptedComm comm(2);
  comm.base = gradient.data();
  GradientReducer reducer(comm, gradient, places_of(kBasicNet), {});
  REQUIRE(backward(reducer, kBackward));
  comm.started.clear();
  REQUIRE(backward(reducer, kBackward));
  const std::vector<Range> waited = std::exchange(comm.started, {});
  const auto queue = [&](const std::vector<std::size_t>& order) {
    for (const std::size_t parameter : order) REQUIRE(reducer.ready(parameter));
    return reducer.finish_queued_step();
  };
  for (int step = 1; step <= 2; ++step) {
    REQUIRE(queue(kBackward));
    CHECK(comm.started == waited);
    CHECK(comm.joins == step);
    CHECK(comm.waits == 2);
    comm.started.clear();
  }
  CHECK(queue({7, 6, 5, 4, 3, 2, 1}).error().what == "the backward pass gave no gradient for parameter 0");
  CHECK(comm.joins == 2);
  // What was queued is taken back, and the next step is a whole one.
  reducer.abandon_step();
  comm.started.clear();
  REQUIRE(backward(reducer, kBackward));
  CHECK(comm.started == waited);
}

}  // namespace trainer_ddp_test
