/// \file
/// The RemoteShell of a host that is reached by ssh; see remote.hpp for what it promises.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "launcher/plan.hpp"
#include "launcher/remote.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {
struct HostKeyDesk;
}

namespace llmlaunch::launcher::ssh {

class SshContext;

/// What a person may be asked at the terminal.
struct Questions {
  bool batch = false;                ///< nothing, as if there were no terminal
  bool ask_password = false;         ///< for a password, at once, for hosts that take no key
  HostKeyDesk* host_keys = nullptr;  ///< what is to be noted of host keys, and what was accepted; may be null
};

/// What the sessions of a launch share. Once per launch, before it catches signals: it may ask. `Errc::invalid_config`
/// with file:line when ~/.ssh/config is wrong, `Errc::usage` when somebody is to be asked and there is no terminal.
/// `workers`: threads that sessions are spread over (workers.hpp); 0: all live on the event loop.
Result<std::shared_ptr<SshContext>> load_ssh_context(const LaunchPlan& plan, const Questions& questions,
                                                     std::size_t workers);

/// Ends those threads. When all shells are closed, and while the event loop that they belong to is there.
void end_workers(SshContext& context);

/// How far the busiest of them is behind (workers.hpp). From the event loop's thread, now and then.
std::chrono::milliseconds workers_behind(SshContext& context);

/// How many there should be: one for each of the head's cores but the loop's; none for few hosts or few cores.
std::size_t worker_count(std::size_t hosts, std::size_t cores);

/// `host` must outlive the shell.
std::shared_ptr<RemoteShell> make_ssh_shell(asio::any_io_executor executor, const HostPlan& host,
                                            std::shared_ptr<const AgentBinary> agent,
                                            std::shared_ptr<SshContext> context);

}  // namespace llmlaunch::launcher::ssh
