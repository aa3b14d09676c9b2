/// \file
/// Where this machine can be reached, and where what it sends may seem to come from: head and agent ask it.
#pragma once

#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch {

/// The addresses of the interfaces that are up, loopback included, as digits.
Result<std::vector<std::string>> own_addresses();

}  // namespace llmlaunch
