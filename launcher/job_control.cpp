// The part of `JobState` that people steer a running job by: signals to the head, and its stdin. The rest of the
// decisions is in job_state.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "launcher/hostlist.hpp"
#include "launcher/job_state.hpp"

namespace llmlaunch::launcher {

// --- signals --------------------------------------------------------------------------------------------------------

bool JobState::is_forwarded(int signal) const {
  return signal == SIGUSR1 || signal == SIGUSR2 ||
         std::find(forward_signals_.begin(), forward_signals_.end(), signal) != forward_signals_.end();
}

Actions JobState::on_signal(int signal, TimePoint now, const std::string& at) {
  if (finished_) return {};
  if (signal == SIGTSTP) return pause(now, at);
  if (signal == SIGCONT) return on_continued(now, at);
  if (is_forwarded(signal)) return forward(signal, now, at);
  return on_stop_signal(signal, now, at);
}

Actions JobState::forward(int signal, TimePoint now, const std::string& at) {
  Actions actions;
  Forwarded& last = forwarded_[signal];
  const bool again = std::find(last.machines.begin(), last.machines.end(), at) != last.machines.end();
  if (!again && !last.machines.empty() && now < last.at + kSameSignal) {
    last.machines.push_back(at);
    return actions;
  }
  last = {now, {at}};
  const std::string name = at.empty() ? signal_name(signal) : fmt::format("{}, caught on {},", signal_name(signal), at);
  const std::size_t running = ranks_running();
  for (HostIndex host = 0; host < hosts_.size(); ++host)
    if (hosts_[host].phase == HostPhase::running && hosts_[host].ranks_left > 0)
      actions.push_back(SendMessage{host, agent::Signal{signal}});
  if (running == 0)
    actions.push_back(Say{LogLevel::warning, fmt::format("{} goes to nobody: no rank runs", name)});
  else
    actions.push_back(Say{LogLevel::info, fmt::format("{} sent to {} rank{}", name, running, running == 1 ? "" : "s")});
  return actions;
}

Actions JobState::on_stop_signal(int signal, TimePoint now, const std::string& at) {
  Actions actions;
  const auto [asked, is_new] = stopped_from_.try_emplace(at, now);
  if (!is_new && now < asked->second + kOneStop) return actions;
  const bool again = !is_new;
  if (paused_at_) unpause(actions);
  const bool first = !cause_;
  const std::string where = at.empty() ? at : " on " + at;
  const std::size_t running = ranks_running();
  if (signal == SIGPIPE) {  // the reader of the output went away, which was said
  } else if (first && running > 0) {
    actions.push_back(Say{LogLevel::warning,
                          fmt::format("caught {}{}: stopping {} {}{} (once more: kill at once)", signal_name(signal),
                                      where, running, each_host() ? "command" : "rank", running == 1 ? "" : "s")});
  } else if (first) {
    actions.push_back(Say{LogLevel::warning, fmt::format("caught {}{}", signal_name(signal), where)});
  }
  if (first) stop(Cause{Cause::Kind::signal, 0, 0, signal, {{}, where, {}, {}}, 0}, actions, now);
  // Batch systems and systemd signal all machines at once: only who asks again, or asks here for what is failing
  // already to be over, means that the ranks are to have no time.
  const bool impatient = again || (at.empty() && !first && cause_->kind != Cause::Kind::signal);
  if (!first && !impatient)
    actions.push_back(Say{LogLevel::info, fmt::format("caught {}{}, too", signal_name(signal), where)});
  if (impatient || (first && running == 0)) hurry(actions, now);
  return actions;
}

// SIGTSTP: first the ranks on all hosts, then, when they stand or have had their time, the head itself.
Actions JobState::pause(TimePoint now, const std::string& at) {
  Actions actions;
  if (std::find(pausers_.begin(), pausers_.end(), at) != pausers_.end()) return actions;
  pausers_.push_back(at);
  if (paused_at_) {
    if (stopped_self_) actions.push_back(StopSelf{at});
    return actions;
  }
  paused_at_ = now;
  for (HostIndex index = 0; index < hosts_.size(); ++index) {
    Host& host = hosts_[index];
    host.pausing =
        host.phase == HostPhase::preparing || host.phase == HostPhase::ready || host.phase == HostPhase::running;
    if (host.pausing) actions.push_back(SendMessage{index, agent::Pause{true}});
  }
  maybe_stop_self(now, actions);
  return actions;
}

void JobState::maybe_stop_self(TimePoint now, Actions& actions) {
  if (!paused_at_ || stopped_self_ || finished_) return;
  const bool waiting =
      std::any_of(hosts_.begin(), hosts_.end(), [](const Host& host) { return host.pausing && !host.cut; });
  if (waiting && now < *paused_at_ + kPausePatience) return;
  stopped_self_ = true;
  std::stable_partition(pausers_.begin(), pausers_.end(), [](const std::string& at) { return !at.empty(); });
  for (const std::string& at : pausers_) actions.push_back(StopSelf{at});  // this one last
}

void JobState::unpause(Actions& actions) {
  paused_at_.reset();
  pausers_.clear();
  stopped_self_ = false;
  for (HostIndex index = 0; index < hosts_.size(); ++index) {
    Host& host = hosts_[index];
    host.pausing = false;
    if (host.phase == HostPhase::preparing || host.phase == HostPhase::ready || host.phase == HostPhase::running)
      actions.push_back(SendMessage{index, agent::Pause{false}});
  }
}

Actions JobState::on_continued(TimePoint now, const std::string& at) {
  Actions actions;
  if (!paused_at_ || finished_) return actions;
  std::erase(pausers_, at);
  if (!pausers_.empty()) return actions;
  const auto stood = now - *paused_at_;
  shift_deadlines(stood);
  started_ += stood;  // the ranks stood, too
  last_tick_ = now;
  unpause(actions);
  actions.push_back(
      Say{LogLevel::info, fmt::format("continued after {:.1f} s", std::chrono::duration<double>(stood).count())});
  return actions;
}

// Time in which this process did not run is nobody's fault.
void JobState::shift_deadlines(std::chrono::steady_clock::duration by) {
  for (Host& host : hosts_) {
    for (TimePoint* at : {&host.opened_first, &host.opened_last, &host.retry_at, &host.ready_by, &host.last_heard,
                          &host.went_at, &host.ended_at})
      *at += by;
    if (host.done_by) *host.done_by += by;
    if (!host.cut) continue;
    for (TimePoint* at : {&host.cut->since, &host.cut->back_by, &host.cut->again_at}) *at += by;
  }
  last_taken_ += by;
  roll_call_at_ += by;
}

// --- stdin ----------------------------------------------------------------------------------------------------------

Actions JobState::on_input(Bytes data) {
  Actions actions;
  for (const HostIndex host : input_.readers()) actions.push_back(SendMessage{host, agent::Input{input_.sent(), data}});
  input_.on_sent(data.size());
  return actions;
}

Actions JobState::on_input_end() {
  Actions actions;
  for (const HostIndex host : input_.readers()) actions.push_back(SendMessage{host, agent::InputEnd{}});
  input_.end();
  return actions;
}

// --- what hosts say of themselves -----------------------------------------------------------------------------------

Actions JobState::on_noise(HostIndex index, const agent::Noise& noise, TimePoint now) {
  Host& host = hosts_[index];
  if (phase_ == JobPhase::stopping) return {};
  if (host.phase != HostPhase::preparing) return broken(index, "noise that is not from before its Ready", now);
  if (++host.noise_lines > kMaxNoiseLines)
    return broken(index, fmt::format("more than {} lines of noise", kMaxNoiseLines), now);
  return {Say{LogLevel::info, fmt::format("{} said: {}", host.name, printable(noise.text))}};
}

// Once for the job: hosts of the same number together.
void JobState::say_omp_threads(Actions& actions) const {
  std::vector<std::pair<std::uint32_t, std::vector<std::string>>> groups;
  for (const Host& host : hosts_) {
    if (host.omp_threads == 0) continue;
    const auto same =
        std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.first == host.omp_threads; });
    if (same == groups.end())
      groups.push_back({host.omp_threads, {host.name}});
    else
      same->second.push_back(host.name);
  }
  std::string text;
  for (const auto& [threads, names] : groups)
    text += fmt::format("{}{} on {}", text.empty() ? "" : ", ", threads,
                        names.size() == hosts_.size() ? "every host" : compress_hostlist(names));
  if (!text.empty())
    actions.push_back(Say{LogLevel::info, "OMP_NUM_THREADS, set nowhere, is the cores of each rank: " + text});
}

}  // namespace llmlaunch::launcher
