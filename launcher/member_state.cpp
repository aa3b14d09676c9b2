// The decisions of a machine that calls in, and their words. No socket, no clock; see member_state.hpp.
#include "launcher/member_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "launcher/host_messages.hpp"
#include "launcher/launch.hpp"

namespace llmlaunch::launcher::member {
namespace {

// What a process can end with; a larger one would be cut to something else, and at worst to 0.
constexpr std::uint32_t kLargestStatus = 255;

std::string ranks_text(const CallWelcome& welcome) {
  if (welcome.first_rank == welcome.last_rank) return fmt::format("rank {}", welcome.first_rank);
  return fmt::format("ranks {}-{}", welcome.first_rank, welcome.last_rank);
}

double in_seconds(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

void FrameEdge::feed(ByteView bytes) {
  while (!bytes.empty()) {
    if (left_ > 0) {
      const auto passed = std::min<std::uint64_t>(left_, bytes.size());
      left_ -= passed;
      bytes = bytes.subspan(static_cast<std::size_t>(passed));
      continue;
    }
    length_ |= std::to_integer<std::uint32_t>(bytes.front()) << (8 * length_bytes_);
    bytes = bytes.subspan(1);
    if (++length_bytes_ < sizeof(length_)) continue;
    left_ = std::exchange(length_, 0);
    length_bytes_ = 0;
  }
}

MemberState::MemberState(const LaunchPlan& plan)
    : plan_(plan),
      where_(endpoint(plan.rendezvous_address, plan.rendezvous_port)),
      place_(plan.per_machine->machine_rank) {}

std::string MemberState::itself() const {
  return place_ ? fmt::format("machine {}", *place_) : "this machine";
}

// --- joining
// -------------------------------------------------------------------------------------------------------------

Actions MemberState::start(TimePoint now) {
  give_up_ = now + plan_.timeouts.rendezvous;
  say_at_ = now + kWaitSaidAfter;
  return call();
}

Actions MemberState::call() {
  phase_ = Phase::calling;
  wake_at_ = give_up_;
  return {WakeAt{wake_at_}, Call{}};
}

// Again and again, as nobody says which machine is started first.
Actions MemberState::on_no_wire(const Error& error, TimePoint now) {
  if (phase_ == Phase::joined || phase_ == Phase::parting) {
    return leave(kStatusUnavailable,
                 make_error(Errc::closed, fmt::format("machine 0 at {} was lost: {}", where_, error.what), {},
                            "its llmlaunch was killed, or the way to it is cut; the ranks of this machine end"));
  }
  if (phase_ == Phase::waiting) return call_anew(error, now);
  if (phase_ != Phase::calling) return {};
  if (error.code == Errc::unauthenticated) {
    return leave(kStatusUnavailable,
                 make_error(Errc::unauthenticated,
                            fmt::format("machine 0 at {} has another token than this machine", where_), {},
                            "all machines of a job need the same token: llmlaunch.token_file, --token-file or "
                            "LLMLAUNCH_JOIN_TOKEN"));
  }
  last_failure_ = error.what;
  if (now + delay_ >= give_up_) return leave(kStatusUnavailable, unanswered());
  Actions actions;
  if (now >= say_at_) {
    actions.push_back(
        Say{LogLevel::info, fmt::format("{} waits for machine 0 at {}: {}", itself(), where_, error.what)});
    say_at_ = now + kWaitSaidEvery;
  }
  phase_ = Phase::pausing;
  wake_at_ = now + delay_;
  actions.push_back(WakeAt{wake_at_});
  delay_ = std::min(2 * delay_, kMaxCallDelay);
  return actions;
}

Error MemberState::unanswered() const {
  return make_error(
      Errc::timed_out,
      fmt::format("machine 0 did not answer at {} within {:g} s{}{}", where_, in_seconds(plan_.timeouts.rendezvous),
                  last_failure_.empty() ? "" : ": ", last_failure_),
      {},
      fmt::format("{}, and let other machines reach TCP port {}; "
                  "llmlaunch.timeouts.rendezvous is how long it is waited for",
                  place_ ? "start there: llmlaunch run --machine_rank 0 …"
                         : "start the same command there; if it does not know that address as its own, with "
                           "--rdzv-conf is_host=true or --machine_rank 0",
                  plan_.rendezvous_port));
}

// The way to machine 0 was lost, and no rank runs: it can still come in time, also to another llmlaunch there.
Actions MemberState::call_anew(const Error& error, TimePoint now) {
  give_up_ = now + plan_.timeouts.rendezvous;
  say_at_ = now + kWaitSaidAfter;
  last_failure_ = error.what;
  phase_ = Phase::pausing;
  wake_at_ = now + kFirstCallDelay;
  delay_ = 2 * kFirstCallDelay;
  return {Say{LogLevel::warning,
              fmt::format("machine 0 at {} was lost before all machines were there, and is called again: {}", where_,
                          error.what)},
          WakeAt{wake_at_}};
}

Actions MemberState::on_answer(const CallMessage& answer, TimePoint now) {
  if (const auto* welcomed = std::get_if<CallWelcome>(&answer)) return welcome(*welcomed);
  if (const auto* word = std::get_if<CallWait>(&answer); word != nullptr && !place_) return wait(*word);
  const auto* refused = std::get_if<CallRefused>(&answer);
  if (refused == nullptr)
    return on_no_wire(make_error(Errc::protocol, "what listens there answers with what is no answer"), now);
  const auto code = static_cast<Errc>(refused->code);
  return leave(code == Errc::invalid_config ? kStatusConfig : kStatusUnavailable,
               make_error(code, refused->what, "machine 0 at " + where_, refused->hint));
}

// Machine 0 has a limit of its own for those that are missing, and says when it is over.
Actions MemberState::wait(const CallWait& word) {
  phase_ = Phase::waiting;
  wake_at_ = TimePoint::max();
  delay_ = kFirstCallDelay;
  return {WakeAt{wake_at_},
          Say{LogLevel::info, fmt::format("called in at {}, where {} of {} machines are; machine 0 gives out the "
                                          "places when all are there",
                                          where_, word.here, word.num_machines)}};
}

Actions MemberState::on_place(const CallMessage& message, TimePoint now) {
  if (const auto* welcomed = std::get_if<CallWelcome>(&message)) return welcome(*welcomed);
  if (const auto* end = std::get_if<CallEnd>(&message)) return on_end(*end);
  return on_no_wire(make_error(Errc::protocol, "it sent what is not its to say"), now);
}

Actions MemberState::welcome(const CallWelcome& welcome) {
  phase_ = Phase::joined;
  place_ = welcome.machine_rank;
  wake_at_ = TimePoint::max();
  return {WakeAt{wake_at_},
          Say{LogLevel::info,
              fmt::format("machine {} of {} has joined the job at {}: {}; their output and the logs are on machine 0",
                          welcome.machine_rank, plan_.hosts.size(), where_, ranks_text(welcome))},
          StartAgent{welcome.name}};
}

// --- the job
// -------------------------------------------------------------------------------------------------------------

Actions MemberState::on_message(const CallMessage& message, TimePoint now) {
  if (phase_ == Phase::calling) return on_answer(message, now);
  if (phase_ == Phase::waiting) return on_place(message, now);
  if (phase_ != Phase::joined && phase_ != Phase::parting) return {};
  if (const auto* end = std::get_if<CallEnd>(&message)) return on_end(*end);
  if (const auto* data = std::get_if<CallData>(&message)) return on_data(*data);
  if (const auto* signal = std::get_if<CallSignal>(&message); signal && signal->number == SIGTSTP)
    return pausing_ && !standing_since_ ? stop_self(now) : Actions{};  // or it came too late
  return on_no_wire(make_error(Errc::protocol, "it sent what is not its to say"), now);
}

Actions MemberState::on_data(const CallData& data) {
  if (!data.data.empty()) {
    edge_.feed(data.data);
    return {ToAgent{data.data}};
  }
  hung_up_ = true;
  wake_at_ = TimePoint::max();  // the job may go on elsewhere for long
  return {WakeAt{wake_at_}, CloseAgent{}};
}

Actions MemberState::on_end(const CallEnd& end) {
  if (end.status == 0) {
    Actions actions{Say{LogLevel::info, "the job ended well"}};
    for (Action& action : leave(0, std::nullopt)) actions.push_back(std::move(action));
    return actions;
  }
  // Ctrl-C here is Ctrl-C for the shell's loop around this process, too.
  const bool is_ours = stopping_since_ && end.status == 128 + SIGINT;
  return leave(static_cast<int>(std::min(end.status, kLargestStatus)),
               make_error(is_ours ? Errc::interrupted : Errc::rank_failed, "the job failed: " + end.what, {},
                          "machine 0 has the output and the logs"));
}

Actions MemberState::on_agent_started() {
  if (phase_ != Phase::joined) return {};
  agent_runs_ = true;
  return {SendToHead{CallStarted{}}};
}

Actions MemberState::on_agent_failed(const Error& error, TimePoint now) {
  if (phase_ != Phase::joined) return {};
  Actions actions{SendToHead{CallFailed{static_cast<std::uint32_t>(error.code.value()), error.what, error.hint}}};
  for (Action& action : part(now)) actions.push_back(std::move(action));
  return actions;
}

Actions MemberState::on_agent_ended(TimePoint now) {
  if (phase_ != Phase::joined) return {};
  agent_runs_ = false;
  Actions actions{SendToHead{CallData{}}};
  for (Action& action : part(now)) actions.push_back(std::move(action));
  return actions;
}

// The agent ended unasked: machine 0 ends the job for that, or was silent and is gone.
Actions MemberState::part(TimePoint now) {
  if (hung_up_) return {};
  phase_ = Phase::parting;
  wake_at_ = now + plan_.timeouts.grace + 2 * kStopMargin;
  return {WakeAt{wake_at_}};
}

Actions MemberState::on_time(TimePoint now) {
  if (now < wake_at_) return {};
  wake_at_ = TimePoint::max();
  switch (phase_) {
    case Phase::pausing: return call();
    case Phase::calling: return leave(kStatusUnavailable, unanswered());
    case Phase::parting:
      return leave(kStatusUnavailable,
                   make_error(Errc::closed,
                              fmt::format("the agent of this machine ended, and machine 0 at {} says nothing", where_),
                              {}, "the way to machine 0 is cut, or it is down"));
    case Phase::joined: return pausing_ ? stop_self(now) : Actions{};
    case Phase::waiting:
    case Phase::left: break;
  }
  return {};
}

// --- signals
// -------------------------------------------------------------------------------------------------------------

bool MemberState::is_forwarded(int signal) const {
  const std::vector<int>& own = plan_.process.forward_signals;
  return signal == SIGUSR1 || signal == SIGUSR2 || std::find(own.begin(), own.end(), signal) != own.end();
}

Actions MemberState::on_signal(int number, TimePoint now) {
  if (phase_ == Phase::left) return {};
  if (is_forwarded(number)) return forward(number);
  if (number == SIGTSTP) return pause(now);
  if (phase_ == Phase::calling || phase_ == Phase::pausing) {
    return leave(128 + number,
                 make_error(Errc::interrupted,
                            fmt::format("interrupted by {} before machine 0 had answered", signal_name(number))));
  }
  if (phase_ == Phase::waiting) {
    return leave(128 + number,
                 make_error(Errc::interrupted,
                            fmt::format("interrupted by {} before all machines were there", signal_name(number))));
  }
  if (stopping_since_) return now < *stopping_since_ + kOneStop ? Actions{} : leave_at_once(number);
  stopping_since_ = now;
  return {Say{LogLevel::warning,
              fmt::format("caught {}: machine 0 stops the job (once more: leave it at once)", signal_name(number))},
          SendToHead{CallSignal{static_cast<std::uint32_t>(number)}}};
}

Actions MemberState::pause(TimePoint now) {
  if (phase_ != Phase::joined || stopping_since_) return stop_self(now);
  if (std::exchange(pausing_, true)) return {};
  wake_at_ = now + kStandLimit;
  return {WakeAt{wake_at_}, SendToHead{CallSignal{SIGTSTP}}};
}

Actions MemberState::stop_self(TimePoint now) {
  standing_since_ = now;
  return {StopSelf{}};
}

// Time in which this process did not run is nobody's fault.
Actions MemberState::on_continued(TimePoint now) {
  if (!standing_since_ || phase_ == Phase::left) return {};
  const auto stood = now - *standing_since_;
  standing_since_.reset();
  give_up_ += stood;
  say_at_ += stood;
  if (wake_at_ != TimePoint::max()) wake_at_ += stood;
  if (!pausing_) return {WakeAt{wake_at_}};
  pausing_ = false;
  if (phase_ == Phase::joined) wake_at_ = TimePoint::max();
  return {WakeAt{wake_at_}, SendToHead{CallSignal{SIGCONT}}};
}

Actions MemberState::forward(int signal) {
  if (phase_ == Phase::calling || phase_ == Phase::pausing)
    return {Say{LogLevel::warning, signal_name(signal) + " goes to nobody: machine 0 has not answered"}};
  if (phase_ == Phase::waiting)
    return {Say{LogLevel::warning, signal_name(signal) + " goes to nobody: not all machines are there"}};
  return {Say{LogLevel::info, signal_name(signal) + " goes to machine 0, and from there to all ranks"},
          SendToHead{CallSignal{static_cast<std::uint32_t>(signal)}}};
}

// The ranks get no grace. In the middle of an order of machine 0 there is no place for one of ours: then the agent sees
// that its orders end, which gives them the grace.
Actions MemberState::leave_at_once(int signal) {
  Actions actions;
  if (agent_runs_ && !hung_up_ && edge_.between_frames())
    actions.push_back(ToAgent{agent::encode(agent::HeadMessage(agent::Stop{SIGKILL, 0}))});
  for (Action& action : leave(128 + signal, make_error(Errc::interrupted, "interrupted by " + signal_name(signal))))
    actions.push_back(std::move(action));
  return actions;
}

Actions MemberState::leave(int status, std::optional<Error> failure) {
  phase_ = Phase::left;
  wake_at_ = TimePoint::max();
  return {Leave{status, std::move(failure)}};
}

}  // namespace llmlaunch::launcher::member
