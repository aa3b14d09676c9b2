// RLIMIT_NOFILE for the time of a launch; see descriptor_limit.hpp.
#include "launcher/descriptor_limit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "launcher/call_desk.hpp"
#include "launcher/log_files.hpp"
#include "rendezvous/server.hpp"

namespace llmlaunch::launcher {
namespace {

// A socket and libssh's copy of it; one more behind a jump host or a ProxyCommand; two more while ssh-agent signs, or
// the pipes of an agent on this machine.
constexpr std::uint64_t kPerHost = 5;
// The terminal, the event loop and up to eight for ssh (three each), the record, pushed files, a name lookup, and what
// the process was started with.
constexpr std::uint64_t kSpare = 128;

// What the process had before; set while a raised limit is in force. Read by children after fork.
std::optional<rlimit> before;

bool via_ssh(const LaunchPlan& plan) {
  return plan.policy == StartPolicy::gang && plan.rendezvous_via == RendezvousWay::ssh;
}

}  // namespace

std::uint64_t descriptors_needed(const LaunchPlan& plan) {
  // As many connections as strangers may have at the same time: who floods the port must not take the logs' room.
  const std::uint64_t callers = plan.per_machine ? CallDesk::most_sockets(plan.hosts.size()) : 0;
  const std::uint64_t rank_files = std::min<std::uint64_t>(2 * std::uint64_t{plan.world_size}, kMaxOpenRankFiles);
  // Of what is carried the other end of each connection is ours, too.
  const std::uint64_t carried = via_ssh(plan) ? rendezvous::Server::most_sockets(plan.world_size) : 0;
  return carried + kPerHost * plan.hosts.size() + rendezvous::Server::most_sockets(plan.world_size) + callers +
         rank_files + kSpare;
}

Result<DescriptorLimit> DescriptorLimit::raise_for(const LaunchPlan& plan) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return system_error(errno, "getrlimit of open files");
  const std::uint64_t needed = descriptors_needed(plan);
  // Few programs make all the clones of PyTorch's store that they may.
  const std::uint64_t clones =
      plan.use_agent_store ? (via_ssh(plan) ? 2 : 1) * rendezvous::Server::most_store_sockets(plan.world_size) : 0;
  if (limit.rlim_cur >= needed + clones) return DescriptorLimit(false);
  if (limit.rlim_max < needed)
    return make_error(Errc::out_of_resources,
                      fmt::format("{} hosts and {} ranks need {} open files, and the limit of this shell is {}",
                                  plan.hosts.size(), plan.world_size, needed, limit.rlim_max),
                      {},
                      "raise it: ulimit -Hn, 'nofile' in /etc/security/limits.conf, or LimitNOFILE= of a systemd unit");
  before = limit;
  limit.rlim_cur = std::min<rlim_t>(needed + clones, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return system_error(errno, "setrlimit of open files");
  return DescriptorLimit(true);
}

DescriptorLimit::DescriptorLimit(DescriptorLimit&& other) noexcept : raised_(std::exchange(other.raised_, false)) {}

DescriptorLimit::~DescriptorLimit() {
  if (!raised_) return;
  (void)::setrlimit(RLIMIT_NOFILE, &*before);  // lowering is always allowed
  before.reset();
}

void DescriptorLimit::restore_in_child() {
  if (before) (void)::setrlimit(RLIMIT_NOFILE, &*before);
}

}  // namespace llmlaunch::launcher
