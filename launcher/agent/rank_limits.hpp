/// \file
/// The limits of a Prepare compared with what the host allows, before any rank starts.
#pragma once

#include <sys/resource.h>

#include <functional>
#include <optional>
#include <vector>

#include "launcher/agent/settings.hpp"

namespace llmlaunch::launcher::agent {

/// One setrlimit of a rank.
struct RankLimit {
  int resource = 0;
  rlimit value{};
};

/// Of the process that asks; a test puts its own here.
using LimitFunction = std::function<rlimit(int resource)>;
rlimit own_limit(int resource);

/// What each rank sets: the soft limits as given, the hard ones as they are. Errors: `Errc::out_of_resources` for a
/// limit above the hard one, with name and both values, and all of them when there are several;
/// `Errc::invalid_argument` for a name or umask that is none.
Result<std::vector<RankLimit>> check_limits(const RankSettings& settings, const LimitFunction& limit_of);

/// Raises this process's soft limit of open files to what it needs to serve so many ranks: pipes for each, and a spare.
/// Returns the limit that it had before, for the ranks; nothing when it was enough. `Errc::out_of_resources` when the
/// hard limit is lower, with both numbers.
Result<std::optional<RankLimit>> make_room_for(std::size_t ranks);

}  // namespace llmlaunch::launcher::agent
