/// \file
/// `llmlaunch config` as it was typed, but for `config check`.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace llmlaunch::cli {

struct WizardOptions {
  enum class Mode {
    ask,       ///< config: questions, or answers by options and file
    defaults,  ///< config default: this machine
    update,    ///< config update FILE
    import,    ///< config import FILE…
  };
  Mode mode = Mode::ask;
  std::map<std::string, std::string> answers;  ///< by the names of questions
  std::optional<std::string> answers_file;
  std::optional<std::string> output;  ///< where it is written; "-": stdout
  std::vector<std::string> files;     ///< of update and import
  std::optional<std::string> from;    ///< of import
  bool non_interactive = false;
  bool force = false;                 ///< an existing file is overwritten
  bool accept_new_host_keys = false;  ///< unknown host keys are recorded
  bool keep_unreachable = false;      ///< hosts that do not answer stay in the file
  bool no_probe = false;              ///< no host is contacted
  bool quiet = false;
};

}  // namespace llmlaunch::cli
