// Reads the environment once, and counts calls for the failures that a test asked for.
#include "tests/support/cuda_host/settings.hpp"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sstream>
#include <string_view>
#include <vector>

namespace cuda_host {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::uint64_t number_or(const char* name, std::uint64_t otherwise) {
  const std::string text = variable(name);
  return text.empty() ? otherwise : std::stoull(text);
}

struct Rule {
  std::string name;
  std::uint64_t call;
  int code;
};

std::vector<Rule> parse_rules() {
  std::vector<Rule> rules;
  std::istringstream list(variable("LLMLAUNCH_CUDA_HOST_FAIL"));
  for (std::string text; std::getline(list, text, ',');) {
    const auto colon = text.find(':');
    const auto equals = text.find('=');
    if (colon == std::string::npos || equals == std::string::npos) {
      std::fprintf(stderr, "emulated device: LLMLAUNCH_CUDA_HOST_FAIL has no NAME:CALL=CODE in '%s'\n", text.c_str());
      std::abort();
    }
    const auto at = text.find('@');
    if (at != std::string::npos && variable("RANK") != text.substr(at + 1)) continue;
    rules.push_back({text.substr(0, colon), std::stoull(text.substr(colon + 1)), std::stoi(text.substr(equals + 1))});
  }
  return rules;
}

}  // namespace

const Settings& settings() {
  static const Settings kSettings = {
      .seed = number_or("LLMLAUNCH_CUDA_HOST_SEED", 0),
      .devices = static_cast<int>(number_or("LLMLAUNCH_CUDA_HOST_DEVICES", 1)),
      .capability = static_cast<int>(number_or("LLMLAUNCH_CUDA_HOST_CAPABILITY", 9)),
  };
  return kSettings;
}

int injected_failure(const char* name) {
  static std::mutex mutex;
  static const std::vector<Rule> kRules = parse_rules();
  static std::map<std::string, std::uint64_t, std::less<>> calls;
  if (kRules.empty()) return 0;
  const std::lock_guard lock(mutex);
  const std::uint64_t call = ++calls[name];
  for (const Rule& rule : kRules) {
    if (rule.name == name && rule.call == call) return rule.code;
  }
  return 0;
}

}  // namespace cuda_host
