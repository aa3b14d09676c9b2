/// \file
/// A file of answers for `llmlaunch config`: one mapping of names to texts. Pure.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

struct FileAnswer {
  std::string name, value;
  std::string where;  ///< "answers.yaml:3:1"
};

/// A list has a newline behind each of its items. Errors: `Errc::invalid_config` with file, line and column.
Result<std::vector<FileAnswer>> parse_answers(const std::string& text, const std::string& name);

}  // namespace llmlaunch::launcher
