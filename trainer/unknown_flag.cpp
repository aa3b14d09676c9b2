// The words for words that are not understood. Called by parse_options.
#include "trainer/unknown_flag.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/nearest.hpp"
#include "trainer/flag_values.hpp"
#include "trainer/known_arguments.hpp"

namespace llmlaunch::trainer {
namespace {

bool is_among(std::span<const std::string> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// "--Per-device" → "per_device"; "-seed" → "seed".
std::string bare_name(std::string_view word) {
  std::string name(word.substr(std::min(word.find_first_not_of('-'), word.size())));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

Error foreign(const KnownArgument& known) {
  return make_error(
      Errc::usage,
      fmt::format("--{} is Hugging Face's, for {}; this trainer does not have it", known.name, known.topic.about), {},
      std::string(known.topic.instead));
}

/// What people type who come from PyTorch's examples, from accelerate's command line and from torchrun's.
constexpr std::pair<std::string_view, std::string_view> kElsewhere[] = {
    {"epochs", "it is --num_train_epochs here, as Hugging Face's"},
    {"lr", "it is --learning_rate here, as Hugging Face's"},
    {"batch_size", "it is --per_device_train_batch_size here, as Hugging Face's"},
    {"test_batch_size", "it is --per_device_eval_batch_size here, as Hugging Face's"},
    {"log_interval", "it is --logging_steps here, as Hugging Face's"},
    {"resume", "it is --resume_from_checkpoint here, as Hugging Face's: a checkpoint's folder, or true"},
    {"mixed_precision", "write --bf16 or --fp16"},
    {"nproc_per_node", "the launcher starts ranks: llmlaunch run --num_processes N train"},
    {"num_processes", "the launcher starts ranks: llmlaunch run --num_processes N train"},
};

/// Names that the trainer has otherwise: those of other programs and versions, and Hugging Face's --no_bf16.
std::string present_flag(std::span<const std::string> names, const std::string& name) {
  for (const auto& [other, hint] : kElsewhere) {
    if (name == other) return std::string(hint);
  }
  if (name == "warmup_ratio") return "--warmup_steps below 1 is that share of all steps";
  if (name == "no_cuda") return "it is --use_cpu now";
  if (const std::string_view present = present_name(name); !present.empty()) {
    return fmt::format("it is --{} now", present);
  }
  const std::string positive = name.starts_with("no_") ? name.substr(3) : "";
  if (is_among(names, positive)) return fmt::format("write --{} false", positive);
  return {};
}

}  // namespace

Error unknown_word(std::span<const std::string> names, const std::string& word, std::size_t number) {
  const std::string flag = word.substr(0, word.find('='));
  const std::string shown =
      flag.size() > kShownWord ? fmt::format("'{}…'", cut_text(flag, kShownWord)) : fmt::format("'{}'", flag);
  const std::string name = bare_name(flag);
  if (!word.starts_with('-')) {
    const bool known = is_among(names, name);
    return make_error(
        Errc::usage,
        fmt::format("{} is neither a flag nor the value of one",
                    known ? shown : fmt::format("word {} behind llmlaunch-train", number)),
        {},
        known ? fmt::format("did you mean --{}?", name)
              : "it may be a secret, and is not shown; flags begin with --, a file of settings is named by --config");
  }
  if (const KnownArgument* known = known_argument(name)) return foreign(*known);
  if (const KnownArgument* known = name.starts_with("no_") ? known_argument(name.substr(3)) : nullptr) {
    return foreign(*known);
  }
  const std::string what = fmt::format("unknown flag {}", shown);
  if (const std::string hint = present_flag(names, name); !hint.empty()) return make_error(Errc::usage, what, {}, hint);
  std::vector<std::string> all(names.begin(), names.end());
  for (const KnownArgument& known : known_arguments()) all.emplace_back(known.name);
  const std::string meant(nearest(name, all));
  if (meant.empty()) return make_error(Errc::usage, what, {}, kSeeHelp);
  std::string hint = fmt::format("did you mean --{}?", meant);
  if (known_argument(meant) != nullptr) hint += " That is Hugging Face's, and this trainer does not have it";
  return make_error(Errc::usage, what, {}, hint);
}

}  // namespace llmlaunch::trainer
