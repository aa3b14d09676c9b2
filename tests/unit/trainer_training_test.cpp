// Parts of a training job in one process: weights and losses that are no numbers, and checkpoints beside the steps.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rendezvous/base/log.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"
#include "trainer/batch_loader.hpp"
#include "trainer/checkpoint_keeper.hpp"
#include "trainer/cpu_backend.hpp"
#include "trainer/digits.hpp"
#include "trainer/exit_status.hpp"
#include "trainer/host_loop.hpp"
#include "trainer/init.hpp"
#include "trainer/model_check.hpp"
#include "trainer/stop.hpp"
#include "trainer/training_job.hpp"
#include "trainer/write_gate.hpp"

namespace trainer_training_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Engine engine_of_one() {
  auto backend = make_cpu_backend(mlp(), {}, {}, 1);
  REQUIRE(backend);
  return {.backend = std::move(*backend), .comm = std::make_unique<LocalComm>()};
}

LossLog no_losses() {
  auto log = LossLog::open("", false);
  REQUIRE(log);
  return std::move(*log);
}

/// A job of one rank whose folder goes with it. What it prints on stdout stays out of the way.
class SmallJob {
 public:
  explicit SmallJob(
      OnNan on_nan, const std::function<void(TrainOptions&)>& change = [](TrainOptions&) {})
      : engine_(engine_of_one()), losses_(no_losses()) {
    options_.on_nan = on_nan;
    options_.output_dir = output_.path.string();
    options_.save_strategy = SaveStrategy::steps;
    options_.save_total_limit = 1;
    change(options_);
    world_.host = "alpha";
    data_ = {in_memory(draw_digits(64, 1)), in_memory(draw_digits(8, 2)), "drawn"};
    job_ = std::make_unique<TrainingJob>(options_, world_, engine_, data_, losses_);
    load(initial_parameters(mlp(), 0));
  }

  TrainingJob& job() { return *job_; }
  void load(const std::vector<float>& parameters) { REQUIRE(engine_.backend->load_parameters(parameters)); }
  /// As a step would, with one weight that is none.
  void spoil(float with) {
    auto parameters = engine_.backend->copy_parameters();
    REQUIRE(parameters);
    (*parameters)[mlp().parameters.back().first + 3] = with;
    load(*parameters);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(output_.path))
      found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }
  std::string folder(const std::string& name) const { return (output_.path / name).string(); }

 private:
  test::TemporaryDirectory output_;
  TrainOptions options_;
  World world_;
  Engine engine_;
  DataSource data_;
  LossLog losses_;
  std::unique_ptr<TrainingJob> job_;
};

/// Warnings, as long as it lives; each may be heard while it is said.
class Warnings {
 public:
  explicit Warnings(std::function<void()> heard = [] {}) {
    set_log_sink([this, heard = std::move(heard)](LogLevel, std::string_view line) {
      said.emplace_back(line);
      heard();
    });
  }
  ~Warnings() { set_log_sink({}); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  std::vector<std::string> said;
};

/// One of two ranks, of which the other computes the same; counts what is averaged.
class CountingComm final : public Comm {
 public:
  std::uint32_t rank() const override { return 0; }
  std::uint32_t world_size() const override { return 2; }
  std::string description() const override { return "counting"; }
  Result<void> start_all_reduce_mean(std::span<float> values) override {
    averaged += values.size();
    return ok;
  }
  Result<void> wait() override {
    ++waits;
    return ok;
  }
  Result<void> broadcast(std::span<float>) override { return ok; }
  Result<std::vector<Bytes>> all_gather(ByteView mine) override {
    return std::vector<Bytes>(2, Bytes(mine.begin(), mine.end()));
  }
  Result<void> barrier() override { return ok; }
  Result<void> finish() override { return ok; }

  std::size_t averaged = 0;
  int waits = 0;
};

}  // namespace

TEST_CASE("a step of several batches averages its gradient once, with the last of them") {
  auto counting = std::make_unique<CountingComm>();
  CountingComm& comm = *counting;
  Engine engine = engine_of_one();
  engine.comm = std::move(counting);
  TrainOptions options;
  options.gradient_accumulation_steps = 3;
  options.per_device_train_batch_size = 4;
  World world;
  world.world_size = 2;
  DataSource data{in_memory(draw_digits(64, 1)), in_memory(draw_digits(8, 2)), "drawn"};
  LossLog losses = no_losses();
  TrainingJob job(options, world, engine, data, losses);
  REQUIRE(engine.backend->load_parameters(initial_parameters(mlp(), 0)));
  REQUIRE(job.length().batches_per_epoch == 8);
  REQUIRE(job.length().steps == 3);
  const auto loader = BatchLoader::make(0);
  REQUIRE(loader);
  HostLoop loop(job, **loader);
  loop.load(0, 0);
  for (const auto& [first, last] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 3}, {3, 6}, {6, 8}}) {
    CAPTURE(first);
    comm.averaged = 0;
    comm.waits = 0;
    REQUIRE(loop.step(0, first, last));
    CHECK(comm.averaged == mlp().values);
    CHECK(comm.waits == 1);
  }
}

TEST_CASE("a state that is not finite is not written, and the good checkpoint before it stays") {
  const float broken = GENERATE(as<float>(), kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN());
  CAPTURE(broken);
  SmallJob small(OnNan::stop);
  CheckpointKeeper keeper(small.job());
  small.job().step = 1;
  REQUIRE(keeper.save());
  small.job().step = 2;
  small.spoil(broken);
  const auto refused = keeper.save();
  REQUIRE_FALSE(refused);
  CHECK(exit_status(refused.error()) == kDiverged);
  const std::string value = std::isnan(broken) ? "nan" : broken > 0 ? "inf" : "-inf";
  CHECK(to_string(refused.error()) ==
        "after step 2: " + mlp().parameters.back().name + " is not finite (its value 3 is " + value +
            "), and no checkpoint is written; the last good one is " + small.folder("checkpoint-1") +
            "\n   hint: a lower --learning_rate or --max_grad_norm 1 may help; --on_nan skip leaves such steps out");
  CHECK(small.names() == std::vector<std::string>{"checkpoint-1"});
}

TEST_CASE("AdamW's memory counts, too, and a job that goes on is told what can help it") {
  SmallJob small(OnNan::stop);
  small.job().step = small.job().steps_before = 7;
  Backend::Moments moments{std::vector<float>(mlp().values), std::vector<float>(mlp().values)};
  moments.second[0] = kInfinity;
  REQUIRE(small.job().backend.load_moments(moments));
  CheckpointKeeper keeper(small.job());
  const auto refused = keeper.save();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().what == "after step 7: AdamW's exp_avg_sq of " + mlp().parameters[0].name +
                                    " is not finite (its value 0 is inf), and no checkpoint is written; this run has "
                                    "written none");
  CHECK_THAT(refused.error().hint, Catch::Contains("the learning rate is the checkpoint's, whatever --learning_rate"));
}

TEST_CASE("where --on_nan goes on, a state that is not finite is warned of and not written") {
  SmallJob small(OnNan::carry_on);
  CheckpointKeeper keeper(small.job());
  small.job().step = 1;
  REQUIRE(keeper.save());
  small.job().step = 2;
  small.spoil(kInfinity);
  const Warnings warnings;
  REQUIRE(keeper.save());
  REQUIRE(keeper.save_once());  // as a SIGTERM after that step would; said once
  CHECK(keeper.finish());
  CHECK_FALSE(keeper.has_saved());
  REQUIRE(warnings.said.size() == 1);
  CHECK_THAT(warnings.said[0], Catch::StartsWith("after step 2: ") && Catch::EndsWith("checkpoint-1"));
  CHECK(small.names() == std::vector<std::string>{"checkpoint-1"});
}

TEST_CASE("what is saved as the best is what a test found to be better than all before, and nothing else") {
  SmallJob small(OnNan::carry_on, [](TrainOptions& options) {
    options.save_strategy = SaveStrategy::best;
    options.metric_for_best_model = Metric::loss;
  });
  TrainingJob& job = small.job();
  std::vector<std::uint64_t> written, best_in_it;
  bool disk_is_full = false;
  CheckpointKeeper keeper(job, [&](const std::string& output_dir, const TrainingState& state) -> Result<std::string> {
    if (disk_is_full) return make_error(Errc::internal, "no space left");
    written.push_back(state.step);
    best_in_it.push_back(state.course.best->step);  // asked below: this is the writer's thread
    return save_checkpoint(output_dir, state);
  });
  const Warnings warnings;
  const auto after_test = [&](std::uint64_t step, double loss) {
    job.step = step;
    job.last_test = LogRecord{.step = step, .epoch = 0, .values = {{"eval_loss", loss}}};
    REQUIRE(keeper.save_if_best());
    keeper.settle();
    return written;
  };
  using Steps = std::vector<std::uint64_t>;
  CHECK(after_test(1, kInfinity).empty());
  CHECK(after_test(2, std::numeric_limits<double>::quiet_NaN()).empty());
  CHECK_FALSE(job.story.course.best);
  CHECK(after_test(3, 0.5) == Steps{3});
  CHECK(after_test(4, 0.5) == Steps{3});  // equal is not better
  CHECK(after_test(5, 0.6) == Steps{3});
  job.step = 6;  // without a test
  REQUIRE(keeper.save_if_best());
  CHECK(small.names() == std::vector<std::string>{"checkpoint-3"});
  // One that is not on the disk need not be beaten.
  disk_is_full = true;
  CHECK(after_test(7, 0.1) == Steps{3});
  CHECK(job.story.course.best->step == 3);
  disk_is_full = false;
  CHECK(after_test(8, 0.4) == Steps{3, 8});
  CHECK(best_in_it == written);
  CHECK(small.names() == std::vector<std::string>{"checkpoint-8"});
  CHECK(job.story.course.best->metric == 0.4);
  REQUIRE(warnings.said.size() == 1);
}

TEST_CASE("a job of one rank does not go on where three dealt the images, for then two of them were there twice") {
  SmallJob small(OnNan::stop);
  TrainingJob& job = small.job();
  auto state = state_after({.done = 1}, job.options, job.run, {}, job.comm, job.backend);
  REQUIRE(state);
  state->world_size = 3;
  REQUIRE(save_checkpoint(job.options.output_dir, *state));
  TrainOptions resuming = job.options;
  resuming.resume_from_checkpoint = kLastCheckpoint;
  const auto start = [&] {
    return start_state(
        resuming, "gpu01", job.run, job.comm, job.backend, [](const std::string&) {}, job.story.course);
  };
  const auto refused = start();
  REQUIRE_FALSE(refused);
  CHECK_THAT(to_string(refused.error()),
             Catch::StartsWith(small.folder("checkpoint-1") +
                               ": 1 rank deals 64 images as 64 and 3 ranks dealt them as 66, so that"));
  state->world_size = 2;
  REQUIRE(save_checkpoint(job.options.output_dir, *state));
  CHECK(start());
}

TEST_CASE("a test loss that is no number ends the job, or is one warning") {
  SmallJob stops(OnNan::stop);
  stops.job().step = 3;
  stops.spoil(std::numeric_limits<float>::quiet_NaN());
  const auto ended = ModelCheck(stops.job()).test({});
  REQUIRE_FALSE(ended);
  CHECK(exit_status(ended.error()) == kDiverged);
  CHECK(ended.error().what == "after step 3: the test loss is not a number");

  SmallJob goes_on(OnNan::carry_on);
  goes_on.job().step = 3;
  goes_on.spoil(std::numeric_limits<float>::quiet_NaN());
  const Warnings warnings;
  REQUIRE(ModelCheck(goes_on.job()).test({}));
  CHECK(warnings.said ==
        std::vector<std::string>{"after step 3: the test loss is not a number; these weights are of no use"});
}

TEST_CASE("steps that were skipped are counted, and a job of nothing else has learnt nothing") {
  SmallJob small(OnNan::skip);
  ModelCheck model(small.job());
  small.job().step = 20;
  const Warnings warnings;
  CHECK(model.check_learnt());
  CHECK(warnings.said.empty());
  small.job().skipped = 19;
  CHECK(model.check_learnt());
  CHECK(warnings.said == std::vector<std::string>{"19 of 20 steps were skipped, for their gradient was not finite"});
  small.job().skipped = 1;
  CHECK(model.check_learnt());
  CHECK(warnings.said.back() == "1 of 20 steps was skipped, for its gradient was not finite");
  small.job().skipped = 20;
  const auto nothing = model.check_learnt();
  REQUIRE_FALSE(nothing);
  CHECK(exit_status(nothing.error()) == kDiverged);
  CHECK(nothing.error().what == "all 20 steps were skipped, for no gradient was finite: nothing was learnt");
  CHECK(nothing.error().hint == "a lower --learning_rate or --max_grad_norm 1 may help");  // it skips already
  small.job().steps_before = 5;
  CHECK_THAT(model.check_learnt().error().hint,
             Catch::EndsWith("go on from an earlier checkpoint, with --max_grad_norm 1"));
  small.job().steps_before = 0;
  small.job().step = small.job().skipped = 1;
  CHECK(model.check_learnt().error().what ==
        "the only step was skipped, for its gradient was not finite: nothing was learnt");
}

TEST_CASE("half precision that never found a scale for its loss has learnt nothing, and says so") {
  SmallJob small(OnNan::stop);
  ModelCheck model(small.job());
  small.job().step = 5;
  small.job().loss_scale = {.factor = 2048, .skipped = 4};
  const Warnings warnings;
  CHECK(model.check_learnt());
  CHECK(warnings.said.empty());
  small.job().loss_scale.skipped = 5;
  CHECK(model.check_learnt());
  REQUIRE(warnings.said.size() == 1);
  CHECK(warnings.said[0] ==
        "no step was taken, and nothing was learnt: the gradients of all 5 steps overflowed in half precision, where a "
        "scale for the loss is found by trying (it is 2048 now); more steps may find it, --bf16 needs none");
  small.job().step = small.job().loss_scale.skipped = 1;
  CHECK(model.check_learnt());
  CHECK_THAT(warnings.said.back(), Catch::Contains("nothing was learnt: the gradient of the only step overflowed in"));
}

TEST_CASE("steps go on while a checkpoint is written, and one that is waited for is said, once") {
  SmallJob small(OnNan::stop);
  std::promise<void> release;
  const std::shared_future<void> released(release.get_future());
  std::atomic<int> written{0};
  const auto slow = [&](const std::string&, const TrainingState& state) -> Result<std::string> {
    // Written within `save`, nobody would release it.
    if (released.wait_for(std::chrono::seconds(30)) != std::future_status::ready) {
      return make_error(Errc::timed_out, "nobody goes on while this is written");
    }
    ++written;
    return checkpoint_folder("x", state.step);
  };
  const Warnings warnings([&, done = false]() mutable {
    if (!std::exchange(done, true)) release.set_value();
  });
  CheckpointKeeper keeper(small.job(), slow, std::chrono::milliseconds(0));
  small.job().step = 1;
  REQUIRE(keeper.save());
  CHECK(written == 0);
  CHECK(warnings.said.empty());
  for (const std::uint64_t step : {2, 3, 4}) {
    small.job().step = step;
    REQUIRE(keeper.save());  // the first of these waits, says so, and is released
  }
  REQUIRE(keeper.finish());
  CHECK(written == 4);
  REQUIRE(warnings.said.size() == 1);
  CHECK_THAT(warnings.said[0], Catch::StartsWith("after step 2: the checkpoint of step 1 is still being written"));
}

TEST_CASE("the end of the process waits for a checkpoint that is on its way, and lets none follow it") {
  WriteGate gate;
  REQUIRE(gate.begin());
  auto ending = std::async(std::launch::async, [&] { return gate.shut(std::chrono::minutes(1)); });
  while (gate.begin()) std::this_thread::yield();  // until it waits: nothing is begun any more
  CHECK(ending.wait_for(std::chrono::milliseconds(0)) == std::future_status::timeout);
  gate.end();
  CHECK(ending.get());
  CHECK_FALSE(gate.begin());
  CHECK(gate.shut(std::chrono::milliseconds(0)));
}

TEST_CASE("the end of the process does not wait for a disk that hangs") {
  WriteGate gate;
  REQUIRE(gate.begin());
  CHECK_FALSE(gate.shut(std::chrono::milliseconds(1)));
  gate.end();
}

}  // namespace trainer_training_test
