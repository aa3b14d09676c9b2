/// \file
/// What an error shows of a file of settings, which may hold secrets that the trainer has no use for ("hub_token").
/// Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace llmlaunch::trainer {

/// Whether a name says that its value is a secret: "hub_token", also when it is misspelt: "hub_tokn".
bool is_secret_name(std::string_view name);

/// Line `number`, from 1, without what may be a secret: what stands behind a secret's name or the anchor that one means
/// ("hub_token: *x"), and on the lines below it until a key that is no deeper. A cut is marked by "…".
std::string shown_line(std::string_view text, std::size_t number);

}  // namespace llmlaunch::trainer
