/// \file
/// The keys inside accelerate's sections (fsdp_config, deepspeed_config …) and the variable that a worker reads for
/// each. They are rows of the one table, too (config_schema.hpp): the parser, the schema and the reference page know
/// them from there. Used by accelerate_sections.cpp (reading) and accelerate_env.cpp (the ranks' environment).
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "launcher/config_schema.hpp"

namespace llmlaunch::launcher {

/// How a value stands in its variable.
enum class Spelling {
  as_written,
  lower,
  python,  ///< True and False, as accelerate's launcher prints them
};

/// What a value must look like beyond its SettingKind.
enum class ValueShape {
  plain,
  number,            ///< 1, 0.5, 1e-3
  number_or_auto,    ///< DeepSpeed's own word for "as the trainer has it"
  count_or_auto,     ///< a whole number from 1
  strategy,          ///< one of FSDP's sharding strategies, or its number
  flag_or_strategy,  ///< FSDP 2 has a flag there, FSDP 1 a strategy
  three_flags,       ///< a list of three, or "true,false,false"
};

struct AccelerateSetting {
  Setting setting;              ///< its path has the prefix: "fsdp_config.fsdp_version"
  std::string_view variable{};  ///< empty: for llmlaunch itself
  Spelling spelling = Spelling::as_written;
  bool always = false;  ///< where its section applies, the variable is set to the default, too
  ValueShape shape = ValueShape::plain;
};

/// The rows, section by section.
std::span<const AccelerateSetting> accelerate_settings();

/// Nothing for a path that is none. Takes every spelling: "fsdp_config.version".
const AccelerateSetting* find_accelerate_setting(std::string_view path);

/// What a key may be called beside its name: without the section's prefix, and as other versions of accelerate wrote
/// it.
std::vector<std::string_view> other_names_of(const AccelerateSetting& row);

/// The rows of a section as rows of the one table, other spellings with `instead`.
void append_section(std::string_view section, std::vector<Setting>& table);

}  // namespace llmlaunch::launcher
