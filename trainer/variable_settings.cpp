// The environment's settings → options, by the table of flags.
#include "trainer/variable_settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>
#include <vector>

#include "rendezvous/base/env.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::trainer {
namespace {

std::string in_case(std::string_view text, int (*change)(int)) {
  std::string changed(text);
  std::transform(changed.begin(), changed.end(), changed.begin(),
                 [&](unsigned char c) { return static_cast<char>(change(c)); });
  return changed;
}

/// A list's words as a flag has them: "json,tensorboard" and "json tensorboard".
std::vector<std::string> list_words(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c != ',' && c != ' ') {
      words.back() += c;
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty() && words.size() > 1) words.pop_back();
  return words;
}

Error wrong_variable(const std::string& option, std::string what, std::string hint) {
  return make_error(Errc::invalid_config, std::move(what), "environment variable " + variable_of(option),
                    std::move(hint));
}

}  // namespace

VariableSettings variable_settings(const char* const* environment) {
  VariableSettings settings;
  const std::string_view prefix = env::kTrainPrefix;
  for (; *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    const std::size_t equals = entry.find('=');
    if (!entry.starts_with(prefix) || equals == entry.npos || equals + 1 == entry.size()) continue;
    settings.emplace(in_case(entry.substr(prefix.size(), equals - prefix.size()), std::tolower),
                     entry.substr(equals + 1));
  }
  return settings;
}

std::string variable_of(const std::string& option) {
  return env::kTrainPrefix + in_case(option, std::toupper);
}

Result<void> apply_variables(const VariableSettings& variables, OptionTable& table) {
  for (const auto& [option, text] : variables) {
    if (option == "config") continue;  // a file, which was read before
    const auto kind = table.kind_of(option);
    if (!kind) {
      const std::vector<std::string> names = table.names();
      const std::string meant(nearest(option, names));
      return wrong_variable(option, "is no option of the trainer",
                            meant.empty() ? "--help lists them" : fmt::format("did you mean {}?", variable_of(meant)));
    }
    const std::vector<std::string> words = *kind == FlagKind::list ? list_words(text) : std::vector<std::string>{text};
    if (auto set = table.set(option, words); !set) return wrong_variable(option, set.error().what, set.error().hint);
  }
  return ok;
}

}  // namespace llmlaunch::trainer
