// Flags of CLI11 with our own checks. Called by option_table.cpp.
#include "trainer/flag_maker.hpp"

#include <fmt/format.h>

#include <utility>

namespace llmlaunch::trainer {

CLI::Option* FlagMaker::text(const std::string& flag, std::string& value, const std::string& names,
                             const std::string& help) {
  return keep(app_.add_option(flag, value, help), flag, {names, FlagKind::word},
              [names](const std::string& word) -> std::optional<WrongWord> {
                if (!word.empty()) return std::nullopt;
                return WrongWord{"needs " + names, "is it a variable that is not set?", true};
              });
}

CLI::Option* FlagMaker::list(const std::string& flag, std::vector<std::string>& value,
                             const std::vector<std::string>& words, const std::string& help) {
  CLI::Option* option = app_.add_option(flag, value, help)->delimiter(',')->type_name(joined(words));
  return keep(option, flag, {"one of " + listed(words) + ", or several with commas between", FlagKind::list},
              [words](std::string& word) { return check_choice(word, words); });
}

const FlagFacts* FlagMaker::facts(const std::string& flag) const {
  const auto found = facts_.find(flag);
  return found == facts_.end() ? nullptr : &found->second;
}

std::string FlagMaker::joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, "|"));
}

CLI::Option* FlagMaker::keep(CLI::Option* option, const std::string& flag, FlagFacts facts, Check check) {
  facts_[flag] = std::move(facts);
  return option->transform(CLI::Validator(
      [flag, check = std::move(check)](std::string& word) {
        if (auto wrong = check(word)) throw WrongFlag{flag, std::move(*wrong)};
        return std::string();
      },
      ""));
}

}  // namespace llmlaunch::trainer
