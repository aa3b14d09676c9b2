/// \file
/// Which checkpoint is the best one, by --metric_for_best_model. Pure; rank 0 decides.
#pragma once

#include <optional>

#include "trainer/course.hpp"
#include "trainer/options.hpp"

namespace llmlaunch::trainer {

/// "eval_loss", "eval_accuracy": the metric's name in a record.
const char* record_name(Metric metric);

/// What --metric_for_best_model, which has to be given, and --greater_is_better say.
Yardstick yardstick(const TrainOptions& options);

/// Whether a checkpoint whose test gave `record` is better than the best one so far. A metric that is none is never
/// better, nor is the worst infinity; equal is not better: all as in Hugging Face's Trainer.
bool is_better(const TrainOptions& options, const LogRecord& record, const std::optional<BestModel>& best);

}  // namespace llmlaunch::trainer
