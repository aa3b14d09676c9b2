/// \file
/// A listening socket for `Server`, and addresses as messages have them. Private to this directory.
#pragma once

#include <cstdint>
#include <string>

#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::rendezvous {

/// "10.0.0.1", "fd00::1"; an IPv4 address that came by way of IPv6 is shown as IPv4.
std::string name_address(asio::ip::address address);
/// "10.0.0.1:29500", "[fd00::1]:29500"; with an address as `name_address` has it.
std::string name_endpoint(const asio::ip::tcp::endpoint& endpoint);

/// `bind_address` empty: all addresses, IPv6 and IPv4. `Errc::io` with address and port when that fails; `in_use`, if
/// there, then says whether another program listens there.
Result<asio::ip::tcp::acceptor> listen(const asio::any_io_executor& executor, const std::string& bind_address,
                                       std::uint16_t port, bool* in_use = nullptr);

}  // namespace llmlaunch::rendezvous
