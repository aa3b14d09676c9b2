// setrlimit's part of a rank; see rank_limits.hpp. A hard limit is never raised, also not for root: what a rank may
// take is the host's decision.
#include "launcher/agent/rank_limits.hpp"

#include <cerrno>

#include "launcher/agent/limit_names.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr std::uint32_t kMaxUmask = 0777;
// Of a rank the agent holds the ends of stdin, stdout, stderr, and of the pipe that tells of its exec.
constexpr std::size_t kPerRank = 4;
// The head's stream, signals, spool, cgroup, visitors, and the other ends of the rank that is being started.
constexpr std::size_t kSpareFiles = 64;

std::string shown(std::uint64_t value) {
  return value == kUnlimited ? "unlimited" : std::to_string(value);
}

rlim_t value_of(const LimitSpec& limit) {
  return limit.value == kUnlimited ? RLIM_INFINITY : static_cast<rlim_t>(limit.value);
}

}  // namespace

rlimit own_limit(int resource) {
  rlimit limit{};
  // Fails for a resource that the kernel does not know: then nothing above 0 can be had.
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return {};
  return limit;
}

Result<std::vector<RankLimit>> check_limits(const RankSettings& settings, const LimitFunction& limit_of) {
  if (settings.umask != kNoUmask && settings.umask > kMaxUmask)
    return make_error(Errc::invalid_argument, "a umask of " + std::to_string(settings.umask));
  std::vector<RankLimit> limits;
  std::string too_high;
  for (const LimitSpec& spec : settings.limits) {
    const LimitName* name = limit_named(spec.name);
    if (name == nullptr) return make_error(Errc::invalid_argument, "no limit has the name '" + spec.name + "'");
    const rlimit now = limit_of(name->resource);
    if (value_of(spec) > now.rlim_max) {  // RLIM_INFINITY is the largest number
      too_high += (too_high.empty() ? "limit " : "; limit ") + spec.name + " " + shown(spec.value) +
                  " is above the hard limit there, " + std::to_string(now.rlim_max);
    }
    limits.push_back({name->resource, {value_of(spec), now.rlim_max}});
  }
  if (too_high.empty()) return limits;
  return make_error(Errc::out_of_resources, too_high, {},
                    "lower llmlaunch.limits, or raise it on the host: /etc/security/limits.conf for logins, Limit… in "
                    "the unit of its sshd");
}

Result<std::optional<RankLimit>> make_room_for(std::size_t ranks) {
  const rlimit now = own_limit(RLIMIT_NOFILE);
  const rlim_t needed = kPerRank * ranks + kSpareFiles;
  if (now.rlim_cur >= needed) return std::optional<RankLimit>{};
  if (now.rlim_max < needed)
    return make_error(Errc::out_of_resources,
                      std::to_string(ranks) + " ranks need " + std::to_string(needed) +
                          " open files of the agent, and the hard limit there is " + std::to_string(now.rlim_max),
                      {},
                      "fewer ranks on this host, or raise it there: nofile in /etc/security/limits.conf for logins, "
                      "LimitNOFILE= in the unit of its sshd");
  const rlimit raised{needed, now.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &raised) != 0) return system_error(errno, "setrlimit of open files");
  return std::optional<RankLimit>({RLIMIT_NOFILE, now});
}

}  // namespace llmlaunch::launcher::agent
