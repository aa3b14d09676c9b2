// What a job shows of its hosts on their way: the roll call, and the record for `--timeline`. The rest is in job.cpp.
#include <fmt/format.h>

#include "launcher/call_desk.hpp"
#include "launcher/job.hpp"
#include "launcher/terminal_columns.hpp"

namespace llmlaunch::launcher {
void Job::look_around(TimePoint now) {
  if (state_.stopping()) roll_call_.stopping(now);
  for (HostIndex host = 0; host < sessions_.size(); ++host) {
    const OpenStep step = sessions_[host] ? sessions_[host]->shell().step() : OpenStep::waiting;
    state_.on_step(host, step, now);
    roll_call_.set(host, state_.stage(host, step), now);
    roll_call_.set_reason(host, reason_of(host, step));
    events_.host(plan_, host, state_.stage(host, step), state_.setback(host));
  }
}

// Nobody connects to a machine that calls in: somebody has to start something there.
std::string Job::reason_of(HostIndex host, OpenStep step) const {
  const std::string& setback = state_.setback(host);
  if (!setback.empty() || !plan_.hosts[host].calls_in || state_.stage(host, step) != HostStage::connecting)
    return setback;
  return desk_ ? desk_->awaited(static_cast<std::uint32_t>(host)) : setback;
}

// While ranks run their lines have the terminal for themselves, and those that they draw again the place of this one.
void Job::show_roll_call(TimePoint now) {
  if (!options_.live_line) return;
  std::string line;
  if (!finished_ && !state_.running()) line = roll_call_.line(terminal_columns(options_.stderr_fd), now);
  if (line == live_line_) return;
  live_line_ = line;
  writer_.status(std::move(line));
}

void Job::say_roll_call(TimePoint now) {
  if (options_.live_line) return;  // it is on the screen all the time
  look_around(now);
  if (const std::string sentence = roll_call_.sentence(now); !sentence.empty()) say(LogLevel::info, sentence);
}

void Job::note(HostIndex host, const SessionEvent& event, TimePoint now) {
  if (std::holds_alternative<Opened>(event)) {
    timeline_.open(host, sessions_[host]->shell().step_times());
  } else if (std::holds_alternative<OpenFailed>(event)) {
    timeline_.open(host, sessions_[host]->shell().step_times());
    timeline_.note(host, Moment::end, now);
  } else if (std::holds_alternative<Lost>(event) || std::holds_alternative<NotRejoined>(event)) {
    timeline_.note(host, Moment::end, now);
  } else if (const auto* message = std::get_if<agent::AgentMessage>(&event)) {
    if (std::holds_alternative<agent::Hello>(*message)) timeline_.note(host, Moment::hello, now);
    if (std::holds_alternative<agent::Ready>(*message)) timeline_.note(host, Moment::ready, now);
    if (std::holds_alternative<agent::Output>(*message)) timeline_.note(host, Moment::first_output, now);
    if (std::holds_alternative<agent::Done>(*message)) timeline_.note(host, Moment::end, now);
  }
}

// A rank that a host has no right to speak for is JobState's to refuse: it is no event.
void Job::keep_event(HostIndex host, const agent::AgentMessage& message) {
  const HostPlan& plan = plan_.hosts[host];
  const auto owns = [&plan](std::uint32_t rank) {
    return rank >= number(plan.ranks.front().rank) && rank <= number(plan.ranks.back().rank);
  };
  if (const auto* started = std::get_if<agent::Started>(&message); started && owns(started->rank))
    events_.rank_started(plan, *started);
  if (const auto* exited = std::get_if<agent::Exited>(&message); exited && owns(exited->rank))
    events_.rank_exited(plan, *exited);
}

void Job::keep_timeline(JobResult& result) {
  if (options_.timeline.empty()) return;
  timeline_.finish(std::chrono::steady_clock::now());
  const Result<void> written = write_timeline(options_.timeline, timeline_);
  if (written) return;
  if (result.exit_status != 0) return log_error("--timeline: {}", to_string(written.error()));
  result.exit_status = kStatusLogsIncomplete;
  result.failure = written.error();
  result.failure->what = fmt::format("all {} ended well, but --timeline was not written: {}",
                                     each_host() ? "commands" : "ranks", result.failure->what);
}

}  // namespace llmlaunch::launcher
