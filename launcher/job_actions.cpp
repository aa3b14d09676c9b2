// The two directions between a `Job` and its JobState: what a host's session tells becomes an event, and the actions
// that come of it are carried out.
#include <fmt/format.h>

#include <algorithm>

#include "launcher/call_desk.hpp"
#include "launcher/carried_streams.hpp"
#include "launcher/job.hpp"
#include "launcher/ssh/ssh_shell.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::size_t kMaxShellReadBytes = 64u << 10;

}  // namespace

// --- actions ---

void Job::apply(Actions actions) {
  for (Action& action : actions) carry_out(action);
  read_stdin();
}

void Job::carry_out(Action& action) {
  if (auto* write = std::get_if<WriteOutput>(&action)) {
    writer_.output(write->host, write->rank, write->stream, std::move(write->data));
  } else if (const auto* end = std::get_if<EndOutput>(&action)) {
    writer_.end(end->rank, end->stream);
  } else if (const auto* send = std::get_if<SendMessage>(&action)) {
    if (sessions_[send->host]) sessions_[send->host]->send(send->message);
  } else if (auto* carry = std::get_if<Carry>(&action)) {
    if (auto taken = carried_[carry->host]->take(std::move(carry->message)); !taken)
      apply(state_.on_lost(carry->host, taken.error(), now()));
  } else if (const auto* opening = std::get_if<OpenHost>(&action)) {
    open(opening->host);
  } else if (const auto* closing = std::get_if<CloseHost>(&action)) {
    if (sessions_[closing->host]) sessions_[closing->host]->close();
    if (carried_[closing->host]) carried_[closing->host]->close();
  } else if (const auto* reopening = std::get_if<ReopenHost>(&action)) {
    reopen(reopening->host);
  } else if (const auto* prepare = std::get_if<SendPrepare>(&action)) {
    HostSession& session = *sessions_[prepare->host];
    agent::HeadWays ways = ways_to_head(plan_, prepare->host, session.shell().head_address(), head_.rendezvous_port,
                                        main_addresses_, interfaces_);
    offered_[prepare->host] = ways.addresses;
    if (ways.carry) begin_carrying(prepare->host);
    session.send(prepare_message(plan_, prepare->host, head_, std::move(ways)));
  } else if (const auto* file = std::get_if<SendFile>(&action)) {
    push_file(file->host, file->index);
  } else if (const auto* go = std::get_if<SendGo>(&action)) {
    if (addresses_.empty() && !each_host()) admit_ranks();
    timeline_.note(go->host, Moment::go, now());
    show_roll_call(now());
    sessions_[go->host]->send(go_message(plan_, go->host, addresses_, go->master_port, head_));
  } else if (const auto* ended = std::get_if<EndGeneration>(&action)) {
    events_.stopping(ended->reason);
    if (server_) server_->end_generation(ended->reason);
  } else if (const auto* gone = std::get_if<NoteEnded>(&action)) {
    if (server_) server_->note_ended(gone->rank);
  } else if (const auto* words = std::get_if<Say>(&action)) {
    say(words->level, words->text);
  } else if (std::holds_alternative<CallRoll>(action)) {
    say_roll_call(now());
  } else if (const auto* stopping = std::get_if<StopSelf>(&action)) {
    if (stopping->at.empty()) {
      stop_self();
    } else if (desk_) {
      desk_->stop_machine(stopping->at);
    }
  } else if (std::holds_alternative<AbandonTerminal>(action)) {
    writer_.abandon_terminal();
  } else {
    finish();
  }
}

void Job::open(HostIndex host) {
  const std::shared_ptr<RemoteShell> shell = make_shell(host);
  const std::size_t read_bytes = std::min<std::size_t>(kMaxShellReadBytes, head_.window_bytes);
  sessions_[host] = std::make_shared<HostSession>(
      io_.get_executor(), shell, read_bytes, [this, host](SessionEvent event) { on_event(host, std::move(event)); });
  sessions_[host]->start();
}

void Job::reopen(HostIndex host) {
  sessions_[host]->reopen(make_shell(host), resume_message(plan_, host, head_));
}

std::shared_ptr<RemoteShell> Job::make_shell(HostIndex host) {
  const std::shared_ptr<RemoteShell> shell = shell_for(plan_.hosts[host]);
  shell->on_noise([this, host](std::string_view line) {
    say(LogLevel::info, fmt::format("{} said: {}", plan_.hosts[host].name, line));
  });
  return shell;
}

std::shared_ptr<RemoteShell> Job::shell_for(const HostPlan& host) {
  if (options_.make_shell) return options_.make_shell(io_.get_executor(), host);
  if (host.calls_in) return desk_->shell(host);
  if (host.local) return make_local_shell(io_.get_executor(), host, agent_, plan_.timeouts.start);
  return ssh::make_ssh_shell(io_.get_executor(), host, agent_, ssh_);
}

void Job::begin_carrying(HostIndex host) {
  const std::size_t most = agent::kCarriedPerRank * plan_.hosts[host].ranks.size() + agent::kCarriedSpare;
  const std::weak_ptr<HostSession> session = sessions_[host];
  carried_[host] = std::make_shared<CarriedStreams>(
      io_.get_executor(), head_.rendezvous_port, most,
      [session](agent::HeadMessage message) {
        if (const auto open = session.lock()) open->send(message);
      },
      [session] {
        if (const auto open = session.lock()) open->confirm();
      });
}

void Job::push_file(HostIndex host, std::uint32_t index) {
  sessions_[host]->push(index, files_[index]);  // JobState has looked at the index
}

void Job::finish() {
  look_around(now());  // the last state of each host
  finished_ = true;
  if (input_) input_->close();
  for (const auto& session : sessions_)
    if (session) session->close();
  pass_.withdraw();  // before those who are connected by it are told
  if (server_) server_->close();
  signals_.cancel();
  ticker_.cancel();
}

// --- events ---

void Job::on_event(HostIndex host, SessionEvent event) {
  note(host, event, now());
  if (auto* message = std::get_if<agent::AgentMessage>(&event)) {
    keep_event(host, *message);
    if (const auto* hello = std::get_if<agent::Hello>(message)) note_addresses(*hello);
    if (const auto* ready = std::get_if<agent::Ready>(message); ready && !note_reach(host, ready->reach)) {
      const Error error = make_error(Errc::protocol, "its agent reached an address that it was not told");
      return apply(state_.on_lost(host, error, now()));
    }
    apply(state_.on_message(host, std::move(*message), now()));
  } else if (std::holds_alternative<Heard>(event)) {
    state_.on_bytes(host, now());
  } else if (std::holds_alternative<Pushed>(event)) {
    state_.on_pushed(host, now());
  } else if (std::holds_alternative<Opened>(event)) {
    apply(state_.on_opened(host, now()));
  } else if (std::holds_alternative<Rejoined>(event)) {
    apply(state_.on_rejoined(host, now()));
  } else if (const auto* refused = std::get_if<NotRejoined>(&event)) {
    apply(state_.on_not_rejoined(host, refused->error, now()));
  } else if (const auto* failed = std::get_if<OpenFailed>(&event)) {
    apply(state_.on_open_failed(host, failed->error, failed->step, now()));
  } else {
    apply(state_.on_lost(host, std::get<Lost>(event).error, now()));
  }
}

void Job::on_taken(const std::vector<std::pair<std::size_t, std::uint64_t>>& taken) {
  for (const auto& [host, bytes] : taken) apply(state_.on_taken(host, bytes, now()));
}

}  // namespace llmlaunch::launcher
