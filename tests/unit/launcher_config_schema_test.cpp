// The table of keys against the parser: what the table says is read, what it does not say is refused.
#include "launcher/config_schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "launcher/agent/limit_names.hpp"
#include "launcher/config.hpp"
#include "tests/support/catch.hpp"

namespace launcher_config_schema_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

/// A file with one value at the path, in flow style: "{llmlaunch: {ssh: {port: 22}}}".
std::string file_with(const Setting& setting, const std::string& value) {
  std::string text = fmt::format("{}: {}", key_of(setting), value);
  std::string_view section = section_of(setting);
  if (section == "llmlaunch.hosts[]") {
    const bool named = key_of(setting) == "name" || key_of(setting) == "host";
    text = fmt::format("hosts: [{{{}{}}}]", named ? "" : "name: n1, ", text);
    section = "llmlaunch";
  }
  while (!section.empty()) {
    const auto dot = section.rfind('.');
    text = fmt::format("{}: {{{}}}", section.substr(dot + 1), text);
    section = dot == section.npos ? std::string_view{} : section.substr(0, dot);
  }
  return "{" + text + "}\n";
}

/// Empty: it is read. Else the first line of the message, without its place.
std::string refusal(const Setting& setting, const std::string& value) {
  const auto config = parse_config(file_with(setting, value), "f");
  if (config) return "";
  const std::string what = config.error().what;
  return what.substr(0, what.find('\n'));
}

std::vector<std::string> good_values(const Setting& setting) {
  using Kind = SettingKind;
  switch (setting.kind) {
    case Kind::integer: return {std::to_string(setting.least), std::to_string(setting.most)};
    case Kind::boolean: return {"true", "no", "On", "'false'"};
    case Kind::duration: return {fmt::format("{}ms", setting.least), "90", "1.5h"};
    case Kind::size: return {std::to_string(setting.least), "100MB"};
    case Kind::limit: return {"0", "unlimited"};
    case Kind::octal: return {"0", fmt::format("{:o}", setting.most)};
    case Kind::section:
    case Kind::mapping: return {"{}"};
    case Kind::variables: return {"{A: 1, B: ''}"};
    case Kind::groups: return {"{g: 'n[1-2]', h: [a, b], nobody: }"};
    case Kind::hosts: return {"n1", "[n1, n2]", "{name: n1}"};
    case Kind::any: return {"1", "[a]"};
    case Kind::text:
    case Kind::texts:
    case Kind::choice: break;
  }
  return {};
}

std::vector<std::string> bad_values(const Setting& setting) {
  using Kind = SettingKind;
  std::vector<std::string> bad;
  switch (setting.kind) {
    case Kind::integer:
      if (setting.least > 0) bad.push_back(std::to_string(setting.least - 1));
      bad.insert(bad.end(), {std::to_string(setting.most + 1), "x", "[1]"});
      break;
    case Kind::boolean: return {"maybe", "1", "[true]"};
    case Kind::duration:
      if (setting.least > 0) bad.push_back(fmt::format("{}ms", setting.least - 1));
      bad.insert(bad.end(), {"soon", "-1", "{}"});
      break;
    case Kind::size: return {std::to_string(setting.least - 1), "many"};
    case Kind::limit: return {"many", "-1"};
    case Kind::octal: return {fmt::format("{:o}", setting.most + 1), "9"};
    case Kind::choice: return {"nonsense", "[1]"};
    case Kind::section:
    case Kind::mapping:
    case Kind::groups:
    case Kind::variables: return {"nonsense", "[a]"};
    case Kind::text: return {"[a]", "''", "{a: b}"};
    case Kind::texts: return {"{a: b}", "''"};
    case Kind::hosts: return {"[[a]]", "[]", "{slots: 1}"};
    case Kind::any: break;
  }
  return bad;
}

}  // namespace

TEST_CASE("the table is complete and in order") {
  std::set<std::string_view> seen;
  for (const Setting& setting : settings()) {
    INFO(setting.path);
    CHECK(seen.insert(setting.path).second);
    CHECK_FALSE(setting.meaning.empty());
    CHECK(setting.meaning.back() != '.');
    std::string_view section = section_of(setting);
    if (section.ends_with("[]")) section.remove_suffix(2);
    CHECK((section.empty() || seen.count(section) == 1));  // a section stands before what is in it
    CHECK((setting.kind == SettingKind::choice) ==
          (words_of(setting).size() > 1 || setting.path == "compute_environment"));
    if (!setting.instead.empty())
      CHECK(find_setting(std::string(section_of(setting)) + "." + std::string(setting.instead)) != nullptr);
  }
}

TEST_CASE("every value that the table allows is read, and every other one is refused") {
  for (const Setting& setting : settings()) {
    for (const auto& value : good_values(setting)) {
      INFO(setting.path << ": " << value);
      // Right in itself, but not on one host.
      if (setting.path == "machine_rank") continue;
      CHECK(refusal(setting, value) == "");
    }
    // Behind a choice stands each of its words; behind others what is taken beside.
    for (const auto word : words_of(setting)) {
      INFO(setting.path << ": " << word);
      CHECK(refusal(setting, std::string(word)) == "");
    }
    for (const auto& value : bad_values(setting)) {
      INFO(setting.path << ": " << value);
      // accelerate's dialogue writes that for none, also in its sections.
      const bool in_section = !section_of(setting).empty() && !setting.path.starts_with("llmlaunch");
      if (value == "''" && (setting.path == "main_process_ip" || (in_section && setting.kind != SettingKind::choice)))
        continue;
      CHECK(refusal(setting, value) != "");
    }
  }
}

TEST_CASE("keys are known from the table alone") {
  for (const Setting& setting : settings()) {
    if (setting.kind != SettingKind::section && setting.kind != SettingKind::hosts) continue;
    Setting unknown = setting;
    const std::string path = std::string(setting.path) + (setting.kind == SettingKind::hosts ? "[]" : "") + ".nonsense";
    unknown.path = path;
    INFO(path);
    const std::string where(section_of(unknown) == "llmlaunch.hosts[]" ? "llmlaunch.hosts[0]" : section_of(unknown));
    CHECK(refusal(unknown, "1") == fmt::format("unknown key 'nonsense' in {}", where));
  }
  CHECK(parse_config("nonsense: 1\n", "f").error().what.starts_with("unknown key 'nonsense'"));
}

TEST_CASE("a setting is found by its path, with or without the number of an item") {
  REQUIRE(find_setting("llmlaunch.ssh.port") != nullptr);
  CHECK(find_setting("llmlaunch.ssh.port")->most == 65535);
  CHECK(find_setting("llmlaunch.hosts[3].slots") == find_setting("llmlaunch.hosts[].slots"));
  CHECK(find_setting("llmlaunch.hosts[3].slots") != nullptr);
  for (const char* none : {"", "port", "llmlaunch.ssh", "llmlaunch.ssh.", "llmlaunch.ssh.port.x", "[", "]"}) {
    INFO(none);
    CHECK((find_setting(none) == nullptr) == (std::string_view(none) != "llmlaunch.ssh"));
  }
  CHECK(key_of(*find_setting("num_processes")) == "num_processes");
  CHECK(section_of(*find_setting("num_processes")).empty());
  CHECK(keys_of("llmlaunch.hosts") == keys_of("llmlaunch.hosts[7]"));
  CHECK(keys_of("nowhere").empty());
}

TEST_CASE("the limits of the table are those that the agent can set") {
  std::vector<std::string_view> names;
  for (const auto& one : agent::kLimitNames) names.push_back(one.name);
  CHECK(keys_of("llmlaunch.limits") == names);
}

TEST_CASE("the defaults of the table are those of the parser") {
  const auto empty = parse_config("", "f");
  REQUIRE(empty);
  const auto in_words = [](const char* path) { return std::string(find_setting(path)->default_words); };
  const auto seconds = [](std::chrono::milliseconds time) { return fmt::format("{}s", time.count() / 1000); };
  const auto truth = [](bool value) { return value ? "true" : "false"; };
  CHECK(in_words("llmlaunch.timeouts.connect") == seconds(empty->timeouts.connect));
  CHECK(in_words("llmlaunch.timeouts.start") == seconds(empty->timeouts.start));
  CHECK(in_words("llmlaunch.timeouts.rendezvous") == seconds(empty->timeouts.rendezvous));
  CHECK(in_words("llmlaunch.timeouts.grace") == seconds(empty->timeouts.grace));
  CHECK(in_words("llmlaunch.timeouts.head") == seconds(empty->timeouts.head));
  CHECK((in_words("llmlaunch.timeouts.run") == "no limit") == !empty->timeouts.run.has_value());
  CHECK(in_words("llmlaunch.logs.keep") == std::to_string(empty->logs.keep));
  CHECK(in_words("llmlaunch.logs.updates_per_second") == std::to_string(empty->logs.updates_per_second));
  CHECK(in_words("llmlaunch.logs.max_file_bytes") == std::to_string(empty->logs.max_file_bytes));
  CHECK(in_words("llmlaunch.logs.per_rank") == truth(empty->logs.per_rank));
  CHECK(in_words("llmlaunch.logs.merged") == truth(empty->logs.merged));
  CHECK(in_words("llmlaunch.logs.fold_lines") == truth(empty->logs.fold_lines));
  CHECK(in_words("llmlaunch.ssh.use_agent") == truth(empty->ssh.use_agent));
  CHECK((in_words("llmlaunch.rendezvous.via") == "direct") == (empty->rendezvous_via == RendezvousWay::direct));
  CHECK(in_words("llmlaunch.rendezvous.use_agent_store") == truth(empty->use_agent_store));
  CHECK(in_words("llmlaunch.log_dir") == empty->log_dir);
  CHECK(in_words("use_cpu") == truth(empty->use_cpu));
  CHECK(in_words("debug") == truth(empty->debug));
  CHECK(in_words("mixed_precision") == empty->mixed_precision);
  CHECK(in_words("main_process_port") == std::to_string(empty->main_process_port));
  CHECK(in_words("machine_rank") == std::to_string(empty->machine_rank));
}

}  // namespace launcher_config_schema_test
