/// \file
/// The settings of a file → options, by the table of flags. Decides about keys that are Hugging Face's and not the
/// trainer's.
#pragma once

#include <map>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/config_file.hpp"
#include "trainer/option_table.hpp"

namespace llmlaunch::trainer {

/// What a file did.
struct AppliedFile {
  std::map<std::string, FilePlace> places;  ///< of the options that it set, by the trainer's names
  std::string note;                         ///< which keys were left out; empty: none
};

/// `Errc::invalid_config` with place and line: a key that nobody knows, a value that the flag would not take, one that
/// asks for other numbers than the trainer can give.
Result<AppliedFile> apply_file(const ConfigFile& file, OptionTable& table);

}  // namespace llmlaunch::trainer
