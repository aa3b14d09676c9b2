// Connections of machines that call in, from the first TLS record to the last word. Which of them belong to the job is
// CallAdmission's to say, what becomes of the job JobState's.
#include "launcher/call_desk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "launcher/job_state.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher {
namespace {

// From the first byte to the accepted hello.
constexpr std::chrono::milliseconds kCallHandshakeLimit{10'000};
// An agent's output has credit of its own; beyond this much unread the connection waits.
constexpr std::size_t kEnoughInbox = 1u << 20;
// A port scanner must not fill the terminal, nor keep a mistake from being seen: each has a count of its own.
constexpr std::size_t kSaidRefusals = 20;

std::string without_port(const std::string& endpoint) {
  std::string address = endpoint.substr(0, endpoint.rfind(':'));
  if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
  return address;
}

std::string its_ranks(const HostPlan& host) {
  const auto first = number(host.ranks.front().rank), last = number(host.ranks.back().rank);
  return first == last ? fmt::format("rank {}", first) : fmt::format("ranks {}-{}", first, last);
}

/// "… (gpu07, pid 4711) …" → "… (gpu07, pid ) …": the same machine tries again by another process.
std::string without_pids(std::string text) {
  for (std::size_t at = 0; (at = text.find("pid ", at)) != text.npos;) {
    at += 4;
    const std::size_t end = std::min(text.find_first_not_of("0123456789", at), text.size());
    text.erase(at, end - at);
  }
  return text;
}

}  // namespace

CallDesk::CallDesk(asio::any_io_executor executor, const LaunchPlan& plan, const CallToken& token,
                   SignalFunction on_signal)
    : executor_(std::move(executor)),
      plan_(plan),
      tls_(std::make_shared<CallTls>(CallTls::Side::head, token)),
      on_signal_(std::move(on_signal)),
      admission_(call_hello(plan, 0, 0)) {
  for (std::size_t i = 0; i < plan.hosts.size(); ++i) lines_.push_back(std::make_shared<CallLine>(executor_));
}

void CallDesk::take(asio::ip::tcp::socket socket, std::string from, Bytes begun) {
  if (closed_) return;
  auto wire = std::make_shared<CallWire>(std::move(socket), tls_);
  limit_strangers(wire);
  spawn_or_die(executor_, "a machine that calls in",
               serve(shared_from_this(), wire, std::move(from), std::move(begun)));
}

void CallDesk::limit_strangers(const std::shared_ptr<CallWire>& wire) {
  std::erase_if(strangers_, [](const auto& one) { return one.expired() || one.lock()->closed(); });
  if (strangers_.size() >= kSpareStrangers + lines_.size()) {
    if (const auto oldest = strangers_.front().lock()) oldest->close();
    strangers_.pop_front();
  }
  strangers_.push_back(wire);
}

void CallDesk::say_refusal(const std::string& from, const Error& why) {
  if (closed_) return;
  // A token or a command that differs is somebody's mistake; the rest is noise of the network.
  const bool mistake = why.code != Errc::closed && why.code != Errc::protocol && why.code != Errc::timed_out &&
                       why.code != Errc::canceled && why.code != Errc::too_large;
  std::size_t& said = mistake ? said_mistakes_ : said_noise_;
  if (said >= kSaidRefusals) return;
  if (!refusals_.insert(without_port(from) + ": " + without_pids(why.what)).second) return;
  log_line(mistake ? LogLevel::warning : LogLevel::info,
           fmt::format("a call from {} was refused: {}{}{}", from, why.what, why.hint.empty() ? "" : "; " + why.hint,
                       missing()));
  if (++said == kSaidRefusals) log_info("further {} are not shown", mistake ? "refused calls" : "calls of strangers");
}

// The reason why a place stays empty, in the job's headline.
void CallDesk::keep_refusal(const CallHello& hello, const Error& why) {
  if (!hello.machine_rank) {  // it may be each one that is missing
    for (const auto& line : lines_)
      if (!line->refused || line->refused->code != Errc::refused)
        line->refused = make_error(Errc::refused, "a call was refused: " + why.what, {}, why.hint);
    return;
  }
  if (*hello.machine_rank == 0 || *hello.machine_rank >= lines_.size()) return;
  CallLine& line = *lines_[*hello.machine_rank];
  line.refused = make_error(Errc::refused, "its call was refused: " + why.what, {}, why.hint);
}

// Which machine it is nobody knows, so that it may be each one that is missing.
void CallDesk::keep_stranger(const std::string& from, const Error& why) {
  if (why.code != Errc::unauthenticated) return;
  for (const auto& line : lines_) {
    if (line->refused && line->refused->code == Errc::refused) continue;
    line->refused = make_error(Errc::unauthenticated, fmt::format("a call from {} was refused: {}", from, why.what), {},
                               "all machines of a job need the same token");
  }
}

std::string CallDesk::missing() const {
  if (gives_places()) {
    const std::size_t absent = lines_.size() - std::min<std::size_t>(admission_.here(), lines_.size());
    return absent == 0 ? std::string()
                       : fmt::format("; the job goes on waiting for {} machine{}", absent, absent == 1 ? "" : "s");
  }
  std::string list;
  std::size_t count = 0;
  for (std::size_t rank = 1; rank < lines_.size(); ++rank)
    if (!lines_[rank]->wire && ++count <= kListedMachines) list += fmt::format("{}{}", count == 1 ? "" : ", ", rank);
  if (count == 0) return {};
  if (count > kListedMachines) list += fmt::format(" and {} more", count - kListedMachines);
  return fmt::format("; the job goes on waiting for machine{} {}", count == 1 ? "" : "s", list);
}

void CallDesk::stop_machine(const std::string& who) {
  for (const auto& line : lines_)
    if (line->wire && line->who == who) line->wire->send(CallSignal{SIGTSTP});
}

Result<CallAdmission::Admitted> CallDesk::admit(const Result<CallMessage>& first, Call& call) {
  if (!first) return first.error();
  const auto* hello = std::get_if<CallHello>(&*first);
  if (hello == nullptr) return make_error(Errc::protocol, "its first message is no hello");
  call.hello = *hello;
  auto admitted = admission_.admit(call.number, *hello, without_port(call.from));
  if (!admitted) keep_refusal(*hello, admitted.error());
  return admitted;
}

asio::awaitable<void> CallDesk::refuse(std::shared_ptr<CallWire> wire, Error why) {
  wire->send(CallRefused{static_cast<std::uint32_t>(why.code.value()), why.what, why.hint});
  wire->close_when_sent();
  while (!wire->closed()) {  // until it has read that and closes
    const Result<CallMessage> more = co_await wire->next();
    if (!more) wire->close();
  }
}

asio::awaitable<void> CallDesk::serve(Self self, std::shared_ptr<CallWire> wire, std::string from, Bytes begun) {
  const Result<void> shaken = co_await wire->handshake(std::move(begun), kCallHandshakeLimit);
  if (!shaken) {
    wire->close();
    self->keep_stranger(from, shaken.error());
    self->say_refusal(from, shaken.error());
    co_return;
  }
  std::optional<Deadline> limit;
  limit.emplace(self->executor_, kCallHandshakeLimit, [wire] { wire->close(); });
  const Result<CallMessage> first = co_await wire->next();
  limit.reset();
  if (self->closed_) co_return wire->close();
  const auto call = std::make_shared<Call>(Call{self->next_call_++, wire, {}, from});
  const auto admitted = self->admit(first, *call);
  if (!admitted) {
    self->say_refusal(from, admitted.error());
    co_await self->refuse(wire, admitted.error());
    co_return;
  }
  std::erase_if(self->strangers_, [&wire](const auto& one) { return one.lock() == wire; });
  wire->trust(self->plan_.timeouts.head);
  self->welcome(call, *admitted);
  if (!call->line) co_await wait_for_place(self, call);
  if (call->line) co_await listen(self, call->line);
}

// A place for it and maybe for others, or a word that it has to wait.
void CallDesk::welcome(std::shared_ptr<Call> call, const CallAdmission::Admitted& admitted) {
  const bool stated = call->hello.machine_rank.has_value();
  log_info("{} has called in from {}{}", caller_name(call->hello), call->from,
           stated ? "" : fmt::format(": {} of {} machines are there", admission_.here(), lines_.size()));
  if (admitted.replaced) {
    if (const auto before = waiting_.find(*admitted.replaced); before != waiting_.end()) {
      before->second->wire->close();
      waiting_.erase(before);
    }
  }
  waiting_.emplace(call->number, call);
  for (const CallAdmission::Place& place : admitted.placed) seat(place);
  if (!call->line) call->wire->send(CallWait{admission_.here(), static_cast<std::uint32_t>(lines_.size())});
}

void CallDesk::seat(const CallAdmission::Place& place) {
  const auto found = waiting_.find(place.caller);
  const std::shared_ptr<Call> call = found->second;
  waiting_.erase(found);
  const bool given = !call->hello.machine_rank;
  call->hello.machine_rank = place.machine_rank;
  const HostPlan& host = plan_.hosts[place.machine_rank];
  call->wire->send(
      CallWelcome{place.machine_rank, host.name, number(host.ranks.front().rank), number(host.ranks.back().rank)});
  call->line = lines_[place.machine_rank];
  call->line->wire = call->wire;
  call->line->address = without_port(call->from);
  call->line->who = caller_name(call->hello);
  call->line->changed.cancel();
  if (given) log_info("{} has {}", call->line->who, its_ranks(host));
}

// It has nothing to say meanwhile, so that what comes is the end of its connection, or its first words in its place.
asio::awaitable<void> CallDesk::wait_for_place(Self self, std::shared_ptr<Call> call) {
  const Result<CallMessage> message = co_await call->wire->next();
  if (call->line) {
    if (message) {
      self->take_message(*message, *call->line);
    } else {
      call->wire->close();  // which listen() finds
    }
    co_return;
  }
  call->wire->close();
  if (self->waiting_.erase(call->number) == 0 || self->closed_) co_return;  // another call took its place
  self->admission_.gone(call->number);
  log_info("{} went away before all machines were there: {}", caller_name(call->hello),
           message ? "it sent what is not its to say" : message.error().what);
}

void CallDesk::take_signal(CallLine& line, std::uint32_t number) {
  if (closed_) return;
  switch (called_signal(number, plan_.process.forward_signals)) {
    case CalledSignal::taken: return on_signal_(static_cast<int>(number), line.who);
    case CalledSignal::not_ours:
      return log_warning("{} on {} has no effect: it is not among llmlaunch.forward_signals of machine 0",
                         signal_name(static_cast<int>(number)), line.who);
    case CalledSignal::impossible: break;
  }
  line.failed = make_error(Errc::protocol, fmt::format("its llmlaunch sent the signal {}, which is none", number));
  line.wire->close();
}

void CallDesk::take_message(const CallMessage& message, CallLine& line) {
  if (const auto* data = std::get_if<CallData>(&message)) {
    line.ended = line.ended || data->data.empty();
    line.inbox.insert(line.inbox.end(), data->data.begin(), data->data.end());
  } else if (std::holds_alternative<CallStarted>(message)) {
    line.started = true;
  } else if (const auto* failed = std::get_if<CallFailed>(&message)) {
    line.failed = make_error(static_cast<Errc>(failed->code), failed->what, {}, failed->hint);
  } else if (const auto* signal = std::get_if<CallSignal>(&message)) {
    take_signal(line, signal->number);
  } else {
    line.failed = make_error(Errc::protocol, "its llmlaunch sent what is not its to say");
    line.wire->close();
  }
  line.changed.cancel();
}

// Everything that a machine with a place says, to its end.
asio::awaitable<void> CallDesk::listen(Self self, std::shared_ptr<CallLine> line) {
  const std::shared_ptr<CallWire> wire = line->wire;
  while (!line->failed || !wire->closed()) {
    const Result<CallMessage> message = co_await wire->next();
    if (message) {
      self->take_message(*message, *line);
    } else {
      if (!line->failed) line->failed = Error{message.error().code, "the connection of its llmlaunch ended", {}, {}};
      wire->close();
      if (!self->closed_) self->on_signal_(SIGCONT, line->who);  // if it stood, nobody will continue it
      line->changed.cancel();
    }
    while (!wire->closed() && line->inbox.size() - line->read > kEnoughInbox)
      co_await line->taken.async_wait(await_tuple);
  }
}

// --- places ---------------------------------------------------------------------------------------------------------

bool CallDesk::gives_places() const {
  return plan_.per_machine->gives_places || admission_.anybody_waits();
}

std::string CallDesk::awaited(std::uint32_t machine_rank) const {
  if (!gives_places()) return fmt::format("its llmlaunch run --machine_rank {} has not called in", machine_rank);
  return fmt::format("{} of {} machines are there", admission_.here(), lines_.size());
}

Error CallDesk::not_called(std::uint32_t machine_rank) const {
  const double seconds = std::chrono::duration<double>(plan_.timeouts.rendezvous).count();
  const bool gives = gives_places();
  const std::string late = gives ? fmt::format("after {:g} s {} of {} machines are there: {}", seconds,
                                               admission_.here(), lines_.size(), admission_.those_here())
                                 : fmt::format("machine {} has not called in within {:g} s", machine_rank, seconds);
  if (const auto& refused = lines_[machine_rank]->refused)
    return make_error(Errc::timed_out, late + (gives ? "; " : ": ") + refused->what, {}, refused->hint);
  std::string hint =
      gives ? "start the same command on the others"
            : fmt::format("start there: llmlaunch run --machine_rank {} …, with the words of this one", machine_rank);
  if (plan_.per_machine->loopback)
    hint += fmt::format(", with an address of this machine that they reach: {} is each machine itself",
                        plan_.rendezvous_address);
  return make_error(Errc::timed_out, late, {}, hint + "; llmlaunch.timeouts.rendezvous is how long it is waited for");
}

std::shared_ptr<RemoteShell> CallDesk::shell(const HostPlan& host) {
  const std::uint32_t rank = number(host.node_rank);
  return make_called_in_shell(executor_, {lines_[rank], host.name, plan_.rendezvous_address,
                                          [self = shared_from_this(), rank] { return self->not_called(rank); },
                                          plan_.timeouts.rendezvous, plan_.timeouts.start});
}

void CallDesk::end(const CallEnd& how) {
  closed_ = true;
  for (const auto& one : strangers_)
    if (const auto wire = one.lock()) wire->close();
  for (const auto& [number, call] : waiting_) {
    call->wire->send(how);
    call->wire->close_when_sent();
  }
  for (const auto& line : lines_) {
    if (!line->wire) continue;
    line->wire->send(how);
    line->wire->close_when_sent();
    line->inbox.clear();
    line->read = 0;
    line->taken.cancel();
  }
}

void CallDesk::close() {
  closed_ = true;
  for (const auto& [number, call] : waiting_) call->wire->close();
  for (const auto& line : lines_)
    if (line->wire) line->wire->close();
}

}  // namespace llmlaunch::launcher
