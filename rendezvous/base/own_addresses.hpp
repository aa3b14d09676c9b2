/// \file
/// What this machine calls itself, where it can be reached, and where what it sends may seem to come from: head and
/// agent ask it.
#pragma once

#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch {

struct InterfaceAddress {
  std::string interface;  ///< "eth0"
  std::string address;    ///< as digits, without a zone
  bool loopback = false;
};

/// One for each address of an interface that is up, in the kernel's order.
Result<std::vector<InterfaceAddress>> own_interfaces();

/// The addresses alone, loopback included.
Result<std::vector<std::string>> own_addresses();

/// As the kernel has it, for people and for comparing; "?", which no machine is called, when it cannot be had.
std::string own_host_name();

}  // namespace llmlaunch
