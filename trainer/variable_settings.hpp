/// \file
/// Options that stand in the environment: LLMLAUNCH_TRAIN_LEARNING_RATE is --learning_rate, as LLMLAUNCH_SSH_PORT is
/// llmlaunch.ssh.port. llmlaunch takes those of its own environment to all ranks.
#pragma once

#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/option_table.hpp"
#include "trainer/options.hpp"

namespace llmlaunch::trainer {

/// Those of an environment ("NAME=value" each, a null pointer behind the last). An empty one counts as none.
VariableSettings variable_settings(const char* const* environment);

/// "learning_rate" → "LLMLAUNCH_TRAIN_LEARNING_RATE".
std::string variable_of(const std::string& option);

/// `Errc::invalid_config` names the variable: no option has its name, or the flag would not take its value.
Result<void> apply_variables(const VariableSettings& variables, OptionTable& table);

}  // namespace llmlaunch::trainer
