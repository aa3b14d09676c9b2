// Looks up the rows of config_settings.cpp. Pure.
#include "launcher/config_schema.hpp"

#include <algorithm>

namespace llmlaunch::launcher {
namespace {

/// "llmlaunch.hosts[3].port" → "llmlaunch.hosts[].port".
std::string without_numbers(std::string_view path) {
  std::string out;
  bool inside = false;
  for (const char c : path) {
    if (c == ']') inside = false;
    if (!inside) out += c;
    if (c == '[') inside = true;
  }
  return out;
}

}  // namespace

const Setting* find_setting(std::string_view path) {
  const std::string wanted = without_numbers(path);
  const auto all = settings();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Setting& one) { return one.path == wanted; });
  return found == all.end() ? nullptr : &*found;
}

std::string_view section_of(const Setting& setting) {
  const auto dot = setting.path.rfind('.');
  return dot == setting.path.npos ? std::string_view{} : setting.path.substr(0, dot);
}

std::string_view key_of(const Setting& setting) {
  return setting.path.substr(setting.path.rfind('.') + 1);  // npos + 1 is the beginning
}

std::vector<std::string_view> keys_of(std::string_view section) {
  std::string wanted = without_numbers(section);
  if (wanted == "llmlaunch.hosts") wanted += "[]";  // one host that stands there without a list
  std::vector<std::string_view> keys;
  for (const Setting& setting : settings())
    if (section_of(setting) == wanted) keys.push_back(key_of(setting));
  return keys;
}

std::vector<std::string_view> words_of(const Setting& setting) {
  std::vector<std::string_view> words;
  for (std::size_t start = 0; start < setting.words.size();) {
    const auto end = std::min(setting.words.find(' ', start), setting.words.size());
    if (end > start) words.push_back(setting.words.substr(start, end - start));
    start = end + 1;
  }
  return words;
}

}  // namespace llmlaunch::launcher
