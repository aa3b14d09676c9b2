/// \file
/// The limits of a Prepare compared with what the host allows, before any rank starts.
#pragma once

#include <sys/resource.h>

#include <functional>
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

}  // namespace llmlaunch::launcher::agent
