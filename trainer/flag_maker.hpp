/// \file
/// Flags of CLI11 with this trainer's checks and words: what CLI11 itself says of a value reaches nobody. Used by the
/// table of flags alone.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "trainer/flag_values.hpp"

namespace llmlaunch::trainer {

/// Leaves CLI11's parser from within a check.
struct WrongFlag {
  std::string flag;  ///< with hyphens
  WrongWord word;
};

/// What a message says of a flag.
struct FlagFacts {
  std::string takes;  ///< "a whole number from 1 to 256"
  FlagKind kind = FlagKind::word;
};

class FlagMaker {
 public:
  /// The application outlives it, and it outlives the parsing.
  explicit FlagMaker(CLI::App& app) : app_(app) {}

  /// `unsaid`: the default is none of the flag's own values, and help does not show it.
  template <class T>
  CLI::Option* number(const std::string& flag, T& value, const NumberRule& rule, const std::string& help,
                      bool unsaid = false) {
    CLI::Option* option = app_.add_option(flag, value, help);
    if (!unsaid) option->capture_default_str();
    return keep(option, flag, {rule.takes, FlagKind::number},
                [rule](std::string& word) { return check_number(word, rule); });
  }

  template <class T>
  CLI::Option* seed(const std::string& flag, T& value, const std::string& help) {
    return keep(app_.add_option(flag, value, help), flag, {kTakesWhole64, FlagKind::number}, check_whole_64);
  }

  /// One of a few words.
  template <class T>
  CLI::Option* choice(const std::string& flag, T& value, const std::map<std::string, T>& words,
                      const std::string& help) {
    std::vector<std::string> names;
    for (const auto& [word, meaning] : words) names.push_back(word);
    CLI::Option* option = app_.add_option_function<std::string>(
        flag, [&value, words](const std::string& word) { value = words.at(word); }, help);
    option->type_name(joined(names));
    return keep(option, flag, {"one of " + listed(names), FlagKind::word},
                [names](std::string& word) { return check_choice(word, names); });
  }

  /// True or false, which has to follow. T: bool, or one that may be unsaid.
  template <class T>
  CLI::Option* truth(const std::string& flag, T& value, const std::string& help) {
    CLI::Option* option = app_.add_option_function<std::string>(
        flag, [&value](const std::string& word) { value = word == "true"; }, help);
    option->type_name("true|false");
    return keep(option, flag, {kTakesTruth, FlagKind::word}, check_truth);
  }

  /// A switch as Hugging Face's: alone it means true, and true or false may follow.
  template <class T>
  CLI::Option* on_off(const std::string& flag, T& value, const std::string& help) {
    return truth(flag, value, help)->expected(0, 1)->default_str("true")->option_text("[true|false]");
  }

  /// A text that must not be empty. `names`: "the name of a file".
  CLI::Option* text(const std::string& flag, std::string& value, const std::string& names, const std::string& help);

  /// Several of a few words, with commas between.
  CLI::Option* list(const std::string& flag, std::vector<std::string>& value, const std::vector<std::string>& words,
                    const std::string& help);

  /// nullptr: no flag that takes a value.
  const FlagFacts* facts(const std::string& flag) const;

 private:
  using Check = std::function<std::optional<WrongWord>(std::string& word)>;
  static std::string joined(const std::vector<std::string>& words);
  CLI::Option* keep(CLI::Option* option, const std::string& flag, FlagFacts facts, Check check);

  CLI::App& app_;
  std::map<std::string, FlagFacts> facts_;
};

}  // namespace llmlaunch::trainer
