// A job of one small script; its words on stderr are the reason when it fails.
#include "launcher/key_install.hpp"

#include <fmt/format.h>

#include "launcher/gathered_output.hpp"
#include "launcher/ssh/own_key.hpp"
#include "launcher/survey_run.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::chrono::milliseconds kTime{30'000};
constexpr std::size_t kMaxReason = 500;

constexpr const char* kInstallScript = R"sh(
umask 077
cd && mkdir -p .ssh && touch .ssh/authorized_keys || exit 1
grep -qxF -e "$1" .ssh/authorized_keys && exit 0
[ -z "$(tail -c 1 .ssh/authorized_keys)" ] || echo >>.ssh/authorized_keys || exit 1
printf '%s\n' "$1" >>.ssh/authorized_keys
)sh";

std::string reason_of(const HostEnd& end, const GatheredOutput& gathered, std::size_t host) {
  std::string said;
  const auto read = gathered.read(Rank{static_cast<std::uint32_t>(host)}, agent::Stream::err,
                                  [&said](std::string_view piece) -> Result<void> {
                                    said += piece.substr(0, kMaxReason - std::min(kMaxReason, said.size()));
                                    return ok;
                                  });
  if (!read || said.empty()) said = fmt::format("status {}", end.value);
  while (said.ends_with('\n')) said.pop_back();
  return "~/.ssh/authorized_keys cannot be written: " + said;
}

}  // namespace

Result<std::vector<OwnKey>> own_keys(const LaunchPlan& plan) {
  return ssh::own_keys(plan);
}

std::vector<std::string> key_install_command(const std::string& public_key) {
  return {"/bin/sh", "-c", kInstallScript, "sh", public_key};
}

Result<std::vector<HostSurvey>> install_key(LaunchPlan plan, LaunchOptions launch, const std::string& public_key,
                                            const std::string& temporary) {
  plan.argv = key_install_command(public_key);
  plan.host_timeout = kTime;
  plan.log_dir.clear();
  GatheredOutput gathered(plan.hosts.size(), temporary);
  launch.gather = &gathered;
  const auto result = run_job(plan, launch);
  if (!result) return result.error();
  if (auto signal = ended_by_signal(*result)) return *signal;
  std::vector<HostSurvey> hosts;
  for (std::size_t i = 0; i < result->hosts.size(); ++i) {
    const HostEnd& end = result->hosts[i];
    HostSurvey one;
    one.name = end.host;
    one.failure = end.failure;
    const bool done = end.kind == HostEnd::Kind::exited && end.value == 0;
    if (!done && !one.failure) one.failure = make_error(Errc::io, reason_of(end, gathered, i));
    if (!one.failure) one.facts.emplace();
    hosts.push_back(std::move(one));
  }
  return hosts;
}

}  // namespace llmlaunch::launcher
