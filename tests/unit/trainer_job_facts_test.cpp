// Which options make ranks two jobs, and which may differ from host to host.
#include "trainer/job_facts.hpp"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "trainer/same_program.hpp"
#include "trainer/source_digest.hpp"

namespace trainer_job_facts_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

using Change = std::function<void(TrainOptions&)>;

/// A job's options, with a metric, so that another one is a change.
TrainOptions some_options() {
  TrainOptions options;
  options.metric_for_best_model = Metric::loss;
  return options;
}

/// The facts that are others after the change.
JobFacts changed_by(const Change& change) {
  TrainOptions options = some_options();
  const DataSource data;
  const JobFacts before = job_facts(options, data);
  change(options);
  const JobFacts after = job_facts(options, data);
  REQUIRE(before.size() == after.size());
  JobFacts changed;
  for (std::size_t i = 0; i < after.size(); ++i) {
    if (before[i] != after[i]) changed.push_back(after[i]);
  }
  return changed;
}

std::string value_of(const JobFacts& facts, const std::string& name) {
  for (const auto& [known, value] : facts) {
    if (known == name) return value;
  }
  return "not known";
}

}  // namespace

TEST_CASE("every option that decides numbers, meetings or what is told makes two jobs of ranks that differ in it") {
  const std::vector<std::pair<JobFacts, Change>> rows = {
      {{{"--data_split", "digits"}}, [](TrainOptions& o) { o.data_split = "digits"; }},
      {{{"--model", "mlp"}}, [](TrainOptions& o) { o.model = "mlp"; }},
      {{{"--predict", "given"}}, [](TrainOptions& o) { o.predict = "x"; }},
      {{{"--per_device_train_batch_size", "7"}}, [](TrainOptions& o) { o.per_device_train_batch_size = 7; }},
      {{{"--per_device_eval_batch_size", "8"}}, [](TrainOptions& o) { o.per_device_eval_batch_size = 8; }},
      {{{"--num_train_epochs", "2.5"}}, [](TrainOptions& o) { o.num_train_epochs = 2.5; }},
      {{{"--max_steps", "9"}}, [](TrainOptions& o) { o.max_steps = 9; }},
      {{{"--gradient_accumulation_steps", "2"}}, [](TrainOptions& o) { o.gradient_accumulation_steps = 2; }},
      {{{"--dataloader_drop_last", "true"}}, [](TrainOptions& o) { o.dataloader_drop_last = true; }},
      {{{"--learning_rate", "0.5"}}, [](TrainOptions& o) { o.learning_rate = 0.5; }},
      {{{"--lr_scheduler_type", "cosine"}}, [](TrainOptions& o) { o.lr_scheduler_type = SchedulerType::cosine; }},
      {{{"--lr_scheduler_type", "constant_with_warmup"}, {"--warmup_steps", "3"}},
       [](TrainOptions& o) { o.warmup_steps = 3; }},
      {{{"--weight_decay", "0.5"}}, [](TrainOptions& o) { o.weight_decay = 0.5; }},
      {{{"--adam_beta1", "0.5"}}, [](TrainOptions& o) { o.adam_beta1 = 0.5; }},
      {{{"--adam_beta2", "0.5"}}, [](TrainOptions& o) { o.adam_beta2 = 0.5; }},
      {{{"--adam_epsilon", "0.5"}}, [](TrainOptions& o) { o.adam_epsilon = 0.5; }},
      {{{"--max_grad_norm", "1"}}, [](TrainOptions& o) { o.max_grad_norm = 1; }},
      {{{"--on_nan", "skip"}}, [](TrainOptions& o) { o.on_nan = OnNan::skip; }},
      {{{"--seed", "4"}}, [](TrainOptions& o) { o.seed = 4; }},
      {{{"--data_seed", "4"}}, [](TrainOptions& o) { o.data_seed = 4; }},
      {{{"--dropout", "off"}}, [](TrainOptions& o) { o.dropout = false; }},
      {{{"--logging_strategy", "epoch"}}, [](TrainOptions& o) { o.logging_strategy = IntervalStrategy::epoch; }},
      {{{"--logging_steps", "3"}}, [](TrainOptions& o) { o.logging_steps = 3; }},
      {{{"--logging_first_step", "true"}}, [](TrainOptions& o) { o.logging_first_step = true; }},
      {{{"--eval_strategy", "epoch"}}, [](TrainOptions& o) { o.eval_strategy = IntervalStrategy::epoch; }},
      {{{"--eval_steps", "3"}}, [](TrainOptions& o) { o.eval_steps = 3; }},
      {{{"--loss_file", "given"}}, [](TrainOptions& o) { o.loss_file = "x"; }},
      {{{"--report_to", "json"}}, [](TrainOptions& o) { o.report_json = true; }},
      {{{"--report_to", "tensorboard"}}, [](TrainOptions& o) { o.report_tensorboard = true; }},
      {{{"--resume_from_checkpoint", "given"}}, [](TrainOptions& o) { o.resume_from_checkpoint = "true"; }},
      {{{"--save_strategy", "epoch"}}, [](TrainOptions& o) { o.save_strategy = SaveStrategy::epoch; }},
      {{{"--save_strategy", "best"}}, [](TrainOptions& o) { o.save_strategy = SaveStrategy::best; }},
      {{{"--save_steps", "7"}}, [](TrainOptions& o) { o.save_steps = 7; }},
      {{{"--save_total_limit", "2"}}, [](TrainOptions& o) { o.save_total_limit = 2; }},
      {{{"--load_best_model_at_end", "true"}}, [](TrainOptions& o) { o.load_best_model_at_end = true; }},
      {{{"--metric_for_best_model, --greater_is_better", "the greatest eval_accuracy"}},
       [](TrainOptions& o) { o.metric_for_best_model = Metric::accuracy; }},
      {{{"--metric_for_best_model, --greater_is_better", "the greatest eval_loss"}},
       [](TrainOptions& o) { o.greater_is_better = true; }},
      {{{"--ddp_bucket_cap_mb", "1"}}, [](TrainOptions& o) { o.ddp_bucket_cap_mb = 1; }},
      {{{"--ddp_timeout", "60"}}, [](TrainOptions& o) { o.ddp_timeout = 60; }},
      {{{"the precision (--bf16, --fp16, --tf32, mixed_precision)", "bf16"}},
       [](TrainOptions& o) { o.precision = Precision::bf16; }},
      {{{"the precision (--bf16, --fp16, --tf32, mixed_precision)", "bf16 and tf32"}},
       [](TrainOptions& o) {
         o.precision = Precision::bf16;
         o.tf32 = true;
       }},
      {{{"the precision (--bf16, --fp16, --tf32, mixed_precision)", "fp16"}},
       [](TrainOptions& o) { o.precision = Precision::fp16; }},
      {{{"the precision (--bf16, --fp16, --tf32, mixed_precision)", "tf32"}},
       [](TrainOptions& o) { o.precision = Precision::tf32; }},
      {{{"--cuda_graph", "true"}}, [](TrainOptions& o) { o.cuda_graph = true; }},
  };
  for (const auto& [expected, change] : rows) {
    CAPTURE(expected.front().first);
    CHECK(changed_by(change) == expected);
  }
}

TEST_CASE("without a warm-up the two constant schedules are one") {
  CHECK(changed_by([](TrainOptions& o) { o.lr_scheduler_type = SchedulerType::constant; }).empty());
}

TEST_CASE("a job that goes on is warned of every option that changes what it does, but for those that others tell of") {
  const std::vector<std::pair<const char*, Change>> rows = {
      {"--data_split", [](TrainOptions& o) { o.data_split = "digits"; }},
      {"--per_device_train_batch_size", [](TrainOptions& o) { o.per_device_train_batch_size = 7; }},
      {"--per_device_eval_batch_size", [](TrainOptions& o) { o.per_device_eval_batch_size = 8; }},
      {"--gradient_accumulation_steps", [](TrainOptions& o) { o.gradient_accumulation_steps = 2; }},
      {"--lr_scheduler_type", [](TrainOptions& o) { o.lr_scheduler_type = SchedulerType::cosine; }},
      {"--warmup_steps", [](TrainOptions& o) { o.warmup_steps = 3; }},
      {"--max_grad_norm", [](TrainOptions& o) { o.max_grad_norm = 1; }},
      {"--on_nan", [](TrainOptions& o) { o.on_nan = OnNan::skip; }},
      {"the precision", [](TrainOptions& o) { o.precision = Precision::bf16; }},
      {"--seed", [](TrainOptions& o) { o.seed = 4; }},
      {"--dropout", [](TrainOptions& o) { o.dropout = false; }},
      {"--logging_strategy", [](TrainOptions& o) { o.logging_strategy = IntervalStrategy::epoch; }},
      {"--logging_steps", [](TrainOptions& o) { o.logging_steps = 3; }},
      {"--logging_first_step", [](TrainOptions& o) { o.logging_first_step = true; }},
      {"--eval_strategy", [](TrainOptions& o) { o.eval_strategy = IntervalStrategy::epoch; }},
      {"--eval_steps", [](TrainOptions& o) { o.eval_steps = 3; }},
      {"--save_strategy", [](TrainOptions& o) { o.save_strategy = SaveStrategy::epoch; }},
      {"--save_steps", [](TrainOptions& o) { o.save_steps = 7; }},
      {"--save_total_limit", [](TrainOptions& o) { o.save_total_limit = 2; }},
      {"--load_best_model_at_end", [](TrainOptions& o) { o.load_best_model_at_end = true; }},
      {"--report_to", [](TrainOptions& o) { o.report_json = true; }},
      {"--ddp_bucket_cap_mb", [](TrainOptions& o) { o.ddp_bucket_cap_mb = 1; }},
      {"", [](TrainOptions& o) { o.loss_file = "x"; }},
      {"", [](TrainOptions& o) { o.predict = "x"; }},
      {"", [](TrainOptions& o) { o.threads = 3; }},
      {"", [](TrainOptions& o) { o.metric_for_best_model = Metric::accuracy; }},
  };
  TrainOptions before = some_options();
  before.lr_scheduler_type = SchedulerType::linear;  // without a warm-up both constant ones are kept as one
  TrainingState then;
  then.flags = flags_to_keep(before, {}, 100, 2);
  for (const auto& [name, change] : rows) {
    CAPTURE(name);
    TrainOptions now = before;
    change(now);
    const std::string changed = changed_flags(then, optimizer_numbers(now), flags_to_keep(now, {}, 100, 2));
    if (*name == '\0') {
      CHECK(changed.empty());
    } else {
      CHECK_THAT(changed, Catch::StartsWith(std::string(name) + " is ") && !Catch::Contains(", "));
    }
  }
}

TEST_CASE("paths and what is a host's own may differ") {
  const std::vector<std::pair<const char*, Change>> rows = {
      {"output_dir", [](TrainOptions& o) { o.output_dir = "x"; }},
      {"logging_dir", [](TrainOptions& o) { o.logging_dir = "x"; }},
      {"threads", [](TrainOptions& o) { o.threads = 3; }},
      {"dataloader_num_workers", [](TrainOptions& o) { o.dataloader_num_workers = 3; }},
      {"device", [](TrainOptions& o) { o.device = DeviceChoice::cpu; }},
      {"progress", [](TrainOptions& o) { o.progress = Progress::never; }},
      {"replicas_speak", [](TrainOptions& o) { o.replicas_speak = true; }},
      {"notes", [](TrainOptions& o) { o.notes = {"x"}; }},
  };
  for (const auto& [name, change] : rows) {
    CAPTURE(name);
    CHECK(changed_by(change).empty());
  }
}

TEST_CASE("images of files count by what is in them, wherever they lie, and drawn ones by their number") {
  TrainOptions options;
  options.data_dir = "here";
  DataSource data;
  data.train = in_memory({std::vector<std::uint8_t>(3 * kImageValues), {1, 2, 3}});
  const JobFacts mine = job_facts(options, data);
  options.data_dir = "there";
  CHECK(job_facts(options, data) == mine);
  CHECK(value_of(mine, "what the images are") == "files");
  CHECK(value_of(mine, "the number of training images") == "3");
  options.data_dir.clear();
  CHECK(value_of(job_facts(options, data), "what the images are") == "drawn");
  data.train_checksum = "0000000a";
  data.test_checksum = "0000000b";
  CHECK(content_facts(data) == JobFacts{{"what the training images are", "files with CRC-32 0000000a"},
                                        {"what the test images are", "files with CRC-32 0000000b"}});
}

TEST_CASE("a program of the same version and of other sources is another") {
  CHECK_THAT(std::string(source_digest()), Catch::Matches("[0-9a-f]{12}"));
  CHECK(this_program() == "llmlaunch-train " LLMLAUNCH_VERSION " of sources " + std::string(source_digest()));
}

}  // namespace trainer_job_facts_test
