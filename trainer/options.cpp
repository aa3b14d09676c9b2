// What was asked for: the file that the command line names, then the command line, then what they say together. The
// table of flags is in option_table.cpp.
#include "trainer/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string_view>

#include "trainer/config_file.hpp"
#include "trainer/file_settings.hpp"
#include "trainer/flag_values.hpp"
#include "trainer/option_table.hpp"
#include "trainer/unknown_flag.hpp"

namespace llmlaunch::trainer {
namespace {

bool is_file_of_settings(std::string_view word) {
  if (word.starts_with('-')) return false;
  return word.ends_with(".json") || word.ends_with(".yaml") || word.ends_with(".yml");
}

/// The file that --config names, or a word without a flag; empty: none.
Result<std::string> file_of_settings(const OptionTable& table, const OptionTable::Typed& typed,
                                     const std::string& config) {
  std::string file = config;
  for (const std::string& word : typed.extras) {
    if (!is_file_of_settings(word)) return unknown_word(table.names(), word);
    if (!file.empty()) {
      return make_error(Errc::usage, fmt::format("two files of settings: '{}' and '{}'", file, word), {},
                        "one file has all of them; flags change single ones");
    }
    file = word;
  }
  if (table.has("config") && file.empty()) {
    return make_error(Errc::usage, "--config: needs the name of a file", {}, kSeeHelp);
  }
  return file;
}

/// What flags say together, and cannot mean.
struct Contradiction {
  std::string flag;  ///< the one to be blamed, without hyphens
  std::string what;
  std::string hint = {};
};

using Found = std::optional<Contradiction>;

const char* word_of(IntervalStrategy strategy) {
  return strategy == IntervalStrategy::no ? "no" : strategy == IntervalStrategy::steps ? "steps" : "epoch";
}

/// With these a step is more than one pass and AdamW, or the host decides in the middle of it.
Found check_graph(const TrainOptions& o) {
  if (!o.cuda_graph) return {};
  const std::string_view other = o.gradient_accumulation_steps > 1 ? "--gradient_accumulation_steps above 1"
                                 : o.max_grad_norm > 0             ? "--max_grad_norm above 0"
                                 : o.on_nan == OnNan::skip         ? "--on_nan skip"
                                 : o.fp16 == true                  ? "--fp16"
                                                                   : "";
  if (other.empty()) return {};
  return Contradiction{"cuda_graph", fmt::format("--cuda_graph and {} do not go together", other),
                       "leave one of them out"};
}

/// Shares are compared by millionths, as Hugging Face does, for 0.3 is no multiple of 0.1 in binary.
bool is_multiple(double steps, double of) {
  if (steps == of) return true;
  if ((steps < 1) != (of < 1)) return false;
  const double unit = steps < 1 ? 1e6 : 1;
  return std::llround(of * unit) > 0 && std::llround(steps * unit) % std::llround(of * unit) == 0;
}

/// As Hugging Face's: a checkpoint can be the best one only where it was tested.
Found check_best(const TrainOptions& o) {
  if (!o.load_best_model_at_end) return {};
  const char* const flag = "load_best_model_at_end";
  const std::string_view evaluates = word_of(o.eval_strategy);
  const std::string_view saves = word_of(o.save_strategy);
  if (evaluates != saves || saves == "no") {
    return Contradiction{flag,
                         fmt::format("--load_best_model_at_end needs one strategy to test and to save, and "
                                     "--eval_strategy is {} and --save_strategy {}",
                                     evaluates, saves),
                         "make both steps or both epoch"};
  }
  const double every = o.eval_steps > 0 ? o.eval_steps : o.logging_steps;
  if (o.save_strategy == IntervalStrategy::steps && !is_multiple(o.save_steps, every)) {
    return Contradiction{flag,
                         fmt::format("--load_best_model_at_end needs --save_steps to be a multiple of "
                                     "--eval_steps, and they are {} and {}",
                                     o.save_steps, every),
                         (o.save_steps < 1) != (every < 1) ? "make both numbers of steps, or both shares" : ""};
  }
  return {};
}

/// A file may have save_steps beside save_strategy no, as Hugging Face's do; who types it means something by it.
Found check_folders(const TrainOptions& o, const OptionTable& table) {
  if (table.has("eval_steps") && o.eval_strategy != IntervalStrategy::steps) {
    return Contradiction{"eval_steps", "--eval_steps needs --eval_strategy steps"};
  }
  if (table.has("save_steps") && o.save_strategy != IntervalStrategy::steps) {
    return Contradiction{"save_steps", "--save_steps needs --output_dir and --save_strategy steps"};
  }
  if (!o.output_dir.empty()) return {};
  if (o.save_strategy != IntervalStrategy::no)
    return Contradiction{"save_strategy", "--save_strategy needs --output_dir"};
  if (o.resume_from_checkpoint == kLastCheckpoint) {
    return Contradiction{"resume_from_checkpoint", "--resume_from_checkpoint true needs --output_dir"};
  }
  if (o.logging_dir.empty() && (o.report_json || o.report_tensorboard)) {
    return Contradiction{"report_to", "--report_to needs --output_dir or --logging_dir"};
  }
  return {};
}

Found check_files(const TrainOptions& o) {
  if (o.predict.empty() || o.loss_file.empty()) return {};
  const std::filesystem::path predict(o.predict), losses(o.loss_file);
  if (predict.lexically_normal() != losses.lexically_normal()) return {};
  return Contradiction{"predict", fmt::format("--predict and --loss_file name the same file, {}", o.predict),
                       "give each its own"};
}

Found take_words(const OptionWords& words, TrainOptions& o) {
  if (words.use_cpu.value_or(false)) {
    if (o.device == DeviceChoice::cuda) {
      return Contradiction{"use_cpu", "--use_cpu and --device cuda contradict each other"};
    }
    o.device = DeviceChoice::cpu;
  }
  if (words.disable_tqdm.value_or(false)) {
    if (o.progress == Progress::always) {
      return Contradiction{"disable_tqdm", "--disable_tqdm and --progress always contradict each other"};
    }
    o.progress = Progress::never;
  }
  if (words.bf16) o.bf16 = words.bf16;
  if (words.fp16) o.fp16 = words.fp16;
  if (o.bf16 == true && o.fp16 == true) {
    return Contradiction{"fp16", "--fp16 and --bf16 do not go together", "leave one of them out"};
  }
  const auto& reports = words.report_to;
  const auto has = [&](const char* word) { return std::find(reports.begin(), reports.end(), word) != reports.end(); };
  if (has("none") && reports.size() > 1) {
    return Contradiction{"report_to", "--report_to: none and other words contradict each other"};
  }
  o.report_json = has("json") || has("all");
  o.report_tensorboard = has("tensorboard") || has("all");
  return {};
}

/// transformers 4 writes a logging_dir into every file, beside report_to.
void note_unused_folder(const OptionTable& table, const AppliedFile& from_file, TrainOptions& o) {
  const bool meant =
      table.has("logging_dir") || (from_file.places.contains("logging_dir") && !from_file.places.contains("report_to"));
  if (!meant || o.report_json || o.report_tensorboard) return;
  o.notes.push_back(fmt::format("--logging_dir: nothing is written to {}; --report_to json or tensorboard asks for it",
                                o.logging_dir));
}

Found settle(const OptionTable& table, const AppliedFile& from_file, OptionWords& words, TrainOptions& o) {
  const auto said = [&](const char* flag) { return table.has(flag) || from_file.places.contains(flag); };
  // A device or a precision that is typed wins over a file's other word for it.
  if (table.has("device") && !table.has("use_cpu")) words.use_cpu.reset();
  if (table.has("progress") && !table.has("disable_tqdm")) words.disable_tqdm.reset();
  if (table.has("use_cpu") && !table.has("device") && from_file.places.contains("device")) {
    o.device = DeviceChoice::automatic;
  }
  if (table.has("fp16") && !table.has("bf16") && words.fp16 == true) words.bf16.reset();
  if (table.has("bf16") && !table.has("fp16") && words.bf16 == true) words.fp16.reset();
  if (auto found = take_words(words, o)) return found;
  if (!said("save_strategy") && !o.output_dir.empty()) o.save_strategy = IntervalStrategy::steps;
  std::string& resume = o.resume_from_checkpoint;
  // A folder of such a name is written ./on.
  if (resume.size() > 1) {
    const auto truth = truth_in(resume);
    if (truth == true) resume = kLastCheckpoint;
    if (truth == false) resume.clear();
  }
  if (o.load_best_model_at_end && !o.metric_for_best_model) o.metric_for_best_model = Metric::loss;
  note_unused_folder(table, from_file, o);
  if (auto found = check_graph(o)) return found;
  if (auto found = check_folders(o, table)) return found;
  if (auto found = check_files(o)) return found;
  return check_best(o);
}

std::string without_hyphens(std::string text) {
  for (std::size_t at = text.find("--"); at != std::string::npos; at = text.find("--")) text.erase(at, 2);
  return text;
}

}  // namespace

Result<ParsedOptions> parse_options(std::span<const std::string> arguments, const ReadText& read) {
  ParsedOptions parsed;
  std::string file_name;
  {
    // Read once for the file's name and for what is wrong in any case; the values count only after the file's.
    TrainOptions typed_options;
    OptionWords typed_words;
    OptionTable table(typed_options, typed_words);
    const auto typed = table.parse(arguments);
    if (!typed) return typed.error();
    if (!typed->answer.empty()) {
      parsed.answer = typed->answer;
      return parsed;
    }
    const auto named = file_of_settings(table, *typed, typed_words.config);
    if (!named) return named.error();
    file_name = *named;
  }
  OptionWords words;
  OptionTable table(parsed.options, words);
  std::optional<ConfigFile> file;
  AppliedFile from_file;
  if (!file_name.empty()) {
    auto text = read(file_name);
    if (!text) return text.error();
    auto read_file = ConfigFile::parse(file_name, std::move(*text));
    if (!read_file) return read_file.error();
    file = std::move(*read_file);
    auto applied = apply_file(*file, table);
    if (!applied) return applied.error();
    from_file = std::move(*applied);
    // As for Hugging Face's Trainer: a file's false says nothing against mixed_precision.
    if (words.bf16 == false) words.bf16.reset();
    if (words.fp16 == false) words.fp16.reset();
    if (!from_file.note.empty()) parsed.options.notes.push_back(from_file.note);
  }
  if (const auto typed = table.parse(arguments); !typed) return typed.error();
  const auto found = settle(table, from_file, words, parsed.options);
  if (!found) return parsed;
  const auto place = from_file.places.find(found->flag);
  if (place == from_file.places.end() || table.has(found->flag)) {
    return make_error(Errc::usage, found->what, {}, found->hint);
  }
  return file->error_at(place->second, without_hyphens(found->what), without_hyphens(found->hint));
}

}  // namespace llmlaunch::trainer
