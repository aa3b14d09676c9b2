// `config update FILE`: what is there stays, byte for byte; keys that a current file has and this one lacks are added
// behind it.
#include <fmt/format.h>

#include <algorithm>

#include "cli/head.hpp"
#include "cli/report.hpp"
#include "cli/survey.hpp"
#include "cli/wizard.hpp"
#include "cli/wizard_file.hpp"
#include "cli/wizard_import.hpp"
#include "launcher/config_text.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::Config;

/// The lines of a new file, each with its key.
std::vector<std::pair<std::string, std::string>> top_level_lines(const std::string& text) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    const std::string line = text.substr(start, end - start);
    start = end + 1;
    const std::size_t colon = line.find(':');
    if (colon != line.npos && line.front() != ' ' && line.front() != '#' && line != "llmlaunch:")
      lines.emplace_back(line.substr(0, colon), line);
  }
  return lines;
}

/// A flow mapping or a second document at the end would swallow what is added; then nothing is.
bool takes_more_lines(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first == text.npos || (text[first] != '{' && text.find("\n...") == text.npos);
}

Result<Config> proposals(const Config& there, const WizardOptions& options) {
  Config config = there;
  std::uint32_t ranks = 0;
  for (const auto& host : config.hosts) ranks += host.slots.value_or(0);
  const auto machines = static_cast<std::uint32_t>(std::max<std::size_t>(1, config.hosts.size()));
  if (!config.num_machines) config.num_machines = machines;
  bool gpus = false;
  std::uint32_t found = 0;
  const bool needs_count = !config.num_processes && ranks == 0;
  if (!options.no_probe && (needs_count || !config.places.contains("use_cpu"))) {
    auto survey = survey_hosts(config, {Verbosity::quiet, true, false, nullptr});
    if (!survey) return survey.error();
    for (const auto& one : *survey) {
      if (!one.facts)
        return make_error(Errc::unreachable, one.failure->what, "host " + one.name,
                          one.failure->hint + (one.failure->hint.empty() ? "" : "; ") + "--no-probe asks no host");
      gpus = gpus || !one.facts->gpus.empty();
      const auto slots = static_cast<std::uint32_t>(std::max<std::size_t>(1, one.facts->gpus.size()));
      found = found == 0 ? slots : std::min(found, slots);
    }
  }
  if (!config.num_processes) config.num_processes = ranks > 0 ? ranks : machines * std::max<std::uint32_t>(1, found);
  if (config.distributed_type.empty() || !there.places.contains("distributed_type"))
    config.distributed_type = *config.num_processes == 1 ? "NO" : gpus || options.no_probe ? "MULTI_GPU" : "MULTI_CPU";
  if (!there.places.contains("use_cpu"))
    config.use_cpu = there.places.contains("distributed_type") ? there.use_cpu : !gpus && !options.no_probe;
  return config;
}

}  // namespace

int update_command(const WizardOptions& options) {
  const std::string path = expand_home(options.files.front());
  auto text = read_whole_file(path);
  if (!text) return fail(text.error());
  const auto there = launcher::parse_config(*text, path);
  if (!there) return fail(there.error());
  for (const std::string& note : there->notes) log_warning("{}", printable(note));
  const auto config = proposals(*there, options);
  if (!config) return fail(config.error());
  std::string added, names;
  for (const auto& [key, line] : top_level_lines(launcher::config_text(*config, ""))) {
    if (there->places.contains(key)) continue;
    added += line + "\n";
    names += (names.empty() ? "" : ", ") + key;
  }
  if (added.empty()) {
    log_info("{} has everything", path);
    return number(ExitStatus::done);
  }
  if (!takes_more_lines(*text))
    return fail(make_error(Errc::invalid_config, fmt::format("these keys cannot be added to it: {}", names), path,
                           "it is written as {…} or ends with '...': write its keys on lines of their own"));
  std::string updated = *text;
  if (!updated.empty() && updated.back() != '\n') updated += '\n';
  updated += added;
  const std::string to = options.output ? output_of(options) : path;
  if (auto checked = check_text(updated, to); !checked) return fail(checked.error());
  if (auto written = write_whole_file(to, updated, !options.output || options.force, false); !written)
    return fail(written.error());
  if (to != "-") log_info("{}: added {}", to, names);
  return number(ExitStatus::done);
}

}  // namespace llmlaunch::cli
