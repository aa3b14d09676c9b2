/// \file
/// The words of options that are one of a few: one table for each type. Read by the table of flags, and by whoever
/// names a value: messages, what the ranks compare, what a checkpoint keeps.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "trainer/options.hpp"

namespace llmlaunch::trainer {

template <class T>
struct OptionWord {
  const char* word;
  T value;
};

/// The first word of a value is its name; others mean the same.
template <class T>
struct WordTable;

template <>
struct WordTable<IntervalStrategy> {
  static constexpr auto kWords = std::to_array<OptionWord<IntervalStrategy>>(
      {{"no", IntervalStrategy::no}, {"steps", IntervalStrategy::steps}, {"epoch", IntervalStrategy::epoch}});
};

template <>
struct WordTable<SaveStrategy> {
  static constexpr auto kWords = std::to_array<OptionWord<SaveStrategy>>({{"no", SaveStrategy::no},
                                                                          {"steps", SaveStrategy::steps},
                                                                          {"epoch", SaveStrategy::epoch},
                                                                          {"best", SaveStrategy::best}});
};

template <>
struct WordTable<OnNan> {
  static constexpr auto kWords =
      std::to_array<OptionWord<OnNan>>({{"stop", OnNan::stop}, {"skip", OnNan::skip}, {"continue", OnNan::carry_on}});
};

template <>
struct WordTable<SchedulerType> {
  static constexpr auto kWords =
      std::to_array<OptionWord<SchedulerType>>({{"constant", SchedulerType::constant},
                                                {"constant_with_warmup", SchedulerType::constant_with_warmup},
                                                {"linear", SchedulerType::linear},
                                                {"cosine", SchedulerType::cosine}});
};

template <class T>
std::string word_for(T value) {
  const auto& words = WordTable<T>::kWords;
  const auto found = std::find_if(words.begin(), words.end(), [&](const auto& one) { return one.value == value; });
  return found == words.end() ? std::string() : found->word;
}

template <class T>
std::map<std::string, T> all_words() {
  std::map<std::string, T> all;
  for (const auto& [word, value] : WordTable<T>::kWords) all.emplace(word, value);
  return all;
}

}  // namespace llmlaunch::trainer
