// `llmlaunch config check` and `--schema`.
#include "cli/config_options.hpp"

#include <fmt/format.h>

#include <memory>

#include "cli/option_values.hpp"
#include "launcher/config_json_schema.hpp"

namespace llmlaunch::cli {
namespace {

constexpr const char* kConfigFooter =
    "Without FILE: accelerate's default file. Exit status: 0 when a run would start with it, 78 when not.";

class CheckHelp final : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: llmlaunch config check [OPTIONS] [FILE]\n";
  }
};

}  // namespace

void ConfigParser::add_to(CLI::App& config) {
  config.add_flag("--schema", schema_, "Print the JSON Schema of configuration files, for editors");
  check_ = config.add_subcommand("check", "Read a file and tell what a run would do; contact no host");
  check_->formatter(std::make_shared<CheckHelp>());
  check_->set_help_flag("-h,--help", "Print this help and exit");
  check_->footer(kConfigFooter);
  add_setting_option(*check_, values_.settings);
  check_->add_flag("-q,--quiet", values_.quiet, "Print nothing but warnings and errors");
}

bool ConfigParser::parsed() const {
  return schema_ || check_->parsed();
}

Result<Options> ConfigParser::options(std::vector<std::string> words) {
  Options options;
  if (schema_) {
    if (check_->parsed() || !words.empty())
      return usage("config --schema stands alone", "llmlaunch config --help shows how it is called");
    options.action = Options::Action::print;
    options.text = launcher::config_json_schema();
    return options;
  }
  const std::string hint = "llmlaunch config check --help shows how it is called";
  if (words.size() > 1) return usage(fmt::format("config check: '{}' is one word too many", words[1]), hint);
  if (auto checked = check_settings(values_.settings, hint); !checked) return checked.error();
  options.action = Options::Action::config_check;
  options.config_check = std::move(values_);
  if (words.empty()) return options;
  if (words.front().empty()) return usage("config check: the file's name is empty", hint);
  options.config_check.file = std::move(words.front());
  return options;
}

}  // namespace llmlaunch::cli
