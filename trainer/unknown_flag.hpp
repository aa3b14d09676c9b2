/// \file
/// What is said of a word on the command line that is no flag of the trainer's. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "rendezvous/base/error.hpp"

namespace llmlaunch::trainer {

/// `Errc::usage`. Hugging Face's other flags are known by name, with what to do instead; of others the nearest flag is
/// named. A value, which may be a secret, is not shown: neither behind an equals sign nor in a word of its own, of
/// which its place is told: `number` is 1 for the first word behind the program.
Error unknown_word(std::span<const std::string> names, const std::string& word, std::size_t number);

}  // namespace llmlaunch::trainer
