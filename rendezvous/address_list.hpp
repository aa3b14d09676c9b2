/// \file
/// Who may come, by address. Used by the server, and by the launcher to check and to fill the list.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::rendezvous {

class AddressList {
 public:
  /// "10.0.0.7", "10.1.0.0/16", "fd00::/64". `invalid_argument` for anything else, names included.
  Result<void> add(std::string_view text);
  /// An IPv4 address is the same when it comes by way of IPv6 (::ffff:10.0.0.7). Not digits: false.
  bool contains(const std::string& address) const;

 private:
  struct Network {
    std::array<unsigned char, 16> bytes{};
    unsigned bits = 128;
  };
  std::vector<Network> networks_;
};

}  // namespace llmlaunch::rendezvous
