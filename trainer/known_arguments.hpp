/// \file
/// The arguments of Hugging Face's TrainingArguments (transformers 4 and 5) that the trainer does not have, and what it
/// does about each. A file that TrainingArguments.to_json_string() wrote has all of them.
#pragma once

#include <span>
#include <string_view>

namespace llmlaunch::trainer {

/// What an argument is for, as a message says it, and what to do instead of typing it.
struct Topic {
  std::string_view about, instead;
};

struct KnownArgument {
  enum class Effect {
    none,     ///< on no number: it is left out, and named once
    numbers,  ///< a value that asks for other numbers is refused
  };
  std::string_view name;
  Topic topic = {};  ///< of `known_arguments` each has one
  Effect effect = Effect::none;
  /// Values, beside null, false, 0 and what is empty, that ask for nothing or for what the trainer does anyway:
  /// "steps|no". "*" is any.
  std::string_view harmless = {};
  std::string_view hint = {};  ///< behind the error: what to do instead
  bool false_asks = false;     ///< false is not the default, and asks for something
};

/// nullptr: no argument of Hugging Face's, or one that the trainer has.
const KnownArgument* known_argument(std::string_view name);
std::span<const KnownArgument> known_arguments();
/// The same of the arguments that accelerator_config has inside.
const KnownArgument* known_accelerator_argument(std::string_view name);

/// The trainer's name of an argument that has another one in some version: "evaluation_strategy" is eval_strategy.
/// Empty: it has none.
std::string_view present_name(std::string_view name);

/// Whether report_to of Hugging Face's takes this word, and the trainer's does not: "wandb". Files of transformers 4
/// name whatever was installed where they were written.
bool is_other_report(std::string_view word);

/// Whether a value (a scalar's text) asks for nothing.
bool asks_for_nothing(const KnownArgument& argument, std::string_view text);

}  // namespace llmlaunch::trainer
