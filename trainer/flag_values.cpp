// Checks of single words. Called by the table of flags and for files of settings.
#include "trainer/flag_values.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/nearest.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::trainer {
namespace {

std::string in_quotes(std::string_view word) {
  return word.size() > kShownWord ? fmt::format("'{}…'", cut_text(word, kShownWord)) : fmt::format("'{}'", word);
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

/// What people write who mean a number: a comma, a hexadecimal one, a unit.
std::string hint_for_number(const std::string& word) {
  if (word.empty()) return "is it a variable that is not set?";
  std::string dotted = word;
  std::replace(dotted.begin(), dotted.end(), ',', '.');
  if (dotted != word && number_in(dotted)) return fmt::format("a decimal point is a point: {}", dotted);
  const std::size_t first = word.front() == '-' || word.front() == '+' ? 1 : 0;
  const bool other =
      word.size() > first + 1 && word[first] == '0' && std::isalpha(static_cast<unsigned char>(word[first + 1])) != 0;
  return other ? "write it in decimal digits" : "";
}

WrongWord wrong_number(const std::string& word, const std::string& takes) {
  return {fmt::format("{} is not {}", in_quotes(word), takes), hint_for_number(word)};
}

bool is_whole(double value) {
  return value == std::floor(value);
}

}  // namespace

NumberRule whole_number(double least, double most) {
  return {.takes = fmt::format("a whole number from {:.0f} to {:.0f}", least, most),
          .least = least,
          .most = most,
          .whole = true};
}

NumberRule number_from(double least) {
  return {.takes = fmt::format("a number from {:.0f}", least), .least = least};
}

NumberRule number_above_0(double most) {
  const bool bound = most < std::numeric_limits<double>::max();
  return {.takes = bound ? fmt::format("a number above 0 and up to {:.0f}", most) : "a number above 0",
          .most = most,
          .above_least = true};
}

NumberRule share() {
  return {.takes = "a number from 0 and below 1", .most = 1, .below_most = true};
}

NumberRule steps_or_share(double most, bool zero_too) {
  return {
      .takes = fmt::format("a whole number from {} to {:.0f}, or below 1 a share of all steps", zero_too ? 0 : 1, most),
      .most = most,
      .above_least = !zero_too,
      .whole_from_1 = true};
}

std::optional<double> number_in(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(text.data(), end, value);
  if (failed != std::errc() || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<bool> truth_in(std::string_view text) {
  const std::string word = lower_case(text);
  for (const char* yes : {"true", "yes", "on", "1", "t", "y"}) {
    if (word == yes) return true;
  }
  for (const char* no : {"false", "no", "off", "0", "f", "n"}) {
    if (word == no) return false;
  }
  return std::nullopt;
}

std::optional<WrongWord> check_number(std::string& word, const NumberRule& rule) {
  const auto value = number_in(word);
  if (!value) return wrong_number(word, rule.takes);
  if (rule.negative_is_0 && *value < 0 && is_whole(*value)) {
    word = "0";
    return std::nullopt;
  }
  const bool small = rule.above_least ? *value <= rule.least : *value < rule.least;
  const bool large = rule.below_most ? *value >= rule.most : *value > rule.most;
  const bool broken = !is_whole(*value) && (rule.whole || (rule.whole_from_1 && *value > 1));
  if ((small || large || broken) && value != rule.also) {
    WrongWord wrong = wrong_number(word, rule.takes);
    if (*value == 0 && !rule.hint_at_0.empty()) wrong.hint = rule.hint_at_0;
    return wrong;
  }
  // A number as Hugging Face's files write it, 3.0, and digits with zeros before them, which are no octal number.
  word = *value == 0                                   ? "0"
         : is_whole(*value) && std::abs(*value) < 1e15 ? fmt::format("{:.0f}", *value)
                                                       : fmt::format("{}", *value);
  return std::nullopt;
}

std::optional<WrongWord> check_whole_64(std::string& word) {
  const auto value = parse_whole<std::uint64_t>(word);
  if (!value) return wrong_number(word, kTakesWhole64);
  word = fmt::format("{}", *value);
  return std::nullopt;
}

std::optional<WrongWord> check_choice(std::string& word, const std::vector<std::string>& words) {
  const std::string lower = lower_case(word);
  if (std::find(words.begin(), words.end(), lower) != words.end()) {
    word = lower;
    return std::nullopt;
  }
  // "cpu" is nearer to it by its letters.
  const bool is_cuda = lower == "gpu" && std::find(words.begin(), words.end(), "cuda") != words.end();
  const std::string meant(is_cuda ? "cuda" : nearest(lower, words));
  return WrongWord{fmt::format("{} is not one of {}", in_quotes(word), fmt::join(words, ", ")),
                   meant.empty() ? "" : fmt::format("did you mean {}?", meant)};
}

std::optional<WrongWord> check_truth(std::string& word) {
  const auto truth = truth_in(word);
  if (!truth) {
    const bool file = word.ends_with(".json") || word.ends_with(".yaml") || word.ends_with(".yml");
    return WrongWord{fmt::format("{} is not {}", in_quotes(word), kTakesTruth),
                     file ? fmt::format("a file of settings is named by --config {}", word) : ""};
  }
  word = *truth ? "true" : "false";
  return std::nullopt;
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " and " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace llmlaunch::trainer
