// join_job: the shell around MemberState, which decides. Once it has joined it is a pipe between machine 0's connection
// and an agent of this machine. When either end goes, so does the other: the agent ends its ranks when its channel
// ends.
#include "launcher/member.hpp"

#include <fmt/format.h>

#include <csignal>
#include <deque>
#include <random>
#include <utility>

#include "launcher/call_admission.hpp"
#include "launcher/call_wire.hpp"
#include "launcher/member_state.hpp"
#include "launcher/remote.hpp"
#include "launcher/tcp_connect.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/tcp_tuning.hpp"

namespace llmlaunch::launcher {
namespace {

using std::chrono::milliseconds;

// After an accepted connection machine 0 answers at once, or is another program.
constexpr milliseconds kAnswerLimit{20'000};
// What may wait for the agent before no more is read of machine 0.
constexpr std::size_t kEnoughForAgent = 256u << 10;

// Two machines with the same are one in 2^64; that two of a job are, is nothing to guard against.
std::uint64_t instance_by_chance() {
  std::random_device chance;
  return static_cast<std::uint64_t>(chance()) << 32 | chance();
}

class Member {
 public:
  Member(const LaunchPlan& plan, const MemberOptions& options, std::shared_ptr<const AgentBinary> agent)
      : plan_(plan),
        state_(plan),
        agent_(std::move(agent)),
        tls_(std::make_shared<CallTls>(CallTls::Side::member, options.token)),
        instance_(instance_by_chance()),
        signals_(io_),
        alarm_(io_, TimePoint::max()),
        fed_(io_, TimePoint::max()),
        taken_(io_, TimePoint::max()) {}

  MemberResult run();

 private:
  static TimePoint now() { return std::chrono::steady_clock::now(); }
  void catch_signals();
  asio::awaitable<void> take_signals();
  asio::awaitable<void> keep_time();

  void apply(member::Actions actions);
  void carry_out(member::Action& action);
  void stop_self();
  void leave(member::Leave& how);

  asio::awaitable<void> call();
  asio::awaitable<Result<void>> connect();
  asio::awaitable<void> listen(std::shared_ptr<CallWire> wire);
  asio::awaitable<void> serve_agent(std::shared_ptr<RemoteShell> shell);
  asio::awaitable<void> feed_agent(std::shared_ptr<RemoteShell> shell);
  void start_agent(const std::string& name);

  const LaunchPlan& plan_;
  member::MemberState state_;
  std::shared_ptr<const AgentBinary> agent_;
  asio::io_context io_{1};
  std::shared_ptr<CallTls> tls_;
  const std::uint64_t instance_;  // of this process: see CallHello
  asio::signal_set signals_;
  asio::steady_timer alarm_;
  std::shared_ptr<TcpConnector> connector_;
  std::shared_ptr<CallWire> wire_;
  std::deque<Bytes> for_agent_;
  std::size_t for_agent_bytes_ = 0;
  asio::steady_timer fed_;    // cancelled when there is something for the agent
  asio::steady_timer taken_;  // cancelled when the agent took some
  bool agent_closing_ = false;
  bool left_ = false;
  MemberResult result_;
};

MemberResult Member::run() {
  catch_signals();
  spawn_or_die(io_.get_executor(), "signals", take_signals());
  spawn_or_die(io_.get_executor(), "alarm", keep_time());
  apply(state_.start(now()));
  while (!left_) io_.run_one();
  // Signals have their usual effect again. For the agent, whose channel has ended, to end its ranks and itself; without
  // one there is nothing to wait for.
  io_.run_for(plan_.timeouts.grace + kStopMargin);
  return std::move(result_);
}

void Member::catch_signals() {
  std::vector<int> numbers{SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP};
  struct sigaction before {};
  const bool nohup = ::sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler == SIG_IGN;
  if (!nohup) numbers.push_back(SIGHUP);
  for (const int number : plan_.process.forward_signals) numbers.push_back(number);
  for (const int number : numbers) {
    boost::system::error_code error;
    signals_.add(number, error);
    if (error) log_warning("{} cannot be caught: {}", signal_name(number), error.message());
  }
}

asio::awaitable<void> Member::take_signals() {
  while (!left_) {
    const auto [error, number] = co_await signals_.async_wait(await_tuple);
    if (error) co_return;
    apply(state_.on_signal(number, now()));
  }
}

asio::awaitable<void> Member::keep_time() {
  while (!left_) {
    const auto [moved] = co_await alarm_.async_wait(await_tuple);
    if (moved || left_) continue;
    alarm_.expires_at(TimePoint::max());
    apply(state_.on_time(now()));
  }
}

// --- actions
// -------------------------------------------------------------------------------------------------------------

void Member::apply(member::Actions actions) {
  for (member::Action& action : actions)
    if (!left_) carry_out(action);
}

void Member::carry_out(member::Action& action) {
  if (std::holds_alternative<member::Call>(action)) {
    spawn_or_die(io_.get_executor(), "call", call());
  } else if (const auto* wake = std::get_if<member::WakeAt>(&action)) {
    alarm_.expires_at(wake->at);
  } else if (const auto* send = std::get_if<member::SendToHead>(&action)) {
    wire_->send(send->message);
  } else if (const auto* start = std::get_if<member::StartAgent>(&action)) {
    start_agent(start->name);
  } else if (auto* more = std::get_if<member::ToAgent>(&action)) {
    for_agent_bytes_ += more->bytes.size();
    for_agent_.push_back(std::move(more->bytes));
    fed_.cancel();
  } else if (std::holds_alternative<member::CloseAgent>(action)) {
    agent_closing_ = true;
    fed_.cancel();
  } else if (const auto* words = std::get_if<Say>(&action)) {
    log_line(words->level, words->text);
  } else if (std::holds_alternative<member::StopSelf>(action)) {
    stop_self();
  } else {
    leave(std::get<member::Leave>(action));
  }
}

// Where no shell could continue it, the kernel drops the signal, and the job goes on at once.
void Member::stop_self() {
  boost::system::error_code none;
  signals_.remove(SIGTSTP, none);  // back to its default
  ::raise(SIGTSTP);
  signals_.add(SIGTSTP, none);
  apply(state_.on_continued(now()));
}

void Member::leave(member::Leave& how) {
  left_ = true;
  result_ = {how.status, std::move(how.failure)};
  boost::system::error_code none;
  signals_.clear(none);  // and a wait is not ended by that
  signals_.cancel();
  alarm_.cancel();
  if (connector_) connector_->cancel();
  if (wire_) wire_->close();
  agent_closing_ = true;
  fed_.cancel();
  taken_.cancel();
}

// --- machine 0
// -----------------------------------------------------------------------------------------------------------

// One connection, to its end.
asio::awaitable<void> Member::call() {
  const Result<void> connected = co_await connect();
  if (!connected) {
    if (wire_) wire_->close();
    apply(state_.on_no_wire(connected.error(), now()));
    co_return;
  }
  co_await listen(wire_);
}

asio::awaitable<Result<void>> Member::connect() {
  connector_ = std::make_shared<TcpConnector>(io_.get_executor());
  const TcpTarget target{plan_.rendezvous_address,
                         plan_.rendezvous_port,
                         AF_UNSPEC,
                         plan_.timeouts.connect,
                         "give main_process_ip as digits",
                         {}};
  auto addresses = co_await connector_->resolve(target);
  if (!addresses) co_return addresses.error();
  auto socket = co_await connector_->connect(std::move(*addresses), target);
  if (!socket) co_return socket.error();
  tune_connection(socket->native_handle());
  wire_ = std::make_shared<CallWire>(std::move(*socket), tls_);
  const Result<void> shaken = co_await wire_->handshake({}, kAnswerLimit);
  if (!shaken) co_return shaken;
  wire_->trust(plan_.timeouts.head);
  wire_->send(call_hello(plan_, plan_.per_machine->machine_rank, instance_));
  co_return ok;
}

asio::awaitable<void> Member::listen(std::shared_ptr<CallWire> wire) {
  std::optional<Deadline> limit;
  limit.emplace(io_.get_executor(), kAnswerLimit, [wire] { wire->close(); });
  while (!left_) {
    const Result<CallMessage> message = co_await wire->next();
    limit.reset();
    if (!message) {
      wire->close();
      apply(state_.on_no_wire(message.error(), now()));
      break;
    }
    apply(state_.on_message(*message, now()));
    if (state_.between_calls()) {
      wire->close();
      break;
    }
    while (!left_ && for_agent_bytes_ > kEnoughForAgent) co_await taken_.async_wait(await_tuple);
  }
}

// --- the agent
// -----------------------------------------------------------------------------------------------------------

void Member::start_agent(const std::string& name) {
  HostPlan host;
  host.name = name;
  host.local = true;
  const std::shared_ptr<RemoteShell> shell = make_local_shell(io_.get_executor(), host, agent_, plan_.timeouts.start);
  shell->on_noise([name](std::string_view line) { log_info("{} said: {}", name, line); });
  spawn_or_die(io_.get_executor(), "agent", serve_agent(shell));
  spawn_or_die(io_.get_executor(), "orders for the agent", feed_agent(shell));
}

asio::awaitable<void> Member::serve_agent(std::shared_ptr<RemoteShell> shell) {
  const Result<void> opened = co_await shell->open();
  if (!opened) {
    apply(state_.on_agent_failed(opened.error(), now()));
    co_return;
  }
  apply(state_.on_agent_started());
  Bytes buffer(kMaxCallDataBytes);
  while (!left_) {
    const Result<std::size_t> got = co_await shell->read_some(buffer);
    if (left_ || !got || *got == 0) break;
    wire_->send(CallData{Bytes(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(*got))});
    co_await wire_->drained();
  }
  apply(state_.on_agent_ended(now()));
}

asio::awaitable<void> Member::feed_agent(std::shared_ptr<RemoteShell> shell) {
  while (!for_agent_.empty() || !agent_closing_) {
    if (for_agent_.empty()) {
      co_await fed_.async_wait(await_tuple);
      continue;
    }
    const Bytes piece = std::move(for_agent_.front());
    for_agent_.pop_front();
    const Result<void> written = co_await shell->write(piece);
    if (!written) log_debug("{}", to_string(written.error()));  // its reader tells of its end
    for_agent_bytes_ -= piece.size();
    taken_.cancel();
  }
  shell->close();
}

}  // namespace

Result<MemberResult> join_job(const LaunchPlan& plan, const MemberOptions& options) {
  Result<AgentBinary> agent = load_agent_binary(options.agent_path);
  if (!agent) return agent.error();
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, nullptr);  // a connection that goes away is an error of one write
  return Member(plan, options, std::make_shared<const AgentBinary>(std::move(*agent))).run();
}

}  // namespace llmlaunch::launcher
