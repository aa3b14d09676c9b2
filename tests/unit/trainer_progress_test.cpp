// The line of progress, what a best model is, and what a resumed run is told of its flags.
#include "trainer/progress.hpp"

#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdlib>

#include "tests/support/catch.hpp"
#include "trainer/best_model.hpp"
#include "trainer/job_facts.hpp"
#include "trainer/unlogged_losses.hpp"

namespace trainer_progress_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

class Memory {
 public:
  Memory() : file_(::open_memstream(&bytes_, &size_)) { REQUIRE(file_ != nullptr); }
  ~Memory() {
    std::fclose(file_);
    std::free(bytes_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::FILE* file() { return file_; }
  std::string text() {
    std::fflush(file_);
    return {bytes_, size_};
  }

 private:
  char* bytes_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* file_;
};

LogRecord tested(double loss, double accuracy) {
  return {.step = 1, .epoch = 1, .values = {{"eval_loss", loss}, {"eval_accuracy", accuracy}}};
}

BestModel best_of(double metric) {
  return {.metric = metric, .step = 1, .checkpoint = {}};
}

}  // namespace

TEST_CASE("a loss is shown with four digits, and one that is none without a sign") {
  CHECK(shown_number(0.5) == "0.5000");
  CHECK(shown_number(123456.78901) == "123456.7890");
  CHECK(shown_number(3.3e37) == "3.3000e+37");
  CHECK(shown_number(std::nan("")) == "nan");
  CHECK(shown_number(-std::nan("")) == "nan");
  CHECK(shown_number(HUGE_VAL) == "inf");
}

TEST_CASE("a line tells the mean loss of all ranks' steps since the last one") {
  UnloggedLosses mine;
  for (const double loss : {1.0, 2.0, 6.0}) mine.add(loss);
  CHECK(mine.sum() == 9);
  CHECK(mine.take_mean(9 + 21, 2) == 5);  // the other rank's are 21 in sum
  mine.add(4);
  CHECK(mine.take_mean(mine.sum(), 1) == 4);
}

TEST_CASE("a line that is drawn again covers what stood there, and lines that stay go above it") {
  Memory memory;
  ProgressLine line(memory.file(), true);
  const ProgressLine::Clock::time_point start;
  line.draw("step 10", start, false);
  line.draw("step 11", start + std::chrono::milliseconds(99), false);  // too soon
  line.draw("step 9", start + std::chrono::milliseconds(100), false);
  line.draw("last", start + std::chrono::milliseconds(101), true);
  line.say("tested");
  line.end();
  line.end();
  CHECK(memory.text() == "\rstep 10\rstep 9 \rlast  \r    \rtested\n\rlast\n");
}

TEST_CASE("without a terminal there are lines only") {
  Memory memory;
  ProgressLine line(memory.file(), false);
  line.draw("step 1", {}, true);
  line.say("tested");
  line.end();
  CHECK(memory.text() == "tested\n");
  CHECK(redraws_progress(Progress::always, memory.file(), 0));
  CHECK_FALSE(redraws_progress(Progress::automatic, memory.file(), 0));
  CHECK_FALSE(redraws_progress(Progress::never, memory.file(), 0));
}

TEST_CASE("llmlaunch's terminal is one to draw on, as wide as it says") {
  Memory memory;
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  std::FILE* const pipe = ::fdopen(ends[1], "w");
  REQUIRE(pipe != nullptr);
  CHECK(redraws_progress(Progress::automatic, pipe, 6));
  CHECK_FALSE(redraws_progress(Progress::automatic, pipe, 0));
  CHECK_FALSE(redraws_progress(Progress::never, pipe, 6));
  CHECK_FALSE(redraws_progress(Progress::automatic, memory.file(), 6));  // ">log" wants lines
  std::fclose(pipe);
  ::close(ends[0]);
  ProgressLine line(memory.file(), true, 6);
  line.draw("step 10/90", {}, true);
  line.clear();
  line.clear();
  CHECK(memory.text() == "\rstep 1\r      \r");
  for (const auto& [said, columns] : {std::pair{"61", 61u}, {"", 0u}, {"x", 0u}, {"61 ", 0u}, {"-1", 0u}}) {
    ::setenv("LLMLAUNCH_COLUMNS", said, 1);
    CHECK(columns_from_launcher() == columns);
  }
  ::unsetenv("LLMLAUNCH_COLUMNS");
  CHECK(columns_from_launcher() == 0);
}

TEST_CASE("progress is told with what is left") {
  CHECK(progress_text({.step = 3, .steps = 90, .loss = 0.5, .samples_per_second = 1234.4, .seconds_left = 61.2}) ==
        "step 3/90 loss 0.5000 (1234 samples/s, 1:02 left)");
  CHECK(progress_text({.step = 3, .steps = 90, .loss = {}, .samples_per_second = 1, .seconds_left = 7322}) ==
        "step 3/90 (1 samples/s, 2:02:02 left)");
}

TEST_CASE("the best is the least loss or the greatest accuracy, unless the flag says otherwise; equal is not better") {
  TrainOptions o;
  CHECK_FALSE(is_better(o, tested(0.5, 0.5), {}));  // no metric was named
  o.metric_for_best_model = Metric::loss;
  CHECK(is_better(o, tested(0.5, 0.5), {}));
  CHECK(is_better(o, tested(0.4, 0.5), best_of(0.5)));
  CHECK_FALSE(is_better(o, tested(0.5, 0.5), best_of(0.5)));
  CHECK_FALSE(is_better(o, tested(0.6, 0.5), best_of(0.5)));
  CHECK_FALSE(is_better(o, tested(std::nan(""), 0.5), {}));
  o.greater_is_better = true;
  CHECK(is_better(o, tested(0.6, 0.5), best_of(0.5)));
  o.greater_is_better.reset();
  o.metric_for_best_model = Metric::accuracy;
  CHECK(is_better(o, tested(0.5, 0.6), best_of(0.5)));
  CHECK_FALSE(is_better(o, tested(0.5, 0.4), best_of(0.5)));
}

TEST_CASE("flags that differ from the checkpoint's are told with both values and with which one holds") {
  const TrainOptions before;
  TrainingState then;
  then.optimizer = optimizer_numbers(before);
  then.flags = flags_to_keep(before, {}, 100, 2);
  CHECK(changed_flags(then, optimizer_numbers(before), flags_to_keep(before, {}, 100, 2)).empty());
  TrainOptions now;
  now.learning_rate = 0.5;
  now.warmup_steps = 10;
  CHECK(changed_flags(then, optimizer_numbers(now), flags_to_keep(now, {}, 200, 2)) ==
        "from the optimizer's state, as in Hugging Face's Trainer: --learning_rate 0.001 (and not 0.5); the number of "
        "steps is 200 and was 100, --lr_scheduler_type is constant_with_warmup and was constant, --warmup_steps is 10 "
        "and was "
        "0");
  CHECK(changed_flags(then, optimizer_numbers(before), flags_to_keep(now, {}, 100, 2)) ==
        "--lr_scheduler_type is constant_with_warmup and was constant, --warmup_steps is 10 and was 0");
  DataSource data;
  data.test = in_memory({std::vector<std::uint8_t>(3 * kImageValues), {0, 0, 0}});
  data.train_checksum = data.test_checksum = "0000000a";
  TrainOptions elsewhere;
  elsewhere.data_dir = "mnist";
  CHECK(changed_flags(then, optimizer_numbers(before), flags_to_keep(elsewhere, data, 100, 2)) ==
        "--data_dir is mnist and was drawn digits, the number of test images is 3 and was 0");
  // Other files under the same path: as many, and other ones.
  then.flags = flags_to_keep(elsewhere, data, 100, 2);
  data.test_checksum = "0000000b";
  CHECK_THAT(changed_flags(then, optimizer_numbers(before), flags_to_keep(elsewhere, data, 100, 2)),
             Catch::Equals("the test images' CRC-32 is 0000000b and was 0000000a"));
  // An old checkpoint says nothing of them.
  CHECK(changed_flags({}, optimizer_numbers(now), flags_to_keep(now, {}, 200, 2)).empty());
}

}  // namespace trainer_progress_test
