// The table of keys as Markdown: a heading for each section, a row for each key.
#include "cli/docs_reference.hpp"

#include <fmt/format.h>

#include <cctype>
#include <string_view>

#include "cli/option_values.hpp"
#include "launcher/config_schema.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::Setting;
using launcher::SettingKind;

constexpr std::string_view kTop =
    "# The keys of a configuration file\n"
    "\n"
    "Written by `llmlaunch docs reference` from the table by which files are read; `llmlaunch config --schema` prints "
    "the same as\n"
    "JSON Schema, and `llmlaunch config check FILE` reads a file and tells what it comes to. README.md explains more.\n"
    "\n"
    "A key without a value counts as not given. A *text* may be anything that is no list and no mapping; *texts* are "
    "one or a list\n"
    "of them. A *time* is in seconds or has a unit: `500ms`, `30s`, `5m`, `2h`. A *size* is in bytes or has a unit: "
    "`100MB`, `64KiB`.\n"
    "A *limit* is a number, where it is a size also with K, M, G or T, or `unlimited`.\n";

/// The words of a section's heading, and the sections in their order.
struct Section {
  std::string path;  ///< as in the paths of settings
  std::string title;
  std::string_view about;
};

std::vector<Section> sections() {
  std::vector<Section> all{{"", "accelerate's keys", "The first part of a file, as `accelerate config` writes it."}};
  for (const Setting& setting : launcher::settings()) {
    if (setting.kind == SettingKind::section)
      all.push_back({std::string(setting.path), fmt::format("`{}`", setting.path), setting.meaning});
    if (setting.kind == SettingKind::hosts)
      all.push_back({std::string(setting.path) + "[]", fmt::format("`{}[]`", setting.path),
                     "one host, or several alike, where a name alone does not say enough"});
  }
  return all;
}

std::string bounds(const Setting& setting) {
  std::string text = fmt::format("{} to {}", setting.least, setting.most);
  for (const auto word : launcher::words_of(setting)) text += fmt::format(", or {}", word);
  return text;
}

std::string value_of(const Setting& setting) {
  switch (setting.kind) {
    case SettingKind::text: return "text";
    case SettingKind::texts: return "texts";
    case SettingKind::boolean: return "`true` or `false`";
    case SettingKind::integer: return bounds(setting);
    case SettingKind::duration:
      return setting.least < 1000 ? "time" : fmt::format("time, at least {} s", setting.least / 1000);
    case SettingKind::size: return fmt::format("size, at least {}, or 0", setting.least);
    case SettingKind::limit: return "limit";
    case SettingKind::octal: return fmt::format("octal, 0 to {:o}", setting.most);
    case SettingKind::choice: return fmt::format("`{}`", fmt::join(launcher::words_of(setting), "`, `"));
    case SettingKind::section: return "a mapping, see below";
    case SettingKind::mapping: return "a mapping";
    case SettingKind::variables: return "a mapping of names to values";
    case SettingKind::groups: return "a mapping of names to hosts";
    case SettingKind::hosts: return "texts, or mappings, see below";
    case SettingKind::any: break;
  }
  return "anything";
}

std::string row(const Setting& setting) {
  std::string meaning(setting.meaning);
  if (!setting.instead.empty()) meaning = fmt::format("another spelling of `{}`", setting.instead);
  return fmt::format("| `{}` | {} | {} | {} |\n", launcher::key_of(setting), value_of(setting), setting.default_words,
                     meaning);
}

}  // namespace

std::string configuration_reference() {
  std::string page(kTop);
  for (const Section& section : sections()) {
    std::string about(section.about);
    about.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(about.front())));
    if (!about.ends_with('.')) about += '.';
    page +=
        fmt::format("\n## {}\n\n{}\n\n| key | value | default | meaning |\n|---|---|---|---|\n", section.title, about);
    for (const Setting& setting : launcher::settings())
      if (launcher::section_of(setting) == section.path) page += row(setting);
  }
  return page;
}

void DocsReferenceParser::add_to(CLI::App& docs) {
  reference_ = docs.add_subcommand("reference", "Every key of a configuration file, as Markdown");
  reference_->set_help_flag("-h,--help", "Print this help and exit");
}

bool DocsReferenceParser::parsed() const {
  return reference_->parsed();
}

Result<Options> DocsReferenceParser::options(const std::vector<std::string>& words) const {
  if (!words.empty())
    return usage(fmt::format("docs reference: '{}' is one word too many", words.front()),
                 "llmlaunch docs reference --help shows how it is called");
  Options options;
  options.action = Options::Action::print;
  options.text = configuration_reference();
  return options;
}

}  // namespace llmlaunch::cli
