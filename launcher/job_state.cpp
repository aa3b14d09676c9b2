// The head's decisions about a job; see job_state.hpp for the states. What agents say comes in here, so every message
// is checked against what its host may say now: a host that breaks the protocol is lost, and nothing else. Output,
// pings and deadlines are in job_watch.cpp, the words in job_story.cpp.
#include "launcher/job_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "launcher/head_addresses.hpp"
#include "launcher/host_messages.hpp"

namespace llmlaunch::launcher {
namespace {

using agent::HeadMessage;

// SIGABRT and SIGPIPE are how a program ends itself when a peer has gone: no better a cause than an exit status.
bool came_from_outside(int signal) {
  return signal != SIGABRT && signal != SIGPIPE;
}

std::vector<HostIndex> hosts_that_read(const LaunchPlan& plan) {
  std::vector<HostIndex> readers;
  for (HostIndex host = 0; host < plan.hosts.size(); ++host) {
    const auto& ranks = plan.hosts[host].ranks;
    if (std::any_of(ranks.begin(), ranks.end(), [&](const RankPlan& rank) { return reads_stdin(plan, rank.rank); }))
      readers.push_back(host);
  }
  return readers;
}

Error from_agent(const agent::Failed& failed) {
  const std::error_code code = make_error_code(static_cast<Errc>(failed.code));
  return {code, failed.what, {}, failed.hint};
}

}  // namespace

std::uint64_t window_bytes(std::size_t hosts) {
  const std::uint64_t share = kMaxWindowsBytes / std::max<std::size_t>(hosts, 1);
  return std::clamp<std::uint64_t>(share, 1024, agent::kDefaultWindowBytes);
}

JobState::JobState(const LaunchPlan& plan, std::size_t pushed_files, std::string run_directory, TimePoint now,
                   std::size_t cores)
    : policy_(plan.policy),
      host_timeout_(plan.host_timeout),
      at_once_(plan.hosts_at_once),
      needs_free_port_(!plan.use_agent_store),
      needs_head_(plan.use_agent_store || plan.program),
      timeouts_(plan.timeouts),
      forward_signals_(plan.process.forward_signals),
      input_(hosts_that_read(plan)),
      fan_out_(plan.ssh.fanout, cores, plan.hosts.size()),
      window_(launcher::window_bytes(plan.hosts.size())),
      run_directory_(std::move(run_directory)),
      logs_(plan.logs),
      ranks_(plan.world_size),
      started_(now),
      last_tick_(now),
      last_taken_(now),
      roll_call_at_(now + kRollCallAfter) {
  for (const HostPlan& host_plan : plan.hosts) {
    Host host;
    host.name = host_plan.name;
    host.calls_in = host_plan.calls_in;
    host.carries = goes_through_ssh(plan, host_plan);
    host.resumable = !host_plan.local && !host.calls_in && plan.timeouts.head.count() > 0;
    host.asked_for.assign(host_plan.local ? std::min<std::size_t>(pushed_files, 1) : pushed_files, false);
    host.has_setup = !host_plan.setup.empty();
    for (const RankPlan& rank_plan : host_plan.ranks) {
      const std::uint32_t rank = number(rank_plan.rank);
      host.ranks.push_back(rank);
      ranks_[rank].host = hosts_.size();
      ranks_[rank].end.rank = rank_plan.rank;
      ranks_[rank].end.host = host.name;
    }
    hosts_.push_back(std::move(host));
  }
}

Actions JobState::start(TimePoint now) {
  Actions actions;
  open_next(actions, now);
  return actions;
}

// --- opening, until all hosts are ready ------------------------------------------------------------------------------

void JobState::open_next(Actions& actions, TimePoint now) {
  if (phase_ != JobPhase::starting) return;
  for (; next_waiting_ < hosts_.size() && may_open(); ++next_waiting_) open(next_waiting_, actions, now);
}

bool JobState::may_open() const {
  return fan_out_.has_place() && (at_once_ == 0 || active_ < at_once_);
}

void JobState::open(HostIndex index, Actions& actions, TimePoint now) {
  Host& host = hosts_[index];
  if (host.attempts++ == 0) {
    host.opened_first = now;
    ++active_;
  }
  host.opened_last = now;
  host.phase = HostPhase::opening;
  fan_out_.take(index, now);
  actions.push_back(OpenHost{index});
}

Actions JobState::on_opened(HostIndex index, TimePoint now) {
  Host& host = hosts_[index];
  Actions actions;
  if (host.phase != HostPhase::opening) return actions;  // rolled back meanwhile, and closed
  fan_out_.opened(index);
  host.phase = HostPhase::hello;
  host.last_heard = now;
  host.ready_by = now + timeouts_.start + (host.has_setup ? kSetupMargin : std::chrono::milliseconds{0});
  open_next(actions, now);
  return actions;
}

Actions JobState::on_open_failed(HostIndex index, const Error& error, OpenStep step, TimePoint now) {
  Host& host = hosts_[index];
  Actions actions;
  if (host.cut) reopen_later(index, error, step, now);
  if (host.phase != HostPhase::opening) return actions;
  const auto delay = kFirstRetryDelay * (1 << (host.attempts - 1)) + std::chrono::milliseconds(index % 16 * 20);
  if (dropped_early(error, step) && host.attempts < kMaxOpenAttempts &&
      now + delay < host.opened_first + timeouts_.connect) {
    close_host(index, HostPhase::retrying, actions);
    host.retry_at = now + delay;
    host.setback = error.what;
    fan_out_.dropped(now);
    actions.push_back(Say{LogLevel::debug, host.name + ": connection dropped before the key exchange, trying again"});
  } else {
    Error told = error;
    if (host.attempts > 1) told.what += fmt::format(" ({} attempts)", host.attempts);
    fail_host(index, std::move(told), actions, now);
  }
  open_next(actions, now);
  return actions;
}

void JobState::fail_host(HostIndex index, Error error, Actions& actions, TimePoint now) {
  hosts_[index].failure = std::move(error);
  close_host(index, HostPhase::failed, actions);
  open_next(actions, now);
  settle(actions, now);
}

// Every host has answered: all are ready, or the job does not start at all.
void JobState::settle(Actions& actions, TimePoint now) {
  if (phase_ != JobPhase::starting || each_host()) return maybe_finish(actions);
  const auto is_settled = [](const Host& host) {
    return host.phase == HostPhase::ready || host.phase == HostPhase::failed;
  };
  if (!std::all_of(hosts_.begin(), hosts_.end(), is_settled)) return;
  const auto failed =
      std::find_if(hosts_.begin(), hosts_.end(), [](const Host& host) { return host.phase == HostPhase::failed; });
  if (failed == hosts_.end()) return go(actions);
  Cause cause{Cause::Kind::start, 0, static_cast<HostIndex>(failed - hosts_.begin()), 0, *failed->failure, 0};
  stop(std::move(cause), actions, now);
}

void JobState::go(Actions& actions) {
  phase_ = JobPhase::running;
  const std::uint16_t master_port = hosts_[ranks_[0].host].free_port;
  for (HostIndex index = 0; index < hosts_.size(); ++index) {
    hosts_[index].phase = HostPhase::running;
    hosts_[index].went = true;
    hosts_[index].ranks_left = hosts_[index].ranks.size();
    actions.push_back(SendGo{index, master_port});
  }
  say_omp_threads(actions);
}

// --- what agents say ------------------------------------------------------------------------------------------------

Actions JobState::on_message(HostIndex host, agent::AgentMessage message, TimePoint now) {
  if (over(hosts_[host])) return {};
  if (const auto* hello = std::get_if<agent::Hello>(&message)) return on_hello(host, *hello, now);
  if (const auto* ready = std::get_if<agent::Ready>(&message)) return on_ready(host, *ready, now);
  if (const auto* failed = std::get_if<agent::Failed>(&message)) return on_agent_failed(host, *failed, now);
  if (std::holds_alternative<agent::Ping>(message)) return {};
  if (std::holds_alternative<agent::Done>(message)) return on_done(host, now);
  if (const auto* noise = std::get_if<agent::Noise>(&message)) return on_noise(host, *noise, now);
  if (std::holds_alternative<agent::Paused>(message)) {
    Actions actions;
    hosts_[host].pausing = false;
    maybe_stop_self(now, actions);
    return actions;
  }
  if (const auto* need = std::get_if<agent::NeedFile>(&message)) return on_need_file(host, need->index, now);
  if (hosts_[host].phase != HostPhase::running) return broken(host, "news of ranks that were not started", now);
  if (auto* output = std::get_if<agent::Output>(&message)) return on_output(host, std::move(*output), now);
  if (const auto* exited = std::get_if<agent::Exited>(&message)) return on_exited(host, *exited, now);
  if (const auto* end = std::get_if<agent::OutputEnd>(&message)) return on_output_end(host, *end, now);
  if (const auto* taken = std::get_if<agent::InputTaken>(&message)) {
    if (!input_.on_taken(host, taken->bytes)) return broken(host, "InputTaken of bytes that were not sent", now);
    return {};
  }
  if (agent::counted(message) == agent::Counted::carried) {
    if (!hosts_[host].carries) return broken(host, "a connection that it was not asked to carry", now);
    return {Carry{host, std::move(message)}};
  }
  const auto& started = std::get<agent::Started>(message);
  if (!owns(host, started.rank) || ranks_[started.rank].started || ranks_[started.rank].ended)
    return broken(host, fmt::format("Started of rank {}", started.rank), now);
  ranks_[started.rank].started = true;
  ranks_[started.rank].end.pid = started.pid;
  return {};
}

Actions JobState::on_hello(HostIndex host, const agent::Hello& hello, TimePoint now) {
  if (hosts_[host].phase != HostPhase::hello) return broken(host, "a second Hello", now);
  hosts_[host].phase = HostPhase::preparing;
  hosts_[host].hostname = hello.hostname;
  hosts_[host].ping_at = now;
  return {SendPrepare{host}};
}

// Once for each file: every answer is the whole file, and prolongs the host's time to become ready.
Actions JobState::on_need_file(HostIndex index, std::uint32_t file, TimePoint now) {
  Host& host = hosts_[index];
  // Rolled back: its question came too late to be answered.
  if (phase_ == JobPhase::stopping) return {};
  if (host.phase != HostPhase::preparing) return broken(index, "NeedFile", now);
  if (file >= host.asked_for.size())
    return broken(index, fmt::format("NeedFile of file {}, of {} that there are", file, host.asked_for.size()), now);
  if (host.asked_for[file]) return broken(index, fmt::format("a second NeedFile of file {}", file), now);
  host.asked_for[file] = true;
  return {SendFile{index, file}};
}

Actions JobState::on_ready(HostIndex host, const agent::Ready& ready, TimePoint now) {
  if (phase_ == JobPhase::stopping) return {};
  if (hosts_[host].phase != HostPhase::preparing) return broken(host, "a Ready that nobody asked for", now);
  Actions actions;
  if (each_host()) {
    go_alone(host, actions, now);
    return actions;
  }
  if (needs_free_port_ && ready.free_port == 0 && owns(host, 0)) {
    const Error error = make_error(Errc::out_of_resources, "its agent found no free TCP port for MASTER_PORT", {},
                                   "rank 0 runs there and needs one; `ss -s` on the host shows what takes the ports");
    fail_host(host, error, actions, now);
    return actions;
  }
  if (!ready.reach.failures.empty()) {
    const Error error = no_way_to_head(ready.reach);
    if (needs_head_) {
      fail_host(host, error, actions, now);
      return actions;
    }
    actions.push_back(Say{LogLevel::warning, fmt::format("{}: {}", hosts_[host].name, error.what)});
  }
  hosts_[host].phase = HostPhase::ready;
  hosts_[host].free_port = ready.free_port;
  hosts_[host].omp_threads = ready.omp_threads;
  settle(actions, now);
  return actions;
}

Actions JobState::on_agent_failed(HostIndex host, const agent::Failed& failed, TimePoint now) {
  Actions actions;
  if (failed.rank < 0) {
    // After Go it is the agent's last word about the stream: it ends its ranks and goes.
    if (hosts_[host].phase == HostPhase::running)
      lose_host(host, from_agent(failed), false, actions, now);
    else
      fail_host(host, from_agent(failed), actions, now);
    return actions;
  }
  const auto rank = static_cast<std::uint32_t>(std::min<std::int64_t>(failed.rank, UINT32_MAX));
  if (hosts_[host].phase != HostPhase::running || !owns(host, rank) || ranks_[rank].started || ranks_[rank].ended)
    return broken(host, fmt::format("Failed of rank {}", failed.rank), now);
  rank_ended(rank, now);
  if (each_host()) {
    hosts_[host].failure = from_agent(failed);
    stop_alone(host, actions, now);
    return actions;
  }
  stop(Cause{Cause::Kind::rank_start, rank, host, 0, from_agent(failed), 0}, actions, now);
  return actions;
}

Actions JobState::on_exited(HostIndex host, const agent::Exited& exited, TimePoint now) {
  if (!owns(host, exited.rank) || !ranks_[exited.rank].started || ranks_[exited.rank].ended)
    return broken(host, fmt::format("Exited of rank {}", exited.rank), now);
  const int lowest = exited.signaled ? 1 : 0, highest = exited.signaled ? SIGRTMAX : 255;
  if (exited.value < lowest || exited.value > highest)
    return broken(host, fmt::format("Exited with {} {}", exited.signaled ? "signal" : "status", exited.value), now);
  RankState& rank = ranks_[exited.rank];
  rank.end.signaled = exited.signaled;
  rank.end.value = exited.value;
  rank.end.core_dumped = exited.core_dumped;
  rank.end.ended_wall_ns = exited.wall_time_ns;
  rank.end.kind = exited.stopped    ? RankEnd::Kind::stopped
                  : exited.signaled ? RankEnd::Kind::signaled
                                    : RankEnd::Kind::exited;
  rank_ended(exited.rank, now);
  Actions actions;
  const bool well = !exited.stopped && !exited.signaled && exited.value == 0;
  if (each_host()) return actions;
  if (well)
    actions.push_back(NoteEnded{Rank{exited.rank}});
  else
    stop(Cause{Cause::Kind::rank, exited.rank, host, 0, {}, 0}, actions, now);
  return actions;
}

void JobState::rank_ended(std::uint32_t rank, TimePoint now) {
  ranks_[rank].ended = true;
  Host& host = hosts_[ranks_[rank].host];
  host.ended_at = now;
  if (--host.ranks_left == 0) host.done_by = now + timeouts_.grace + kStopMargin;
}

Actions JobState::on_done(HostIndex host, TimePoint now) {
  Actions actions;
  if (hosts_[host].phase == HostPhase::running && hosts_[host].ranks_left > 0)
    return broken(host, "Done before all of its ranks had ended", now);
  if (!outputs_ended(hosts_[host])) return broken(host, "Done before the output of its ranks had ended", now);
  if (hosts_[host].phase != HostPhase::running && phase_ == JobPhase::starting) {
    // Something on the host asked the agent to end before there was a job.
    fail_host(host, make_error(Errc::closed, "its agent was asked to end before the job had started"), actions, now);
    return actions;
  }
  if (hosts_[host].phase == HostPhase::running && hosts_[host].resumable)
    actions.push_back(SendMessage{host, agent::Bye{}});
  close_host(host, HostPhase::done, actions);
  open_next(actions, now);
  maybe_finish(actions);
  return actions;
}

Actions JobState::on_lost(HostIndex index, const Error& error, TimePoint now) {
  Actions actions;
  const Host& host = hosts_[index];
  if (over(host)) return actions;
  if (host.phase == HostPhase::running) {
    if (host.resumable && !host.cut && error.code != Errc::protocol && error.code != Errc::too_large)
      cut(index, error, now + timeouts_.head, actions, now);
    else
      lose_host(index, error, false, actions, now);
  } else if (phase_ == JobPhase::stopping) {  // rolled back; nothing was started there
    close_host(index, HostPhase::done, actions);
    maybe_finish(actions);
  } else {
    fail_host(index, error, actions, now);
  }
  return actions;
}

Actions JobState::broken(HostIndex host, const std::string& what, TimePoint now) {
  return on_lost(host, make_error(Errc::protocol, "its agent sent " + what), now);
}

// --- stopping -------------------------------------------------------------------------------------------------------

void JobState::stop(Cause cause, Actions& actions, TimePoint now) {
  if (cause_) {
    if (is_rather_the_cause(cause, now)) cause_->rank = cause.rank;
    return maybe_finish(actions);
  }
  cause.running = ranks_running();
  cause.heard = now;
  cause_ = std::move(cause);
  phase_ = JobPhase::stopping;
  actions.push_back(EndGeneration{cause_in_short(*cause_)});
  const std::uint32_t grace = message_ms(timeouts_.grace);
  for (HostIndex index = 0; index < hosts_.size(); ++index) {
    Host& host = hosts_[index];
    if (over(host)) continue;
    if (host.phase == HostPhase::running) {
      actions.push_back(SendMessage{index, agent::Stop{SIGTERM, grace}});
      const TimePoint heard_by = host.cut ? host.cut->back_by : now;
      if (host.ranks_left > 0) host.done_by = heard_by + timeouts_.grace + kStopMargin;
    } else if (host.phase == HostPhase::ready) {
      actions.push_back(SendMessage{index, agent::Stop{SIGTERM, 0}});
      host.done_by = now + kStopMargin;
    } else {  // nothing was started and nothing is promised there
      close_host(index, HostPhase::done, actions);
    }
  }
  maybe_finish(actions);
}

Actions JobState::on_head_failed(const Error& error, TimePoint now) {
  Actions actions;
  stop(Cause{Cause::Kind::head, 0, 0, 0, error, 0}, actions, now);
  return actions;
}

// The second Ctrl-C: no grace, and no waiting for a terminal.
void JobState::hurry(Actions& actions, TimePoint now) {
  hurried_ = true;
  for (HostIndex index = 0; index < hosts_.size(); ++index) {
    Host& host = hosts_[index];
    if (over(host)) continue;
    if (host.phase == HostPhase::running) actions.push_back(SendMessage{index, agent::Stop{SIGKILL, 0}});
    host.done_by = std::min(host.done_by.value_or(TimePoint::max()), now + kStopMargin);
  }
  if (!terminal_abandoned_ && !finished_) actions.push_back(AbandonTerminal{});
  terminal_abandoned_ = true;
}

void JobState::lose_host(HostIndex index, Error error, bool given_up, Actions& actions, TimePoint now) {
  Host& host = hosts_[index];
  const bool ranks_were_left = host.ranks_left > 0;
  for (const std::uint32_t rank : host.ranks) {
    if (ranks_[rank].ended) continue;
    ranks_[rank].ended = true;
    ranks_[rank].end.kind = RankEnd::Kind::lost;
    host.ended_at = now;
  }
  host.ranks_left = 0;
  if (given_up || (ranks_were_left && cause_)) left_behind_.push_back(index);
  close_host(index, HostPhase::lost, actions);
  if (each_host()) {
    host.failure = std::move(error);
    open_next(actions, now);
    return maybe_finish(actions);
  }
  stop(Cause{Cause::Kind::host, 0, index, 0, std::move(error), 0}, actions, now);
}

void JobState::close_host(HostIndex index, HostPhase phase, Actions& actions) {
  Host& host = hosts_[index];
  fan_out_.leave(index);
  const bool was_active = host.attempts > 0 && !over(host);
  host.phase = phase;
  if (was_active && over(host)) --active_;
  host.pausing = false;
  input_.drop(index);
  host.done_by.reset();
  host.cut.reset();
  actions.push_back(CloseHost{index});
}

void JobState::maybe_finish(Actions& actions) {
  if (finished_) return;
  for (; next_open_ < hosts_.size(); ++next_open_)
    if (!over(hosts_[next_open_]) || hosts_[next_open_].taken < hosts_[next_open_].received) return;
  finished_ = true;
  actions.push_back(Finish{});
}

// --- questions ------------------------------------------------------------------------------------------------------

bool JobState::owns(HostIndex host, std::uint32_t rank) const {
  return rank < ranks_.size() && ranks_[rank].host == host;
}

bool JobState::is_rather_the_cause(const Cause& later, TimePoint now) const {
  if (cause_->kind != Cause::Kind::rank || later.kind != Cause::Kind::rank) return false;
  const auto was_killed = [this](const Cause& cause) {
    const RankEnd& end = ranks_[cause.rank].end;
    return end.kind == RankEnd::Kind::signaled && came_from_outside(end.value);
  };
  return now - cause_->heard <= kCauseWindow && was_killed(later) && !was_killed(*cause_);
}

bool& JobState::output_ended(std::uint32_t rank, agent::Stream stream) {
  return stream == agent::Stream::err ? ranks_[rank].err_ended : ranks_[rank].out_ended;
}

bool JobState::outputs_ended(const Host& host) const {
  return std::all_of(host.ranks.begin(), host.ranks.end(), [this](std::uint32_t rank) {
    return !ranks_[rank].started || (ranks_[rank].out_ended && ranks_[rank].err_ended);
  });
}

bool JobState::over(const Host& host) const {
  return host.phase == HostPhase::done || host.phase == HostPhase::failed || host.phase == HostPhase::lost;
}

std::size_t JobState::ranks_running() const {
  std::size_t running = 0;
  for (const Host& host : hosts_) running += host.phase == HostPhase::running ? host.ranks_left : 0;
  return running;
}

}  // namespace llmlaunch::launcher
