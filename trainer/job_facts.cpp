// Flags as names and values. Called by the training loop and by resume.
#include "trainer/job_facts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "trainer/best_model.hpp"
#include "trainer/option_words.hpp"

namespace llmlaunch::trainer {
namespace {

/// Where there is no warm-up, both of constant are one schedule.
std::string scheduler_word(const TrainOptions& o) {
  const bool same = o.lr_scheduler_type == SchedulerType::constant_with_warmup && o.warmup_steps == 0;
  return word_for(same ? SchedulerType::constant : o.lr_scheduler_type);
}

/// Where the metric is not named, nobody asks.
std::string best_by(const TrainOptions& o) {
  if (!o.metric_for_best_model) return "not given";
  const Yardstick by = yardstick(o);
  return fmt::format("the {} {}", by.greater_is_better ? "greatest" : "least", by.metric);
}

std::string reports_of(const TrainOptions& o) {
  if (o.report_json && o.report_tensorboard) return "json,tensorboard";
  if (o.report_json) return "json";
  return o.report_tensorboard ? "tensorboard" : "none";
}

/// As it was said: --tf32 beside narrower numbers changes none, and a CPU refuses it.
std::string precision_of(const TrainOptions& o) {
  const bool beside = o.tf32 && o.precision != Precision::tf32;
  return fmt::format("{}{}", precision_name(o.precision), beside ? " and tf32" : "");
}

std::string given(const std::string& path) {
  return path.empty() ? "not given" : "given";
}

template <class T>
std::string text_of(const T& value) {
  return fmt::format("{}", value);
}

}  // namespace

// Left out, because they may differ from host to host and change neither a number nor when the ranks meet:
//   paths         data_dir (what is in it is compared), output_dir, logging_dir, and which file loss_file, predict and
//                 resume_from_checkpoint name: rank 0 alone uses them
//   this host's   threads, dataloader_num_workers, device (its communicator would find no other of its kind),
//                 progress, replicas_speak (--log_level_replica), notes (what rank 0 says of its own file)
//   export_dataset  ends before there are ranks
// train_samples and eval_samples are in the number of images, bf16, fp16 and tf32 in the precision.
JobFacts job_facts(const TrainOptions& o, const DataSource& data) {
  return {
      {"the number of training images", text_of(data.train->count())},
      {"the number of test images", text_of(data.test->count())},
      {"what the images are", o.data_dir.empty() ? "drawn" : "files"},
      {"--data_split", o.data_split.empty() ? "not given" : o.data_split},
      {"--model", o.model},
      {"the precision (--bf16, --fp16, --tf32, mixed_precision)", precision_of(o)},
      {"--predict", given(o.predict)},
      {"--per_device_train_batch_size", text_of(o.per_device_train_batch_size)},
      {"--per_device_eval_batch_size", text_of(o.per_device_eval_batch_size)},
      {"--num_train_epochs", text_of(o.num_train_epochs)},
      {"--max_steps", text_of(o.max_steps)},
      {"--gradient_accumulation_steps", text_of(o.gradient_accumulation_steps)},
      {"--dataloader_drop_last", text_of(o.dataloader_drop_last)},
      {"--learning_rate", text_of(o.learning_rate)},
      {"--lr_scheduler_type", scheduler_word(o)},
      {"--warmup_steps", text_of(o.warmup_steps)},
      {"--weight_decay", text_of(o.weight_decay)},
      {"--adam_beta1", text_of(o.adam_beta1)},
      {"--adam_beta2", text_of(o.adam_beta2)},
      {"--adam_epsilon", text_of(o.adam_epsilon)},
      {"--max_grad_norm", text_of(o.max_grad_norm)},
      {"--on_nan", word_for(o.on_nan)},
      {"--seed", text_of(o.seed)},
      {"--data_seed", o.data_seed.value_or(o.seed) == o.seed ? "as --seed" : text_of(*o.data_seed)},
      {"--dropout", o.dropout ? "on" : "off"},
      {"--logging_strategy", word_for(o.logging_strategy)},
      {"--logging_steps", text_of(o.logging_steps)},
      {"--logging_first_step", text_of(o.logging_first_step)},
      {"--eval_strategy", word_for(o.eval_strategy)},
      {"--eval_steps", text_of(o.eval_steps)},
      {"--loss_file", given(o.loss_file)},
      {"--report_to", reports_of(o)},
      {"--resume_from_checkpoint", given(o.resume_from_checkpoint)},
      {"--save_strategy", word_for(o.save_strategy)},
      {"--save_steps", text_of(o.save_steps)},
      {"--save_total_limit", text_of(o.save_total_limit)},
      {"--load_best_model_at_end", text_of(o.load_best_model_at_end)},
      {"--metric_for_best_model, --greater_is_better", best_by(o)},
      {"--ddp_timeout", text_of(o.ddp_timeout)},
      {"--ddp_bucket_cap_mb", o.ddp_bucket_cap_mb ? text_of(*o.ddp_bucket_cap_mb) : "not given"},
      {"--cuda_graph", text_of(o.cuda_graph)},
  };
}

// Files may lie elsewhere on each host: what counts is what is in them.
JobFacts content_facts(const DataSource& data) {
  return {{"what the training images are", "files with CRC-32 " + data.train_checksum},
          {"what the test images are", "files with CRC-32 " + data.test_checksum}};
}

// Left out, beside what the ranks need not agree on either:
//   refused       model, data_seed, dataloader_drop_last: with others no job goes on
//   the optimizer's  learning_rate, weight_decay, adam_*: changed_flags has them
//   the best's    metric_for_best_model, greater_is_better: resume says whether the best model still counts
//   no number     loss_file, predict, resume_from_checkpoint, ddp_timeout, cuda_graph
// num_train_epochs and max_steps are in the number of steps.
FlagValues flags_to_keep(const TrainOptions& o, const DataSource& data, std::uint64_t steps, std::uint32_t world_size) {
  FlagValues flags = {
      {"the number of ranks", text_of(world_size)},
      {"the number of steps", text_of(steps)},
      {"--data_dir", o.data_dir.empty() ? "drawn digits" : o.data_dir},
      {"--data_split", o.data_split.empty() ? "not given" : o.data_split},
      {"the number of test images", text_of(data.test->count())},
      {"--per_device_train_batch_size", text_of(o.per_device_train_batch_size)},
      {"--per_device_eval_batch_size", text_of(o.per_device_eval_batch_size)},
      {"--gradient_accumulation_steps", text_of(o.gradient_accumulation_steps)},
      {"--lr_scheduler_type", scheduler_word(o)},
      {"--warmup_steps", text_of(o.warmup_steps)},
      {"--max_grad_norm", text_of(o.max_grad_norm)},
      {"--on_nan", word_for(o.on_nan)},
      {"the precision", precision_of(o)},
      {"--seed", text_of(o.seed)},
      {"--dropout", o.dropout ? "on" : "off"},
      {"--logging_strategy", word_for(o.logging_strategy)},
      {"--logging_steps", text_of(o.logging_steps)},
      {"--logging_first_step", text_of(o.logging_first_step)},
      {"--eval_strategy", word_for(o.eval_strategy)},
      {"--eval_steps", text_of(o.eval_steps)},
      {"--save_strategy", word_for(o.save_strategy)},
      {"--save_steps", text_of(o.save_steps)},
      {"--save_total_limit", o.save_total_limit == 0 ? "not given" : text_of(o.save_total_limit)},
      {"--load_best_model_at_end", text_of(o.load_best_model_at_end)},
      {"--report_to", reports_of(o)},
      {"--ddp_bucket_cap_mb", o.ddp_bucket_cap_mb ? text_of(*o.ddp_bucket_cap_mb) : "not given"},
  };
  // The same path may lead to other images by now. Drawn ones follow from their number.
  if (!o.data_dir.empty()) {
    flags.emplace_back("the training images' CRC-32", data.train_checksum);
    flags.emplace_back("the test images' CRC-32", data.test_checksum);
  }
  return flags;
}

OptimizerNumbers optimizer_numbers(const TrainOptions& o) {
  return {.learning_rate = o.learning_rate,
          .weight_decay = o.weight_decay,
          .beta1 = o.adam_beta1,
          .beta2 = o.adam_beta2,
          .epsilon = o.adam_epsilon};
}

std::string changed_flags(const TrainingState& then, const OptimizerNumbers& optimizer, const FlagValues& now) {
  std::vector<std::string> kept;
  std::vector<std::string> changed;
  if (then.optimizer) {
    const OptimizerNumbers& old = *then.optimizer;
    const auto compare = [&](const char* flag, double before, double after) {
      if (before != after) kept.push_back(fmt::format("{} {} (and not {})", flag, before, after));
    };
    compare("--learning_rate", old.learning_rate, optimizer.learning_rate);
    compare("--weight_decay", old.weight_decay, optimizer.weight_decay);
    compare("--adam_beta1", old.beta1, optimizer.beta1);
    compare("--adam_beta2", old.beta2, optimizer.beta2);
    compare("--adam_epsilon", old.epsilon, optimizer.epsilon);
  }
  for (const auto& [name, value] : now) {
    const auto old = std::find_if(then.flags.begin(), then.flags.end(),
                                  [&, &known = name](const auto& flag) { return flag.first == known; });
    if (old == then.flags.end() || old->second == value) continue;
    changed.push_back(fmt::format("{} is {} and was {}", name, value, old->second));
  }
  std::string text;
  if (!kept.empty()) {
    text = fmt::format("from the optimizer's state, as in Hugging Face's Trainer: {}", fmt::join(kept, ", "));
  }
  if (!changed.empty()) text += fmt::format("{}{}", text.empty() ? "" : "; ", fmt::join(changed, ", "));
  return text;
}

}  // namespace llmlaunch::trainer
