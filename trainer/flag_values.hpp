/// \file
/// What the words behind flags have to be, and the sentence for one that is something else. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmlaunch::trainer {

/// So much of a word that is wrong is shown.
inline constexpr std::size_t kShownWord = 60;

/// Where no other hint helps.
inline constexpr const char* kSeeHelp = "llmlaunch-train --help lists the flags";

enum class FlagKind { number, word, list };

/// Why a word is no value of its flag. `what` stands behind "--flag: ", or, where it goes on with the sentence, behind
/// "--flag "; `hint` may be empty.
struct WrongWord {
  std::string what;
  std::string hint = {};
  bool goes_on = false;
};

/// What a flag takes, as its messages say it: "a whole number from 1 to 256".
struct NumberRule {
  std::string takes;
  double least = 0;
  double most = std::numeric_limits<double>::max();
  bool above_least = false;   ///< `least` itself is too small
  bool below_most = false;    ///< `most` itself is too large
  bool whole_from_1 = false;  ///< from 1 on no fractions
  bool whole = false;         ///< no fractions at all
  std::optional<double> also = {};
  bool negative_is_0 = false;  ///< as Hugging Face's Trainer takes limits
  std::string hint_at_0 = {};  ///< for who writes 0 where it is not taken
};

NumberRule whole_number(double least, double most);
NumberRule number_from(double least);
NumberRule number_above_0(double most = std::numeric_limits<double>::max());
/// From 0 and below 1.
NumberRule share();
/// Steps, or below 1 a share of all of them.
NumberRule steps_or_share(double most, bool zero_too);

/// The finite number that the whole text is; nothing: it is none.
std::optional<double> number_in(std::string_view text);

/// What true and false are written as by accelerate's and Hugging Face's parsers and by YAML, in any case.
std::optional<bool> truth_in(std::string_view text);

/// What is wrong with `word`; nothing: it is good, and is written as a plain decimal number.
std::optional<WrongWord> check_number(std::string& word, const NumberRule& rule);
/// The same of any number of 64 bits, for seeds.
std::optional<WrongWord> check_whole_64(std::string& word);
inline constexpr const char* kTakesWhole64 = "a whole number from 0 to 18446744073709551615";

/// The same of one of a few words, in any case. A good one is written as in `words`.
std::optional<WrongWord> check_choice(std::string& word, const std::vector<std::string>& words);
/// The same of true and false. A good word is written as one of these.
std::optional<WrongWord> check_truth(std::string& word);
inline constexpr const char* kTakesTruth = "true or false (also yes, no, on, off, 1, 0)";

/// "a, b and c".
std::string listed(const std::vector<std::string>& words);

}  // namespace llmlaunch::trainer
