/// \file
/// Values of `rank_env`: texts with the place of a rank in them, "/tmp/cache-{rank}". Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// What can stand between braces, by the same names.
struct RankPlace {
  std::uint32_t rank = 0;
  std::uint32_t local_rank = 0;
  std::uint32_t node_rank = 0;
  std::uint32_t world_size = 0;
  std::string_view host;
};

/// `{{` and `}}` are single braces, a `}` alone is itself. Errors: `Errc::invalid_config` for a name that is none, or a
/// brace that is not closed. `secret`: the text is not to be repeated.
Result<void> check_template(std::string_view text, bool secret);
/// Of a text that was checked.
std::string expand_template(std::string_view text, const RankPlace& place);

}  // namespace llmlaunch::launcher
