// `config update FILE`: what is there stays, byte for byte, but for older words (wizard_renewal.hpp); keys that a
// current file has and this one lacks are added behind it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/head.hpp"
#include "cli/report.hpp"
#include "cli/survey.hpp"
#include "cli/wizard.hpp"
#include "cli/wizard_file.hpp"
#include "cli/wizard_import.hpp"
#include "cli/wizard_renewal.hpp"
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

std::string one_line(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

/// Renews the text, and adds the lines that it lacks.
Result<Renewal> update(std::string text, const std::string& path, const WizardOptions& options) {
  const auto read = [&path](const std::string& words) { return read_text_alone(words, path); };
  const auto there = read(text);
  if (!there) return there.error();
  for (const std::string& note : there->notes) log_warning("{}", printable(note));
  const auto config = proposals(*there, options);
  if (!config) return config.error();
  Renewal done = renewed(std::move(text), path, *there, read);
  const auto now = read(done.text);
  if (!now) return now.error();
  std::string lines;
  std::vector<std::string> names;
  for (const auto& [key, line] : top_level_lines(launcher::config_text(*config, ""))) {
    if (now->places.contains(key)) continue;
    lines += line + "\n";
    names.push_back(key);
  }
  if (!names.empty() && !takes_more_lines(done.text))
    return make_error(Errc::invalid_config, fmt::format("these keys cannot be added to it: {}", one_line(names)), path,
                      "it is written as {…} or ends with '...': write its keys on lines of their own");
  if (!names.empty() && !done.text.empty() && done.text.back() != '\n') done.text += '\n';
  done.text += lines;
  done.added.insert(done.added.begin(), names.begin(), names.end());
  return done;
}

}  // namespace

int update_command(const WizardOptions& options) {
  const std::string path = expand_home(options.files.front());
  auto text = read_whole_file(path);
  if (!text) return fail(text.error());
  const auto done = update(std::move(*text), path, options);
  if (!done) return fail(done.error());
  if (done->added.empty() && done->renamed.empty()) {
    log_info("{} has everything", path);
    return number(ExitStatus::done);
  }
  const std::string to = options.output ? output_of(options) : path;
  if (auto checked = check_text(done->text, to); !checked) return fail(checked.error());
  if (auto written = write_whole_file(to, done->text, !options.output || options.force, false); !written)
    return fail(written.error());
  if (to == "-") return number(ExitStatus::done);
  if (!done->renamed.empty()) log_info("{}: renamed {}", to, one_line(done->renamed));
  if (!done->added.empty()) log_info("{}: added {}", to, one_line(done->added));
  return number(ExitStatus::done);
}

}  // namespace llmlaunch::cli
