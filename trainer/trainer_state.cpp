// TrainingState ↔ JSON. Called by checkpoint.cpp.
#include "trainer/trainer_state.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

namespace llmlaunch::trainer {
namespace {

using Ordered = nlohmann::ordered_json;
using Document = Ordered;  // a record that is written again has its numbers where they were

constexpr std::uint64_t kOldVersion = 1;
constexpr std::uint64_t kVersion = 2;

/// JSON has no word for a number that is none.
Ordered number_or_null(double value) {
  return std::isfinite(value) ? Ordered(value) : Ordered(nullptr);
}

Ordered record_json(const LogRecord& record) {
  Ordered entry = {{"epoch", record.epoch}};
  for (const auto& [name, value] : record.values) entry[name] = number_or_null(value);
  entry["step"] = record.step;
  return entry;
}

template <class T>
bool take(const Document& document, const char* key, T& into) {
  const auto found = document.find(key);
  if (found == document.end()) return false;
  const bool fits = std::is_same_v<T, bool>     ? found->is_boolean()
                    : std::is_same_v<T, double> ? found->is_number()
                                                : found->is_number_unsigned();
  if (fits) into = found->get<T>();
  return fits;
}

Error unreadable(const std::string& path, std::string what) {
  return make_error(Errc::invalid_config, std::move(what), path);
}

Result<Document> parsed(std::string_view text, const std::string& path) {
  Document document = Document::parse(text, nullptr, false);
  if (!document.is_object()) return unreadable(path, "is no JSON mapping");
  return document;
}

Result<void> checked_version(const Document& document, std::uint64_t expected, const std::string& path) {
  std::uint64_t version = 0;
  if (take(document, "version", version) && version == expected) return ok;
  return unreadable(path, fmt::format("is of version {}; this program reads {}", version, expected));
}

Result<void> take_model(const Document& document, const std::string& path, TrainingState& state) {
  const auto name = document.find("model");
  if (name == document.end()) {
    state.model = &basic_net();  // from before there were others
    return ok;
  }
  if (!name->is_string()) return unreadable(path, "names no model");
  state.model = find_model(name->get<std::string>());
  if (state.model != nullptr) return ok;
  return unreadable(path,
                    fmt::format("is of model '{}'; this program knows {}", name->get<std::string>(), model_names()));
}

constexpr const char* kLacks = "lacks a value, or has one of another type";

/// What is subtracted from the steps later.
Result<void> check_skipped(const std::string& path, const TrainingState& state) {
  if (state.skipped <= state.step && state.loss_scale.skipped <= state.step - state.skipped) return ok;
  return unreadable(
      path, fmt::format("counts {} + {} skipped steps of {}", state.skipped, state.loss_scale.skipped, state.step));
}

/// What both versions have.
bool take_job(const Document& document, TrainingState& state) {
  SampleAccounting& a = state.accounting;
  return take(document, "skipped_steps", state.skipped) && take(document, "seed", state.seed) &&
         take(document, "world_size", state.world_size) && take(document, "train_samples", a.images) &&
         take(document, "steps_per_epoch", a.steps_per_epoch) && take(document, "data_seed", a.data_seed) &&
         take(document, "dataloader_drop_last", a.drop_last);
}

bool take_record(const Document& entry, LogRecord& record) {
  if (!entry.is_object() || !take(entry, "step", record.step)) return false;
  for (const auto& [name, value] : entry.items()) {
    if (name == "step") continue;
    if (!value.is_number() && !value.is_null()) return false;
    const double number = value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
    if (name == "epoch") {
      record.epoch = number;
    } else {
      record.values.emplace_back(name, number);
    }
  }
  return true;
}

bool take_history(const Document& document, Course& course) {
  const auto entries = document.find("log_history");
  if (entries == document.end() || !entries->is_array()) return false;
  for (const Document& entry : *entries) {
    if (!take_record(entry, course.history.emplace_back())) return false;
  }
  return true;
}

bool take_best(const Document& document, Course& course) {
  const auto metric = document.find("best_metric");
  if (metric == document.end() || metric->is_null()) return metric != document.end();
  BestModel best;
  const auto folder = document.find("best_model_checkpoint");
  if (!take(document, "best_metric", best.metric) || !take(document, "best_global_step", best.step) ||
      folder == document.end() || !folder->is_string()) {
    return false;
  }
  best.checkpoint = folder->get<std::string>();
  course.best = best;
  return true;
}

bool take_optimizer(const Document& document, TrainingState& state) {
  const auto entry = document.find("optimizer");
  if (entry == document.end() || !entry->is_object()) return false;
  OptimizerNumbers numbers;
  const bool whole = take(*entry, "learning_rate", numbers.learning_rate) &&
                     take(*entry, "weight_decay", numbers.weight_decay) && take(*entry, "adam_beta1", numbers.beta1) &&
                     take(*entry, "adam_beta2", numbers.beta2) && take(*entry, "adam_epsilon", numbers.epsilon);
  if (whole) state.optimizer = numbers;
  return whole;
}

/// By what the best model, of the other file, is the best.
bool take_yardstick(const Document& document, Course& course) {
  const auto entry = document.find("best_by");
  if (entry == document.end() || !course.best) return true;
  if (!entry->is_object()) return false;
  const auto metric = entry->find("metric");
  if (metric == entry->end() || !metric->is_string()) return false;
  course.best->by.metric = metric->get<std::string>();
  return take(*entry, "greater_is_better", course.best->by.greater_is_better);
}

bool take_loss_scale(const Document& document, LossScale& scale) {
  const auto entry = document.find("loss_scale");
  if (entry == document.end()) return true;
  double factor = 0;
  std::uint64_t good_steps = 0;
  if (!entry->is_object() || !take(*entry, "factor", factor) || !take(*entry, "good_steps", good_steps) ||
      !take(*entry, "skipped_steps", scale.skipped)) {
    return false;
  }
  using Float = std::numeric_limits<float>;
  if (!(factor >= Float::min() && factor <= Float::max()) || good_steps >= kGrowthInterval) return false;
  scale.factor = static_cast<float>(factor);
  scale.good_steps = static_cast<std::uint32_t>(good_steps);
  return true;
}

bool take_flags(const Document& document, TrainingState& state) {
  const auto entry = document.find("flags");
  if (entry == document.end() || !entry->is_object()) return false;
  for (const auto& [name, value] : entry->items()) {
    if (!value.is_string()) return false;
    state.flags.emplace_back(name, value.get<std::string>());
  }
  return true;
}

}  // namespace

std::string trainer_state_text(const TrainingState& state) {
  Ordered history = Ordered::array();
  for (const LogRecord& record : state.course.history) history.push_back(record_json(record));
  const auto& best = state.course.best;
  const Ordered document = {{"best_global_step", best ? Ordered(best->step) : Ordered(nullptr)},
                            {"best_metric", best ? number_or_null(best->metric) : Ordered(nullptr)},
                            {"best_model_checkpoint", best ? Ordered(best->checkpoint) : Ordered(nullptr)},
                            {"epoch", state.epoch},
                            {"eval_steps", state.plan.eval_steps},
                            {"global_step", state.step},
                            {"is_hyper_param_search", false},
                            {"is_local_process_zero", true},
                            {"is_world_process_zero", true},
                            {"log_history", history},
                            {"logging_steps", state.plan.logging_steps},
                            {"max_steps", state.plan.max_steps},
                            {"num_input_tokens_seen", 0},
                            {"num_train_epochs", state.plan.num_train_epochs},
                            {"save_steps", state.plan.save_steps},
                            {"stateful_callbacks", Ordered::object()},
                            {"total_flos", 0.0},
                            {"train_batch_size", state.plan.train_batch_size},
                            {"trial_name", nullptr},
                            {"trial_params", nullptr}};
  return document.dump(2, ' ', false, Ordered::error_handler_t::replace) + "\n";
}

std::string own_state_text(const TrainingState& state) {
  const SampleAccounting& a = state.accounting;
  Ordered document = {{"version", kVersion},
                      {"model", state.model->name},
                      {"skipped_steps", state.skipped},
                      {"seed", state.seed},
                      {"world_size", state.world_size},
                      {"train_samples", a.images},
                      {"images_per_step", a.images_per_step},
                      {"steps_per_epoch", a.steps_per_epoch},
                      {"data_seed", a.data_seed},
                      {"dataloader_drop_last", a.drop_last}};
  if (state.optimizer) {
    document["optimizer"] = {{"learning_rate", state.optimizer->learning_rate},
                             {"weight_decay", state.optimizer->weight_decay},
                             {"adam_beta1", state.optimizer->beta1},
                             {"adam_beta2", state.optimizer->beta2},
                             {"adam_epsilon", state.optimizer->epsilon}};
  }
  if (const LossScale& scale = state.loss_scale; scale != LossScale{}) {
    document["loss_scale"] = {
        {"factor", scale.factor}, {"good_steps", scale.good_steps}, {"skipped_steps", scale.skipped}};
  }
  if (const auto& best = state.course.best; best && !best->by.metric.empty()) {
    document["best_by"] = {{"metric", best->by.metric}, {"greater_is_better", best->by.greater_is_better}};
  }
  Ordered flags = Ordered::object();
  for (const auto& [name, value] : state.flags) flags[name] = value;
  document["flags"] = flags;
  return document.dump(2, ' ', false, Ordered::error_handler_t::replace) + "\n";
}

bool is_old_trainer_state(std::string_view text) {
  const Document document = Document::parse(text, nullptr, false);
  return document.is_object() && document.contains("version");
}

Result<void> take_trainer_state(std::string_view text, const std::string& path, TrainingState& state) {
  const auto document = parsed(text, path);
  if (!document) return document.error();
  const bool whole = take(*document, "global_step", state.step) && take(*document, "epoch", state.epoch) &&
                     take_history(*document, state.course) && take_best(*document, state.course);
  return whole ? Result<void>(ok) : unreadable(path, kLacks);
}

Result<void> take_own_state(std::string_view text, const std::string& path, TrainingState& state) {
  const auto document = parsed(text, path);
  if (!document) return document.error();
  if (auto known = checked_version(*document, kVersion, path); !known) return known;
  const bool whole = take_job(*document, state) &&
                     take(*document, "images_per_step", state.accounting.images_per_step) &&
                     (!document->contains("optimizer") || take_optimizer(*document, state)) &&
                     take_loss_scale(*document, state.loss_scale) && take_yardstick(*document, state.course) &&
                     take_flags(*document, state);
  if (!whole) return unreadable(path, kLacks);
  if (auto counted = check_skipped(path, state); !counted) return counted;
  return take_model(*document, path, state);
}

Result<void> take_old_state(std::string_view text, const std::string& path, TrainingState& state) {
  const auto document = parsed(text, path);
  if (!document) return document.error();
  if (auto known = checked_version(*document, kOldVersion, path); !known) return known;
  const bool whole = take(*document, "global_step", state.step) && take(*document, "epoch", state.epoch) &&
                     take_job(*document, state) &&
                     take(*document, "train_batch_size", state.accounting.images_per_step);
  if (!whole) return unreadable(path, kLacks);
  if (auto counted = check_skipped(path, state); !counted) return counted;
  return take_model(*document, path, state);
}

}  // namespace llmlaunch::trainer
