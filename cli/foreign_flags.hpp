/// \file
/// The options of `accelerate launch` and `torchrun` that `llmlaunch run` has no option of its own for: one table of
/// what each is taken for, so that an existing command line needs only its first word changed. Used by the option
/// parser.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/options.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

/// One option that was found in the words.
struct ForeignUse {
  std::string option;  ///< as it was typed: "--nproc_per_node"
  std::string name;    ///< "--nproc-per-node"
  std::string value;   ///< of an option without one: empty
};

/// Does an option of this name (with hyphens) exist there, and does a value follow it?
struct ForeignKind {
  bool known = false;
  bool takes_value = false;
};
ForeignKind foreign_kind(std::string_view name);

/// Another spelling of an option of llmlaunch's own: "--config-file" → "--config". Everything else as it is.
std::string_view own_name(std::string_view name);

/// Puts what they ask for into `options`: overrides of the file's keys, variables, notes about what has no effect.
/// Errors: `Errc::usage` for what llmlaunch cannot do at all (TPU, SageMaker) and for values that are none.
Result<void> apply_foreign(const std::vector<ForeignUse>& uses, RunOptions& options);

/// The names, for "did you mean".
std::vector<std::string> foreign_names();

}  // namespace llmlaunch::cli
