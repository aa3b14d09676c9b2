/// \file
/// Names that were probably meant. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace llmlaunch::trainer {

/// Letters that are missing, too many or others, and neighbours that changed places.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The one of `names` that was probably meant, or nothing when none is near.
std::string nearest_name(std::span<const std::string> names, std::string_view typed);

}  // namespace llmlaunch::trainer
