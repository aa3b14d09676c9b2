/// \file
/// The way to a host that is not reached directly, as ssh writes it: "bastion", "me@bastion:2222,inner". Used by the
/// configuration (`proxy_jump`) and by ssh_config (`ProxyJump`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// One jump host.
struct JumpStop {
  std::string host;  ///< a name, as one would type it behind ssh, or an address
  std::optional<std::string> user;
  std::optional<std::uint16_t> port;
};

/// Nobody has a network that is deeper than this; a way that leads back to itself ends here.
inline constexpr std::size_t kMaxJumps = 8;

/// The stops in their order, none for "none". `Errc::invalid_argument` says what is wrong with the text.
Result<std::vector<JumpStop>> parse_proxy_jump(std::string_view text);

/// "me@bastion:2222", "[fd00::1]:22".
std::string to_string(const JumpStop& stop);
/// All of them, with commas.
std::string to_string(const std::vector<JumpStop>& way);

}  // namespace llmlaunch::launcher
