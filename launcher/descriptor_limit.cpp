// RLIMIT_NOFILE for the time of a launch; see descriptor_limit.hpp.
#include "launcher/descriptor_limit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "launcher/log_files.hpp"

namespace llmlaunch::launcher {
namespace {

// A socket and libssh's copy of it; one more behind a jump host or a ProxyCommand; two more while ssh-agent signs, or
// the pipes of an agent on this machine.
constexpr std::uint64_t kPerHost = 5;
// A rank's connection to the rendezvous, or its PyTorch store and two clones of that, as NCCL's watchdogs make them.
constexpr std::uint64_t kPerRank = 1;
constexpr std::uint64_t kPerRankWithStore = 3;
// The terminal, the event loop and up to eight for ssh (three each), the record, pushed files, a name lookup, and what
// the process was started with.
constexpr std::uint64_t kSpare = 128;

// What the process had before; set while a raised limit is in force. Read by children after fork.
std::optional<rlimit> before;

}  // namespace

std::uint64_t descriptors_needed(const LaunchPlan& plan) {
  const std::uint64_t ranks = plan.world_size;
  const std::uint64_t connections = ranks * (plan.use_agent_store ? kPerRankWithStore : kPerRank);
  return kPerHost * plan.hosts.size() + connections + std::min<std::uint64_t>(2 * ranks, kMaxOpenRankFiles) + kSpare;
}

Result<DescriptorLimit> DescriptorLimit::raise_for(const LaunchPlan& plan) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return system_error(errno, "getrlimit of open files");
  const std::uint64_t needed = descriptors_needed(plan);
  if (limit.rlim_cur >= needed) return DescriptorLimit(false);
  if (limit.rlim_max < needed)
    return make_error(Errc::out_of_resources,
                      fmt::format("{} hosts and {} ranks need {} open files, and the limit of this shell is {}",
                                  plan.hosts.size(), plan.world_size, needed, limit.rlim_max),
                      {},
                      "raise it: ulimit -Hn, 'nofile' in /etc/security/limits.conf, or LimitNOFILE= of a systemd unit");
  before = limit;
  limit.rlim_cur = needed;
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
