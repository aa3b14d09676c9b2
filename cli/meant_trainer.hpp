/// \file
/// The built-in trainer's word, typed wrong, is a program that no host has.
#pragma once

#include <string_view>

#include "rendezvous/base/error.hpp"

namespace llmlaunch::cli {

inline constexpr std::string_view kTrainWord = "train";

/// The error of a job whose program is `program`; its hint asks for the trainer as well, if that was probably meant.
Error with_meant_trainer(Error error, std::string_view program);

}  // namespace llmlaunch::cli
