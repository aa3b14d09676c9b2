/// \file
/// A machine of a job whose machines are started one by one, and not machine 0: joins machine 0, runs the job's share
/// of ranks by an agent of its own, and ends as the job does. Machine 0 decides everything (call_desk.hpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/call_token.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

struct MemberOptions {
  std::string agent_path;  ///< llmlaunch-agent on this machine
  const CallToken& token;
};

struct MemberResult {
  int exit_status = 0;           ///< the job's, or our own: 69 when machine 0 does not answer, refuses, or is lost
  std::optional<Error> failure;  ///< why it is not 0
};

/// Blocks until the job is over and the agent has ended. Takes SIGINT, SIGTERM, SIGHUP and SIGQUIT meanwhile, which
/// stop the whole job, and passes on those that are for the ranks. An `Error` only when it could not be tried.
Result<MemberResult> join_job(const LaunchPlan& plan, const MemberOptions& options);

}  // namespace llmlaunch::launcher
