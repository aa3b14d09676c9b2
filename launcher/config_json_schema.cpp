// Setting → subschema, each kind by one function; a section is put together from the settings below it.
#include "launcher/config_json_schema.hpp"

#include <fmt/format.h>

#include <cctype>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "launcher/config_schema.hpp"

namespace llmlaunch::launcher {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kBooleanPattern =
    "^([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|[Oo][Nn]|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|[Oo][Ff][Ff])$";
constexpr const char* kNumberPattern = "^(0|[1-9][0-9]*)$";
constexpr const char* kDurationPattern = "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ms|s|m|h)?$";
constexpr const char* kSizePattern = "^[0-9]+( ?([KMGT]i?B|[KMGT]))?$";
constexpr const char* kLimitPattern = "^([0-9]+[KMGT]?|unlimited)$";
constexpr const char* kOctalPattern = "^0?[0-7]{1,3}$";

/// A key without a value counts as not given.
const Json kNothing = {{"type", "null"}};

Json any_of(std::initializer_list<Json> schemas) {
  return {{"anyOf", Json(schemas)}};
}

Json pattern(const char* expression) {
  return {{"type", "string"}, {"pattern", expression}};
}

/// A text as people write it: 8 and true are texts, too.
Json plain() {
  return {{"type", {"string", "number", "boolean"}}, {"minLength", 1}};
}

Json list_of_plain() {
  return {{"type", "array"}, {"items", plain()}};
}

Json integer(const Setting& setting) {
  Json number = {{"type", "integer"}, {"minimum", setting.least}, {"maximum", setting.most}};
  if (setting.words.empty()) return any_of({number, pattern(kNumberPattern), kNothing});
  Json beside = Json::array();
  for (const auto word : words_of(setting)) {
    beside.push_back(std::stoll(std::string(word)));
    beside.push_back(word);
  }
  return any_of({number, pattern(kNumberPattern), {{"enum", beside}}, kNothing});
}

/// The words; and what a reader of YAML 1.1 makes of a plain no, and every reader of a plain 0.
Json choice_schema(const Setting& setting) {
  Json words = Json::array();
  for (const auto word : words_of(setting)) {
    words.push_back(word);
    if (word == "no" || word == "NO") words.push_back(false);
    if (word == "NO") words.push_back("no");
    if (word == "0") words.push_back(0);
  }
  words.push_back(nullptr);
  return {{"enum", words}};
}

Json mapping(std::string_view path);

Json hosts() {
  Json host = mapping("llmlaunch.hosts[]");
  host["oneOf"] = Json::array({{{"required", {"name"}}}, {{"required", {"host"}}}});
  const Json one = any_of({plain(), host});
  return any_of({plain(), host, {{"type", "array"}, {"items", one}, {"minItems", 1}}});
}

Json schema_of(const Setting& setting) {
  switch (setting.kind) {
    case SettingKind::text: return any_of({plain(), kNothing});
    case SettingKind::texts: return any_of({plain(), list_of_plain(), kNothing});
    case SettingKind::boolean: return any_of({{{"type", "boolean"}}, pattern(kBooleanPattern), kNothing});
    case SettingKind::integer: return integer(setting);
    case SettingKind::duration:
      return any_of({{{"type", "number"}, {"minimum", setting.least / 1000.0}}, pattern(kDurationPattern), kNothing});
    case SettingKind::size:
      return any_of(
          {{{"type", "integer"}, {"minimum", setting.least}}, {{"const", 0}}, pattern(kSizePattern), kNothing});
    case SettingKind::limit: return any_of({{{"type", "integer"}, {"minimum", 0}}, pattern(kLimitPattern), kNothing});
    case SettingKind::octal:  // 0777 is 777 to YAML 1.2, and 511 to 1.1
      return any_of({{{"type", "integer"}, {"minimum", 0}, {"maximum", 777}}, pattern(kOctalPattern), kNothing});
    case SettingKind::choice: return choice_schema(setting);
    case SettingKind::section: return any_of({mapping(setting.path), kNothing});
    case SettingKind::mapping: return {{"type", {"object", "null"}}};
    case SettingKind::variables:
      return {{"type", {"object", "null"}}, {"additionalProperties", {{"type", {"string", "number", "boolean"}}}}};
    case SettingKind::groups:
      return {{"type", {"object", "null"}}, {"additionalProperties", any_of({plain(), list_of_plain(), kNothing})}};
    case SettingKind::hosts: return hosts();
    case SettingKind::any: break;
  }
  return Json::object();
}

/// "Ranks on this host. Default: an equal share of num_processes."
std::string description_of(const Setting& setting) {
  std::string text(setting.meaning);
  text.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(text.front())));
  text += ".";
  if (!setting.default_words.empty()) text += fmt::format(" Default: {}.", setting.default_words);
  if (!setting.instead.empty()) text += fmt::format(" Another spelling of {}.", setting.instead);
  return text;
}

Json mapping(std::string_view path) {
  Json properties = Json::object();
  for (const Setting& setting : settings()) {
    if (section_of(setting) != path) continue;
    Json schema = {{"description", description_of(setting)}};
    schema.update(schema_of(setting));
    properties[std::string(key_of(setting))] = std::move(schema);
  }
  return {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
}

}  // namespace

std::string config_json_schema() {
  Json document = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                   {"title", "Configuration of llmlaunch, and of accelerate as llmlaunch reads it"}};
  document.update(mapping(""));
  document["type"] = {"object", "null"};  // an empty file is one
  return document.dump(2) + "\n";
}

}  // namespace llmlaunch::launcher
