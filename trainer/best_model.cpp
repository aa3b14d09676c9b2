// The comparison of two checkpoints. Called when one is saved.
#include "trainer/best_model.hpp"

#include <limits>

namespace llmlaunch::trainer {

const char* record_name(Metric metric) {
  return metric == Metric::loss ? "eval_loss" : "eval_accuracy";
}

Yardstick yardstick(const TrainOptions& options) {
  const Metric metric = *options.metric_for_best_model;
  return {record_name(metric), options.greater_is_better.value_or(metric == Metric::accuracy)};
}

bool is_better(const TrainOptions& options, const LogRecord& record, const std::optional<BestModel>& best) {
  if (!options.metric_for_best_model) return false;
  const auto metric = value_in(record, record_name(*options.metric_for_best_model));
  if (!metric) return false;
  const bool greater = yardstick(options).greater_is_better;
  const double worst = std::numeric_limits<double>::infinity() * (greater ? -1 : 1);
  const double before = best ? best->metric : worst;
  return greater ? *metric > before : *metric < before;  // and a NaN is neither
}

}  // namespace llmlaunch::trainer
