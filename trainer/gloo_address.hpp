/// \file
/// Which of this host's addresses Gloo binds to.
#pragma once

#include <cstdint>
#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

/// An address of this network interface, IPv4 if it has one. `Errc::invalid_config` lists the interfaces that there
/// are.
Result<std::string> address_of_interface(const std::string& name);

/// The address by which this host reaches `address`:`port`, as the kernel routes. Sends nothing.
Result<std::string> local_address_towards(const std::string& address, std::uint16_t port);

}  // namespace llmlaunch::trainer
