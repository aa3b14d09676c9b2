/// \file
/// What a job has said of its course so far: the records that reports and checkpoints hold, and which checkpoint is the
/// best. Kept by rank 0.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace llmlaunch::trainer {

/// One moment, with Hugging Face's names: {"loss", 0.5}, {"learning_rate", 1e-3}, or {"eval_loss", 0.4}, ….
struct LogRecord {
  std::uint64_t step = 0;
  double epoch = 0;  ///< passes done, with the part of the last
  std::vector<std::pair<std::string, double>> values;
};

/// The value of that name, if the record has it.
inline std::optional<double> value_in(const LogRecord& record, const std::string& name) {
  for (const auto& [known, value] : record.values) {
    if (known == name) return value;
  }
  return std::nullopt;
}

/// What models are compared by: {"eval_loss", false}. Without a name it is not known: checkpoints did not always tell.
struct Yardstick {
  std::string metric;
  bool greater_is_better = false;
  friend bool operator==(const Yardstick&, const Yardstick&) = default;
};

struct BestModel {
  double metric = 0;
  std::uint64_t step = 0;
  std::string checkpoint;  ///< its folder
  Yardstick by = {};
};

struct Course {
  std::vector<LogRecord> history;
  std::optional<BestModel> best;
};

/// Flags and their values, as they are typed: what a later run compares its own with.
using FlagValues = std::vector<std::pair<std::string, std::string>>;

/// The numbers of the optimizer, which belong to its state.
struct OptimizerNumbers {
  double learning_rate = 0;
  double weight_decay = 0;
  double beta1 = 0;
  double beta2 = 0;
  double epsilon = 0;
};

/// How far the job goes, and how often it does what. Only told.
struct JobPlan {
  std::uint64_t max_steps = 0;
  std::uint64_t num_train_epochs = 0;
  std::uint64_t logging_steps = 0;
  std::uint64_t eval_steps = 0;
  std::uint64_t save_steps = 0;
  std::uint64_t train_batch_size = 0;  ///< of one rank
};

}  // namespace llmlaunch::trainer
