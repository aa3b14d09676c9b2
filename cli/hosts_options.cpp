// `llmlaunch hosts`: expressions and options in any order.
#include "cli/hosts_options.hpp"

#include <fmt/format.h>

#include <memory>

#include "cli/exec_options.hpp"
#include "cli/option_values.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::uint32_t kMost = 65'536;
constexpr std::uint32_t kFewestSteps = 3;

constexpr const char* kHostsFooter =
    "EXPR is a host list (gpu[01-64],login0), ^FILE, - for stdin, /REGEX/, -HOST, and these with the operators\n"
    ", ! & ^ (union, difference, intersection, one of both) from left to right. Behind -- it may begin with '-'.\n"
    "Without EXPR and --hostfile: the hosts of --config, else the file that WCOLL names.";

class HostsHelp final : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: llmlaunch hosts [OPTIONS] EXPR…\n       llmlaunch hosts [OPTIONS] --hostfile FILE\n";
  }
};

}  // namespace

void HostsParser::add_to(CLI::App& parent) {
  app = parent.add_subcommand("hosts", "Expand, fold, count, split and convert lists of hosts");
  app->formatter(std::make_shared<HostsHelp>());
  app->set_help_flag("-h,--help", "Print this help and exit");
  app->footer(kHostsFooter);
  add_host_options(*app, values_.hosts, false);
  add_value(*app, "-c,--config", values_.config, "FILE", "Configuration whose hosts are meant, or its groups");
  add_setting_option(*app, values_.settings);
  app->add_flag("--fold", values_.fold, "One line: gpu[01-64],login0");
  app->add_flag("--contiguous", values_.contiguous, "A line for each range without a gap: n[1-3], n7");
  add_value(*app, "--autostep", autostep_, "N",
            "Fold n0,n2,n4 to n[0-4/2] where at least N have the same distance; auto: 3");
  add_value(*app, "--axis", axis_, "LIST", "Fold these numbers of a name alone: 1 is the first one, -1 the last");
  app->add_flag("--count", values_.count, "Their number");
  app->add_flag("--json", values_.json, "An array of objects: name, user, port, slots");
  add_value(*app, "--slice", values_.slice, "LIST", "Only those at these places, from 0: 0-18/2,20");
  add_value(*app, "--pick", pick_, "N", "Only N of them, by chance");
  add_value(*app, "--split", split_, "N", "In N parts of nearly the same size, each folded on a line");
  add_value(*app, "--separator", values_.separator, "TEXT",
            "Between hosts instead of a new line; \\n and \\t are known");
}

Result<void> HostsParser::check_folding() {
  const bool steps = app->count("--autostep") > 0, axes = app->count("--axis") > 0;
  if ((steps || axes) && !values_.fold && !values_.split)
    return usage(fmt::format("{} goes with --fold or --split", steps ? "--autostep" : "--axis"), lists_options(*app));
  if (steps) {
    const auto from =
        count_value(*app, "--autostep", autostep_ == "auto" ? std::to_string(kFewestSteps) : autostep_, kMost);
    if (!from) return from.error();
    if (**from < kFewestSteps)
      return usage(fmt::format("--autostep must be at least {}: two hosts have a distance in any case", kFewestSteps),
                   lists_options(*app));
    values_.folding.steps_from = **from;
  }
  if (!axes) return ok;
  auto parsed = launcher::parse_axes(axis_);
  if (!parsed) return usage("--axis: " + parsed.error().what, parsed.error().hint);
  values_.folding.axes = std::move(*parsed);
  return ok;
}

Result<Options> HostsParser::options(std::vector<std::string> expressions) {
  if (auto checked = check_host_options(*app, values_.hosts); !checked) return checked.error();
  if (values_.config && values_.config->empty()) return usage("--config is empty", lists_options(*app));
  if (auto checked = check_settings(values_.settings, lists_options(*app)); !checked) return checked.error();
  const auto pick = count_value(*app, "--pick", pick_, kMost);
  if (!pick) return pick.error();
  const auto split = count_value(*app, "--split", split_, kMost);
  if (!split) return split.error();
  values_.pick = *pick;
  values_.split = *split;
  const int forms = int{values_.fold} + int{values_.contiguous} + int{values_.count} + int{values_.json} +
                    int{values_.split.has_value()};
  if (forms > 1)
    return usage("--fold, --contiguous, --count, --split and --json exclude each other", lists_options(*app));
  if (auto checked = check_folding(); !checked) return checked.error();
  for (const auto& word : expressions)
    if (word.empty()) return usage("hosts: an expression is empty", "a variable in its place may not be set");
  Options options;
  options.action = Options::Action::hosts;
  options.hosts = std::move(values_);
  options.hosts.hosts.include = std::move(expressions);
  return options;
}

}  // namespace llmlaunch::cli
