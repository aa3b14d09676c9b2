// The part of `JobState` that runs all the time: output and its credit, signs of life, deadlines. The rest of the
// decisions is in job_state.cpp.
#include <fmt/format.h>

#include <algorithm>

#include "launcher/job_state.hpp"

namespace llmlaunch::launcher {
namespace {

// Pings when no deadline says how often.
constexpr std::chrono::milliseconds kPingInterval{5'000};

std::string seconds(std::chrono::milliseconds time) {
  return fmt::format("{:g} s", static_cast<double>(time.count()) / 1000);
}

}  // namespace

// --- output ---------------------------------------------------------------------------------------------------------

void OutputTail::append(ByteView bytes) {
  if (bytes.size() >= kTailBytes) {
    cut_ = cut_ || bytes.size() > kTailBytes || !bytes_.empty();
    bytes_ = as_text(bytes.last(kTailBytes));
    return;
  }
  bytes_ += as_text(bytes);
  // Trimmed now and then, not with every piece.
  if (bytes_.size() <= 2 * kTailBytes) return;
  bytes_.erase(0, bytes_.size() - kTailBytes);
  cut_ = true;
}

std::vector<std::string> OutputTail::lines() const {
  std::vector<std::string> found;
  std::string_view rest = bytes_;
  bool first_is_cut = cut_;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (std::exchange(first_is_cut, false)) continue;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (const std::size_t back = line.rfind('\r'); back != std::string_view::npos) line.remove_prefix(back + 1);
    found.emplace_back(line);
  }
  if (found.size() > kTailLines) found.erase(found.begin(), found.end() - kTailLines);
  return found;
}

Actions JobState::on_output(HostIndex index, agent::Output output, TimePoint now) {
  Host& host = hosts_[index];
  if (!owns(index, output.rank)) return broken(index, "output of another host's rank", now);
  if (output_ended(output.rank, output.stream))
    return broken(index, fmt::format("output of rank {} after its end", output.rank), now);
  if (output.data.empty()) return {};
  if (host.received + output.data.size() - host.acked > window_)
    return broken(index, fmt::format("more output than its window of {} bytes", window_), now);
  if (host.received == host.taken) last_taken_ = now;  // the terminal's patience begins with the first byte it owes
  host.received += output.data.size();
  // What waited on the host when its ranks ended (after a cut up to 1 GiB) takes as long as the way to here needs.
  if (host.ranks_left == 0 && host.done_by && !hurried_) host.done_by = std::max(*host.done_by, now + kStopMargin);
  // An exec shows output itself, and quotes none of it.
  if (!each_host())
    (output.stream == agent::Stream::err ? ranks_[output.rank].err : ranks_[output.rank].out).append(output.data);
  return {WriteOutput{index, Rank{output.rank}, output.stream, std::move(output.data)}};
}

Actions JobState::on_output_end(HostIndex index, const agent::OutputEnd& end, TimePoint now) {
  if (!owns(index, end.rank)) return broken(index, "the end of another host's output", now);
  bool& ended = output_ended(end.rank, end.stream);
  if (ended || !ranks_[end.rank].started)
    return broken(index, fmt::format("an end of the output of rank {} out of turn", end.rank), now);
  ended = true;
  return {EndOutput{Rank{end.rank}, end.stream}};
}

Actions JobState::on_taken(HostIndex index, std::uint64_t bytes, TimePoint now) {
  Host& host = hosts_[index];
  host.taken += bytes;
  last_taken_ = now;
  Actions actions;
  const bool worth_a_frame = host.taken - host.acked >= window_ / 4 || host.taken == host.received;
  if (host.phase == HostPhase::running && worth_a_frame && host.taken > host.acked) {
    host.acked = host.taken;
    actions.push_back(SendMessage{index, agent::Ack{host.acked}});
  }
  maybe_finish(actions);
  return actions;
}

// --- time -----------------------------------------------------------------------------------------------------------

void JobState::on_bytes(HostIndex host, TimePoint now) {
  hosts_[host].last_heard = now;
}

void JobState::on_pushed(HostIndex host, TimePoint now) {
  hosts_[host].ready_by = now + timeouts_.start;
}

Actions JobState::on_tick(TimePoint now, std::chrono::milliseconds behind) {
  Actions actions;
  if (finished_) return actions;
  const auto stood = now - last_tick_;
  const auto half_head = timeouts_.head.count() > 0 ? timeouts_.head / 2 : kSleptThrough;
  if (stood >= std::min(kSleptThrough, half_head)) {
    shift_deadlines(stood);
    say_that_it_stood(stood, actions);
  }
  last_tick_ = now;
  fan_out_.tick(now, behind);
  if (paused_at_) {  // no deadline passes for hosts whose ranks stand
    maybe_stop_self(now, actions);
    return actions;
  }

  for (HostIndex host = 0; host < hosts_.size(); ++host) tick_host(host, now, actions);
  open_next(actions, now);  // places of hosts that do not get on
  if (timeouts_.run && now >= started_ + *timeouts_.run && !cause_) {
    const Error error =
        make_error(Errc::timed_out, "the job did not end within " + seconds(*timeouts_.run) + " (its time limit)");
    stop(Cause{Cause::Kind::time_limit, 0, 0, 0, error, 0}, actions, now);
  }
  if (stopping() && !std::exchange(stop_watched_, true)) roll_call_at_ = cause_->heard + kRollCallAfter;
  if (!running() && !finished_ && now >= roll_call_at_) {
    roll_call_at_ = now + kRollCallInterval;
    actions.push_back(CallRoll{});
  }

  // Whoever stopped the job does not wait for ever for a terminal that nobody reads.
  const bool drains = std::all_of(hosts_.begin(), hosts_.end(), [](const Host& host) { return host.ranks_left == 0; });
  const bool owed =
      std::any_of(hosts_.begin(), hosts_.end(), [](const Host& host) { return host.taken < host.received; });
  const auto patience = patience_with_terminal();
  const bool long_enough =
      now >= last_taken_ + kTerminalPatience || (patience && now >= std::max(last_taken_, cause_->heard) + *patience);
  if (cause_ && drains && owed && !terminal_abandoned_ && long_enough) {
    terminal_abandoned_ = true;
    actions.push_back(AbandonTerminal{});
  }
  return actions;
}

std::optional<std::chrono::milliseconds> JobState::patience_with_terminal() const {
  const bool has_its_time = cause_ && (cause_->kind == Cause::Kind::signal || cause_->kind == Cause::Kind::time_limit);
  if (!has_its_time) return std::nullopt;
  return std::clamp<std::chrono::milliseconds>(timeouts_.grace, kLeastTerminalPatience, kTerminalPatience);
}

// The hosts' patience ran on meanwhile: what they tell next would look like their fault.
void JobState::say_that_it_stood(std::chrono::steady_clock::duration time, Actions& actions) const {
  const bool ranks_run = ranks_running() > 0 && !paused_at_;
  if (!ranks_run || timeouts_.head.count() == 0 || time < timeouts_.head / 2) return;
  actions.push_back(
      Say{LogLevel::warning,
          fmt::format("llmlaunch itself stood still for {:.1f} s; hosts end their {} when they hear nothing "
                      "for {} (llmlaunch.timeouts.head)",
                      std::chrono::duration<double>(time).count(), each_host() ? "command" : "ranks",
                      seconds(timeouts_.head))});
}

void JobState::tick_host(HostIndex index, TimePoint now, Actions& actions) {
  Host& host = hosts_[index];
  if (host.phase == HostPhase::retrying) {
    if (now >= host.retry_at && fan_out_.has_place()) open(index, actions, now);
    return;
  }
  if (over(host) || host.phase == HostPhase::waiting) return;
  if (host.phase == HostPhase::opening) {
    const auto call = host.calls_in ? timeouts_.rendezvous : std::chrono::milliseconds{0};
    const auto limit = std::max(kMinOpeningLimit, kOpeningSteps * timeouts_.connect + timeouts_.start) + call;
    if (now < host.opened_last + limit) return;
    const Error error =
        make_error(Errc::timed_out, fmt::format("it was neither open nor refused within {}", seconds(limit)), {},
                   "llmlaunch.timeouts.connect and llmlaunch.timeouts.start limit the steps on the way there");
    return fail_host(index, error, actions, now);
  }

  const bool before_ready = host.phase == HostPhase::hello || host.phase == HostPhase::preparing;
  if (before_ready && now >= host.ready_by) {
    const bool said_nothing = host.phase == HostPhase::hello;
    const char* step = said_nothing ? "its agent said nothing" : "its agent was not ready";
    const char* mount =
        said_nothing ? "" : "a file system there may not answer, that of the program or of the working directory; ";
    fail_host(index,
              make_error(Errc::timed_out, fmt::format("{} within {}", step, seconds(timeouts_.start)), {},
                         fmt::format("{}a slow host may need more: llmlaunch.timeouts.start", mount)),
              actions, now);
    return;
  }
  if (host.cut) tick_cut(index, now, actions);
  if (over(host)) return;
  if (each_host()) tick_alone(index, now, actions);
  // Output that waits here for the terminal is our delay, not the host's.
  if (host.done_by && now >= *host.done_by && host.taken < host.received) host.done_by = now + kStopMargin;
  if (host.done_by && now >= *host.done_by) {
    if (host.phase == HostPhase::ready) {
      close_host(index, HostPhase::done, actions);
      return maybe_finish(actions);
    }
    const bool killed_nothing = host.ranks_left == 0 && !cause_;
    const char* own = each_host() ? "its command" : "its ranks";
    const std::string what = killed_nothing
                                 ? fmt::format("{} {} ended, but processes that {} left behind have not", own,
                                               each_host() ? "has" : "have", each_host() ? "it" : "they")
                                 : fmt::format("it did not stop {} in time", own);
    return lose_host(index, make_error(Errc::timed_out, what), true, actions, now);
  }
  if (host.cut) return;
  // Half of the time that the agent gives a silent head is left to reach it another way.
  if (host.resumable && host.phase == HostPhase::running && now >= host.last_heard + timeouts_.head / 2) {
    const Error error =
        make_error(Errc::timed_out, fmt::format("not a byte from it within {}", seconds(timeouts_.head / 2)));
    cut(index, error, host.last_heard + timeouts_.head, actions, now);
    return;
  }
  const bool silent = timeouts_.head.count() > 0 && now >= host.last_heard + timeouts_.head;
  if (silent && !before_ready) {
    const Error error =
        make_error(Errc::timed_out, fmt::format("not a byte from it within {}", seconds(timeouts_.head)), {},
                   "the host is down, or the way to it is cut; llmlaunch.timeouts.head is how long silence is taken");
    const Actions more = on_lost(index, error, now);
    actions.insert(actions.end(), more.begin(), more.end());
    return;
  }
  if (host.phase != HostPhase::hello && now >= host.ping_at) {
    actions.push_back(SendMessage{index, agent::Ping{}});
    const auto third = timeouts_.head / 3;
    host.ping_at =
        now + (third.count() > 0 ? std::min<std::chrono::milliseconds>(third, kPingInterval) : kPingInterval);
  }
}

// --- a connection that was cut --------------------------------------------------------------------------------------

void JobState::cut(HostIndex index, const Error& error, TimePoint back_by, Actions& actions, TimePoint now) {
  Host& host = hosts_[index];
  host.cut = Cut{error, {}, {}, now, back_by, now, false, 0};
  if (host.done_by) host.done_by = back_by + timeouts_.grace + kStopMargin;
  const auto left = std::chrono::ceil<std::chrono::seconds>(back_by - now).count();
  actions.push_back(
      Say{LogLevel::warning, fmt::format("{}: connection lost: {}; connecting again for {} s, {} on", host_label(index),
                                         error.what, left, each_host() ? "its command runs" : "its ranks run")});
  tick_cut(index, now, actions);
}

void JobState::tick_cut(HostIndex index, TimePoint now, Actions& actions) {
  Host& host = hosts_[index];
  Cut& cut = *host.cut;
  if (now >= cut.back_by) {
    const auto tried = std::chrono::ceil<std::chrono::seconds>(now - cut.since).count();
    Error error = cut.error;
    error.what = fmt::format("connection lost: {}; it could not be reached again within {} s", error.what, tried);
    if (!cut.last.empty()) error.what += ": " + cut.last;
    const bool stands = !cut.agent_hint.empty();
    if (stands) error.hint = cut.agent_hint;
    if (error.hint.empty())
      error.hint = "the host is down, or the way to it is cut; llmlaunch.timeouts.head is how long that is taken";
    return lose_host(index, std::move(error), stands, actions, now);
  }
  if (cut.attempting || now < cut.again_at) return;
  cut.attempting = true;
  ++cut.attempts;
  actions.push_back(ReopenHost{index});
}

void JobState::reopen_later(HostIndex index, const Error& error, OpenStep step, TimePoint now) {
  Cut& cut = *hosts_[index].cut;
  cut.last = error.what;
  cut.agent_hint = step == OpenStep::open ? error.hint : std::string();
  cut.attempting = false;
  cut.again_at = now + std::min(kFirstReopenDelay * (1 << std::min(cut.attempts, 8)), kMaxReopenDelay);
}

Actions JobState::on_rejoined(HostIndex index, TimePoint now) {
  Actions actions;
  Host& host = hosts_[index];
  if (!host.cut) return actions;
  const auto gone = std::chrono::duration_cast<std::chrono::milliseconds>(now - host.cut->since);
  host.cut.reset();
  host.last_heard = now;
  host.ping_at = now;
  if (host.done_by) host.done_by = now + timeouts_.grace + kStopMargin;
  actions.push_back(Say{LogLevel::info, fmt::format("{}: connected again after {:.1f} s; nothing was lost",
                                                    host_label(index), static_cast<double>(gone.count()) / 1000)});
  return actions;
}

Actions JobState::on_not_rejoined(HostIndex index, const Error& error, TimePoint now) {
  Actions actions;
  if (!hosts_[index].cut) return actions;
  Error told = error;
  told.what = fmt::format("connection lost: {}; connected again: {}", hosts_[index].cut->error.what, error.what);
  lose_host(index, std::move(told), false, actions, now);
  // The host itself has said that nothing is left there, whether or not the job was being stopped.
  if (error.code == Errc::not_found) std::erase(left_behind_, index);
  return actions;
}

const std::string& JobState::setback(HostIndex index) const {
  static const std::string none;
  const Host& host = hosts_[index];
  if (host.cut) return host.cut->last.empty() ? host.cut->error.what : host.cut->last;
  return host.phase == HostPhase::retrying || host.phase == HostPhase::opening ? host.setback : none;
}

HostStage JobState::stage(HostIndex host, OpenStep step) const {
  switch (hosts_[host].phase) {
    case HostPhase::waiting: return HostStage::waiting;
    case HostPhase::retrying: return HostStage::connecting;
    case HostPhase::opening: break;
    case HostPhase::hello:
    case HostPhase::preparing: return HostStage::checking;
    case HostPhase::ready: return HostStage::ready;
    case HostPhase::running: return hosts_[host].cut ? HostStage::connecting : HostStage::running;
    case HostPhase::done: return HostStage::exited;
    case HostPhase::failed:
    case HostPhase::lost: return HostStage::failed;
  }
  switch (step) {
    case OpenStep::authenticating: return HostStage::authenticating;
    case OpenStep::starting:
    case OpenStep::open: return HostStage::starting;
    case OpenStep::pushing: return HostStage::pushing;
    default: return HostStage::connecting;
  }
}

}  // namespace llmlaunch::launcher
