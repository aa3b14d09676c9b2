/// \file
/// The RemoteShell of a host that is reached by ssh; see remote.hpp for what it promises.
#pragma once

#include <memory>

#include "launcher/plan.hpp"
#include "launcher/remote.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

class SshContext;

/// What the sessions of a launch share. Once per launch; `Errc::invalid_config` with file:line when ~/.ssh/config is
/// wrong.
Result<std::shared_ptr<SshContext>> load_ssh_context(const LaunchPlan& plan);

/// `host` must outlive the shell.
std::shared_ptr<RemoteShell> make_ssh_shell(asio::any_io_executor executor, const HostPlan& host,
                                            std::shared_ptr<const AgentBinary> agent,
                                            std::shared_ptr<SshContext> context);

}  // namespace llmlaunch::launcher::ssh
