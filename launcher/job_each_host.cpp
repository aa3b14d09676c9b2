// `StartPolicy::each_host`, the policy of exec: a host starts as soon as it is ready, and what becomes of it is nobody
// else's concern. Only a signal, or a failure of the head itself, stops all of them.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "launcher/exec_story.hpp"
#include "launcher/host_messages.hpp"
#include "launcher/job_state.hpp"

namespace llmlaunch::launcher {

void JobState::go_alone(HostIndex index, Actions& actions, TimePoint now) {
  Host& host = hosts_[index];
  host.phase = HostPhase::running;
  host.went = true;
  host.went_at = now;
  host.ranks_left = host.ranks.size();
  actions.push_back(SendGo{index, 0});
}

// What runs on the host is to end, and the host with it.
void JobState::stop_alone(HostIndex index, Actions& actions, TimePoint now) {
  Host& host = hosts_[index];
  actions.push_back(SendMessage{index, agent::Stop{SIGTERM, message_ms(timeouts_.grace)}});
  host.done_by = (host.cut ? host.cut->back_by : now) + timeouts_.grace + kStopMargin;
}

void JobState::tick_alone(HostIndex index, TimePoint now, Actions& actions) {
  Host& host = hosts_[index];
  const bool running = host.phase == HostPhase::running && host.ranks_left > 0 && !cause_;
  if (!running || !host_timeout_ || host.timed_out || now < host.went_at + *host_timeout_) return;
  host.timed_out = true;
  host.failure = make_error(Errc::timed_out,
                            fmt::format("no end within {:g} s", std::chrono::duration<double>(*host_timeout_).count()));
  stop_alone(index, actions, now);
}

HostEnd JobState::end_of_host(HostIndex index) const {
  const Host& host = hosts_[index];
  HostEnd end;
  end.host = host.name;
  end.failure = host.failure;
  const auto ms = [](auto time) { return std::chrono::duration_cast<std::chrono::milliseconds>(time); };
  if (host.went) end.connect = ms(host.went_at - host.opened_first);
  if (host.went && host.ended_at > host.went_at) end.run = ms(host.ended_at - host.went_at);
  end.ended = host.ended_at;
  if (host.timed_out) {
    end.kind = HostEnd::Kind::timed_out;
  } else if (host.failure) {
    end.kind = host.phase == HostPhase::lost ? HostEnd::Kind::lost : HostEnd::Kind::failed;
  } else if (host.went) {
    const RankEnd& rank = ranks_[host.ranks.front()].end;
    end.kind = rank.kind == RankEnd::Kind::stopped    ? HostEnd::Kind::stopped
               : rank.kind == RankEnd::Kind::signaled ? HostEnd::Kind::signaled
                                                      : HostEnd::Kind::exited;
    end.value = rank.value;
    end.core_dumped = rank.core_dumped;
  }
  return end;
}

JobResult JobState::result_of_each() const {
  JobResult result;
  result.run_directory = run_directory_;
  for (const RankState& rank : ranks_) result.ranks.push_back(rank.end);
  for (HostIndex host = 0; host < hosts_.size(); ++host) result.hosts.push_back(end_of_host(host));
  if (!cause_) {
    result.exit_status = exec_status(result.hosts);
    result.failure = exec_failure(result.hosts);
    return result;
  }
  result.exit_status = status();
  const bool by_signal = cause_->kind == Cause::Kind::signal;
  result.failure =
      exec_stopped(result.hosts, by_signal ? make_error(Errc::interrupted, cause_in_short(*cause_)) : cause_->error);
  return result;
}

}  // namespace llmlaunch::launcher
