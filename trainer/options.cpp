// What was asked for: the file that the command line names, variables, the command line, and what they say together.
// The table of flags is in option_table.cpp.
#include "trainer/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string_view>
#include <utility>

#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/env.hpp"
#include "trainer/config_file.hpp"
#include "trainer/emnist_splits.hpp"
#include "trainer/file_settings.hpp"
#include "trainer/flag_values.hpp"
#include "trainer/option_table.hpp"
#include "trainer/option_words.hpp"
#include "trainer/step_lines.hpp"
#include "trainer/unknown_flag.hpp"
#include "trainer/variable_settings.hpp"

namespace llmlaunch::trainer {
namespace {

bool is_file_of_settings(std::string_view word) {
  if (word.starts_with('-')) return false;
  return word.ends_with(".json") || word.ends_with(".yaml") || word.ends_with(".yml");
}

/// The file that --config names, or a word without a flag; empty: none.
Result<std::string> file_of_settings(const OptionTable& table, const OptionTable::Typed& typed,
                                     const std::string& config, std::span<const std::string> arguments) {
  std::string file = config;
  for (const std::string& word : typed.extras) {
    if (!is_file_of_settings(word)) {
      const auto at = std::find(arguments.begin(), arguments.end(), word);
      return unknown_word(table.names(), word, static_cast<std::size_t>(at - arguments.begin()) + 1);
    }
    if (!file.empty()) {
      return make_error(Errc::usage, fmt::format("two files of settings: '{}' and '{}'", file, word), {},
                        "one file has all of them; flags change single ones");
    }
    file = word;
  }
  return file;
}

/// A flag in a sentence: typed it has hyphens, and in a file none.
struct Name {
  const char* name;
};

/// What flags say together, and cannot mean.
struct Contradiction {
  std::string flag;     ///< the one to be blamed, without hyphens
  std::string typed;    ///< what is wrong, where that one was typed
  std::string in_file;  ///< where it stands in a file
  std::string hint;
};

using Found = std::optional<Contradiction>;

std::string spelt(Name name, bool typed) {
  return typed ? fmt::format("--{}", name.name) : name.name;
}

template <class T>
const T& spelt(const T& other, bool) {
  return other;
}

template <class Part>
using Spelt = decltype(spelt(std::declval<const Part&>(), true));

template <class... Parts>
Contradiction contradiction(const char* flag, const std::string& hint, fmt::format_string<Spelt<Parts>...> sentence,
                            const Parts&... parts) {
  const auto said = [&](bool typed) { return fmt::format(sentence, spelt(parts, typed)...); };
  return {flag, said(true), said(false), hint};
}

Found check_data(const TrainOptions& o) {
  if (o.data_split.empty()) return {};
  const Name flag{"data_split"};
  if (o.data_dir.empty()) {
    return contradiction("data_split", "it is for EMNIST's files; drawn digits have no splits", "{} needs {}", flag,
                         Name{"data_dir"});
  }
  const EmnistSplit* split = emnist_split(o.data_split);
  if (split == nullptr || is_learnable(*split)) return {};
  return contradiction("data_split", "digits and mnist have ten",
                       "{} {}: it has {} classes, and the networks here tell ten apart", flag, split->name,
                       split->classes);
}

constexpr const char* kLeaveOneOut = "leave one of them out";

/// With these a step is more than one pass and AdamW, or the host decides in the middle of it.
Found check_graph(const TrainOptions& o, const OptionWords& words) {
  if (!o.cuda_graph) return {};
  const Name graph{"cuda_graph"};
  const auto with = [&](const char* other, const char* how) {
    return contradiction("cuda_graph", kLeaveOneOut, "{} and {}{} do not go together", graph, Name{other}, how);
  };
  if (o.gradient_accumulation_steps > 1) return with("gradient_accumulation_steps", " above 1");
  if (o.max_grad_norm > 0) return with("max_grad_norm", " above 0");
  if (o.on_nan == OnNan::skip) return with("on_nan", " skip");
  if (o.precision != Precision::fp16) return {};
  if (words.fp16 == true) return with("fp16", "");
  return contradiction("cuda_graph", fmt::format("{}, or add --fp16 false", kLeaveOneOut),
                       "{} and mixed_precision fp16 ({}) do not go together", graph, env::kMixedPrecision);
}

/// Shares are compared by millionths, as Hugging Face does, for 0.3 is no multiple of 0.1 in binary.
bool is_multiple(double steps, double of) {
  if (steps == of) return true;
  if ((steps < 1) != (of < 1)) return false;
  const double unit = steps < 1 ? 1e6 : 1;
  return std::llround(of * unit) > 0 && std::llround(steps * unit) % std::llround(of * unit) == 0;
}

/// What is saved is what a test found to be the best.
Found check_saves_best(const TrainOptions& o) {
  if (o.save_strategy != SaveStrategy::best) return {};
  const auto needs = [](const char* other, const char* which, const char* hint) {
    return contradiction("save_strategy", hint, "{} best needs {}{}", Name{"save_strategy"}, Name{other}, which);
  };
  if (o.eval_strategy == IntervalStrategy::no && !o.metric_for_best_model) {
    return contradiction("save_strategy", "that is loss or accuracy", "{} best needs {} steps or epoch, and {}",
                         Name{"save_strategy"}, Name{"eval_strategy"}, Name{"metric_for_best_model"});
  }
  if (o.eval_strategy == IntervalStrategy::no) return needs("eval_strategy", " steps or epoch", "");
  if (!o.metric_for_best_model) return needs("metric_for_best_model", "", "it is loss or accuracy");
  return {};
}

/// As Hugging Face's: a checkpoint can be the best one only where it was tested.
Found check_best(const TrainOptions& o) {
  if (!o.load_best_model_at_end || o.save_strategy == SaveStrategy::best) return {};
  const char* const flag = "load_best_model_at_end";
  const std::string evaluates = word_for(o.eval_strategy);
  const std::string saves = word_for(o.save_strategy);
  if (evaluates != saves || o.save_strategy == SaveStrategy::no) {
    return contradiction(flag, "make both steps or both epoch, or --save_strategy best",
                         "{} needs one strategy to test and to save, and {} is {} and {} {}", Name{flag},
                         Name{"eval_strategy"}, evaluates, Name{"save_strategy"}, saves);
  }
  const double every = o.eval_steps > 0 ? o.eval_steps : o.logging_steps;
  const bool saves_on_the_way = o.save_steps > 0;  // else the last step, which is tested, too
  if (o.save_strategy == SaveStrategy::steps && saves_on_the_way && !is_multiple(o.save_steps, every)) {
    const bool mixed = (o.save_steps < 1) != (every < 1);
    return contradiction(flag, mixed ? "make both numbers of steps, or both shares" : "",
                         "{} needs {} to be a multiple of {}, and they are {} and {}", Name{flag}, Name{"save_steps"},
                         Name{"eval_steps"}, o.save_steps, every);
  }
  return {};
}

/// A file may have save_steps beside save_strategy no, as Hugging Face's do; who types it means something by it.
Found check_folders(const TrainOptions& o, const OptionTable& table) {
  const auto needs = [](const char* flag, const char* how, const char* other, const char* which) {
    return contradiction(flag, "", "{}{} needs {}{}", Name{flag}, how, Name{other}, which);
  };
  if (table.has("eval_steps") && o.eval_strategy != IntervalStrategy::steps) {
    return needs("eval_steps", "", "eval_strategy", " steps");
  }
  if (table.has("save_steps") && o.save_strategy != SaveStrategy::steps) {
    return contradiction("save_steps", "", "{} needs {} and {} steps", Name{"save_steps"}, Name{"output_dir"},
                         Name{"save_strategy"});
  }
  if (!o.output_dir.empty()) return {};
  if (o.save_strategy != SaveStrategy::no) return needs("save_strategy", "", "output_dir", "");
  if (o.resume_from_checkpoint == kLastCheckpoint) {
    return needs("resume_from_checkpoint", " true", "output_dir", "");
  }
  if (o.logging_dir.empty() && (o.report_json || o.report_tensorboard)) {
    return contradiction("report_to", "", "{} needs {} or {}", Name{"report_to"}, Name{"output_dir"},
                         Name{"logging_dir"});
  }
  return {};
}

Found check_files(const TrainOptions& o) {
  const std::filesystem::path folder = o.logging_dir.empty() ? o.output_dir : o.logging_dir;
  for (const auto& [flag, path] : {std::pair("loss_file", &o.loss_file), std::pair("predict", &o.predict)}) {
    if (!o.report_json || path->empty()) continue;
    if (std::filesystem::path(*path).lexically_normal() != (folder / kMetricsFile).lexically_normal()) continue;
    return contradiction(flag, "name another file", "{} names the file that {} json writes, {}", Name{flag},
                         Name{"report_to"}, *path);
  }
  if (o.predict.empty() || o.loss_file.empty()) return {};
  const std::filesystem::path predict(o.predict), losses(o.loss_file);
  if (predict.lexically_normal() != losses.lexically_normal()) return {};
  return contradiction("predict", "give each its own", "{} and {} name the same file, {}", Name{"predict"},
                       Name{"loss_file"}, o.predict);
}

/// Hugging Face's Trainer does nothing for it then, unsaid.
Found check_any_best(const TrainOptions& o) {
  const bool none = o.eval_strategy == IntervalStrategy::no && o.save_strategy == SaveStrategy::no;
  if (!o.load_best_model_at_end || !none) return {};
  return contradiction("load_best_model_at_end", "make both steps or both epoch, or leave it out",
                       "{}: no checkpoint is tested and none is saved ({} and {} are no), so that none can be the best",
                       Name{"load_best_model_at_end"}, Name{"eval_strategy"}, Name{"save_strategy"});
}

/// accelerate sets its variable for mixed_precision in its YAML.
void take_precision(const OptionWords& words, const std::string& asked, TrainOptions& o) {
  const bool said = words.bf16.value_or(false) || words.fp16.value_or(false);
  if (o.tf32) o.precision = Precision::tf32;
  if (words.bf16.value_or(!said && asked == "bf16")) o.precision = Precision::bf16;
  if (words.fp16.value_or(!said && asked == "fp16")) o.precision = Precision::fp16;
  const bool known = asked.empty() || asked == "no" || asked == "bf16" || asked == "fp16";
  if (words.bf16 || words.fp16 || known) return;
  o.notes.push_back(fmt::format("mixed_precision {} ({}) has no effect: it is none of no, bf16 and fp16",
                                cut_text(asked, kShownWord), env::kMixedPrecision));
}

Found take_words(const OptionWords& words, TrainOptions& o) {
  constexpr std::string_view kContradict = "{} and {}{} contradict each other";
  if (words.use_cpu.value_or(false)) {
    if (o.device == DeviceChoice::cuda) {
      return contradiction("use_cpu", "", kContradict, Name{"use_cpu"}, Name{"device"}, " cuda");
    }
    o.device = DeviceChoice::cpu;
  }
  if (words.disable_tqdm.value_or(false)) {
    if (o.progress == Progress::always) {
      return contradiction("disable_tqdm", "", kContradict, Name{"disable_tqdm"}, Name{"progress"}, " always");
    }
    o.progress = Progress::never;
  }
  if (words.bf16 == true && words.fp16 == true) {
    return contradiction("fp16", kLeaveOneOut, "{} and {} do not go together", Name{"fp16"}, Name{"bf16"});
  }
  const auto& reports = words.report_to;
  const auto has = [&](const char* word) { return std::find(reports.begin(), reports.end(), word) != reports.end(); };
  if (has("none") && reports.size() > 1) {
    return contradiction("report_to", "", "{}: none and other words contradict each other", Name{"report_to"});
  }
  o.report_json = has("json") || has("all");
  o.report_tensorboard = has("tensorboard") || has("all");
  return {};
}

/// What was said beneath the command line.
struct Beneath {
  const AppliedFile& file;
  const VariableSettings& variables;
  bool has(const std::string& option) const { return variables.contains(option) || file.places.contains(option); }
};

/// Where an option was said: the command line wins over variables, and these over the file.
enum class Place { nowhere, file, variable, typed };

Place place_of(const OptionTable& table, const Beneath& beneath, const char* option) {
  if (table.has(option)) return Place::typed;
  if (beneath.variables.contains(option)) return Place::variable;
  return beneath.file.places.contains(option) ? Place::file : Place::nowhere;
}

/// transformers 4 writes a logging_dir into every file, beside report_to.
void note_unused_folder(const OptionTable& table, const Beneath& beneath, TrainOptions& o) {
  const bool meant = table.has("logging_dir") || (beneath.has("logging_dir") && !beneath.has("report_to"));
  if (!meant || o.report_json || o.report_tensorboard) return;
  o.notes.push_back(fmt::format("--logging_dir: nothing is written to {}; --report_to json or tensorboard asks for it",
                                o.logging_dir));
}

/// What is asked of checkpoints where there are none, or of a comparison that nobody makes. A typed --save_steps is
/// refused; a file of Hugging Face's always has save_steps, and asks for something only with another than the default.
void note_unused_saving(TrainOptions& o, bool names_metric) {
  const auto note = [&](const std::string& flag, const char* why) {
    o.notes.push_back(fmt::format("{}: {}; that needs {}", flag, why,
                                  o.output_dir.empty() ? "--output_dir" : "another --save_strategy than no"));
  };
  if (o.save_strategy == SaveStrategy::no) {
    constexpr const char* kNone = "no checkpoints are written";
    if (o.save_total_limit > 0) note(fmt::format("--save_total_limit {}", o.save_total_limit), kNone);
    if (o.output_dir.empty() && o.save_steps != TrainOptions().save_steps) {
      note(fmt::format("--save_steps {}", o.save_steps), kNone);
    }
    if (names_metric) note("--metric_for_best_model", "no checkpoints are written, of which one could be the best");
  }
  if (o.greater_is_better && !o.metric_for_best_model) {
    o.notes.emplace_back("--greater_is_better: nothing is compared; that needs --metric_for_best_model");
  }
}

/// Hugging Face's constant has none either, and says nothing of it.
void note_no_warmup(TrainOptions& o) {
  if (o.lr_scheduler_type != SchedulerType::constant || o.warmup_steps == 0) return;
  o.notes.push_back(
      fmt::format("--warmup_steps {}: --lr_scheduler_type constant has no warm-up, as in Hugging Face's "
                  "Trainer; constant_with_warmup has one",
                  o.warmup_steps));
}

Found settle(const OptionTable& table, const Beneath& beneath, const std::string& mixed_precision, OptionWords& words,
             TrainOptions& o) {
  const auto said = [&](const char* flag) { return table.has(flag) || beneath.has(flag); };
  // A device, a progress or a precision of a higher place wins over the other word for it of a lower one.
  const auto wins = [&](const char* one, const char* other) {
    return place_of(table, beneath, one) > place_of(table, beneath, other);
  };
  if (wins("device", "use_cpu")) words.use_cpu.reset();
  if (wins("progress", "disable_tqdm")) words.disable_tqdm.reset();
  if (wins("use_cpu", "device") && said("device")) o.device = DeviceChoice::automatic;
  if (wins("disable_tqdm", "progress") && words.disable_tqdm == true) o.progress = Progress::automatic;
  if (wins("fp16", "bf16") && words.fp16 == true) words.bf16.reset();
  if (wins("bf16", "fp16") && words.bf16 == true) words.fp16.reset();
  if (auto found = take_words(words, o)) return found;
  take_precision(words, mixed_precision, o);
  if (!said("save_strategy") && !o.output_dir.empty()) o.save_strategy = SaveStrategy::steps;
  std::string& resume = o.resume_from_checkpoint;
  // A folder of such a name is written ./on.
  if (resume.size() > 1) {
    const auto truth = truth_in(resume);
    if (truth == true) resume = kLastCheckpoint;
    if (truth == false) resume.clear();
  }
  if (o.load_best_model_at_end && !o.metric_for_best_model) o.metric_for_best_model = Metric::loss;
  note_unused_folder(table, beneath, o);
  note_no_warmup(o);
  note_unused_saving(o, said("metric_for_best_model"));
  if (auto found = check_data(o)) return found;
  if (auto found = check_graph(o, words)) return found;
  if (auto found = check_folders(o, table)) return found;
  if (auto found = check_files(o)) return found;
  if (auto found = check_saves_best(o)) return found;
  if (auto found = check_any_best(o)) return found;
  return check_best(o);
}

}  // namespace

Result<void> expand_home(TrainOptions& options, const std::string& home) {
  for (std::string* path : {&options.export_dataset, &options.data_dir, &options.output_dir, &options.logging_dir,
                            &options.loss_file, &options.predict, &options.resume_from_checkpoint}) {
    if (*path != "~" && !path->starts_with("~/")) continue;
    if (home.empty()) {
      return make_error(Errc::invalid_config,
                        "nobody knows where ~ is: HOME is not set, and the user database has none", *path,
                        "write the path in full, or set HOME");
    }
    path->replace(0, 1, home);
  }
  return ok;
}

Result<ParsedOptions> parse_options(std::span<const std::string> arguments, const ReadText& read,
                                    const std::string& mixed_precision, const VariableSettings& variables) {
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
    const auto named = file_of_settings(table, *typed, typed_words.config, arguments);
    if (!named) return named.error();
    const auto variable = variables.find("config");
    file_name = named->empty() && variable != variables.end() ? variable->second : *named;
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
  if (auto applied = apply_variables(variables, table); !applied) return applied.error();
  if (const auto typed = table.parse(arguments); !typed) return typed.error();
  const Beneath beneath{.file = from_file, .variables = variables};
  const auto found = settle(table, beneath, mixed_precision, words, parsed.options);
  if (!found) return parsed;
  if (table.has(found->flag) || !beneath.has(found->flag)) {
    return make_error(Errc::usage, found->typed, {}, found->hint);
  }
  if (variables.contains(found->flag)) {
    return make_error(Errc::invalid_config, found->in_file, "environment variable " + variable_of(found->flag),
                      found->hint);
  }
  const auto place = from_file.places.find(found->flag);
  return file->error_at(place->second, found->in_file, found->hint);
}

}  // namespace llmlaunch::trainer
