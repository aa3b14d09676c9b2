// The comparison of two checkpoints. Called when one is saved.
#include "trainer/best_model.hpp"

#include <cmath>

namespace llmlaunch::trainer {

const char* record_name(Metric metric) {
  return metric == Metric::loss ? "eval_loss" : "eval_accuracy";
}

bool is_better(const TrainOptions& options, const LogRecord& record, const std::optional<BestModel>& best) {
  if (!options.metric_for_best_model) return false;
  const auto metric = value_in(record, record_name(*options.metric_for_best_model));
  if (!metric || std::isnan(*metric)) return false;
  if (!best) return true;
  const bool greater = options.greater_is_better.value_or(*options.metric_for_best_model == Metric::accuracy);
  return greater ? *metric > best->metric : *metric < best->metric;
}

}  // namespace llmlaunch::trainer
