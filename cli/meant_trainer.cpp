// One slip of the finger is a typing error: more of them make another word of one that is this short, and so does
// another first letter (brain, drain). A path is no word.
#include "cli/meant_trainer.hpp"

#include <fmt/format.h>

#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::cli {
namespace {

bool is_train_mistyped(std::string_view word) {
  return word.starts_with(kTrainWord.front()) && word.size() <= kTrainWord.size() + 1 &&
         word.find('/') == std::string_view::npos && edit_distance(word, kTrainWord) == 1;
}

}  // namespace

Error with_meant_trainer(Error error, std::string_view program) {
  if (error.code != Errc::no_program || !is_train_mistyped(program)) return error;
  error.hint +=
      fmt::format("{}did you mean '{}', the built-in trainer?", error.hint.empty() ? "" : "; or ", kTrainWord);
  return error;
}

}  // namespace llmlaunch::cli
