// From the words --config and --set and the head's environment to a configuration; the one place where run, exec and
// hosts read it.
#include <fmt/format.h>

#include "cli/report.hpp"
#include "cli/run.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {

Result<launcher::Config> read_config_file(const launcher::ConfigInput& input, const std::string& cwd) {
  for (const auto& warning : launcher::misspelt_variables(input.environment)) log_warning("{}", printable(warning));
  auto config = launcher::load_config(input);
  if (config) return config;
  Error error = config.error();
  if (error.code == Errc::not_found && !input.path.starts_with('/')) error.hint = fmt::format("looked in {}", cwd);
  error.code = make_error_code(Errc::invalid_config);  // a file that is not there is a wrong configuration, too
  return error;
}

}  // namespace llmlaunch::cli
