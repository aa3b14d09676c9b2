// join_job: connects until machine 0 answers, is admitted, and is from then on a pipe between that connection and an
// agent of this machine. When either end goes, so does the other: the agent ends its ranks when its channel ends.
#include "launcher/member.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "launcher/call_admission.hpp"
#include "launcher/call_wire.hpp"
#include "launcher/host_messages.hpp"
#include "launcher/job_state.hpp"
#include "launcher/launch.hpp"
#include "launcher/remote.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/tcp_tuning.hpp"

namespace llmlaunch::launcher {
namespace {

using asio::ip::tcp;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Machine 0 may be started later; a local connection that is refused costs nothing.
constexpr milliseconds kFirstCallDelay{100};
constexpr milliseconds kMaxCallDelay{2'000};
// When and how often it is said that machine 0 is waited for.
constexpr milliseconds kWaitSaidAfter{5'000};
constexpr milliseconds kWaitSaidEvery{30'000};
// After an accepted connection machine 0 answers at once, or is another program.
constexpr milliseconds kAnswerLimit{20'000};
class Member {
 public:
  Member(const LaunchPlan& plan, const MemberOptions& options, std::shared_ptr<const AgentBinary> agent)
      : plan_(plan),
        rank_(plan.per_machine->machine_rank),
        where_(endpoint(plan.rendezvous_address, plan.rendezvous_port)),
        agent_(std::move(agent)),
        tls_(std::make_shared<CallTls>(CallTls::Side::member, options.token)),
        signals_(io_),
        resolver_(io_) {}

  MemberResult run();

 private:
  asio::awaitable<void> take_signals();
  asio::awaitable<void> serve();
  asio::awaitable<Result<void>> call();
  asio::awaitable<Result<void>> try_once();
  asio::awaitable<Result<tcp::socket>> connect();
  asio::awaitable<Result<void>> introduce();
  asio::awaitable<void> start_agent();
  asio::awaitable<void> carry_from_agent();
  asio::awaitable<void> carry_to_agent();
  void take_end(const CallEnd& how);
  void finish(int status, std::optional<Error> failure);
  void on_signal(int number);
  Error unanswered(const Error& last) const;

  const LaunchPlan& plan_;
  const std::uint32_t rank_;
  const std::string where_;  // machine 0's address
  std::shared_ptr<const AgentBinary> agent_;
  asio::io_context io_{1};
  std::shared_ptr<CallTls> tls_;
  asio::signal_set signals_;
  tcp::resolver resolver_;
  std::shared_ptr<CallWire> wire_;
  std::shared_ptr<RemoteShell> shell_;
  std::optional<Deadline> last_word_;
  std::string name_;
  bool joined_ = false;
  bool stopping_ = false;
  bool hung_up_ = false;  // machine 0 needs the agent no more
  bool done_ = false;
  MemberResult result_;
};

MemberResult Member::run() {
  boost::system::error_code ignored;  // of a signal that this system does not have
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP}) {
    struct sigaction before {};
    const bool unwanted =
        number == SIGHUP && ::sigaction(number, nullptr, &before) == 0 && before.sa_handler == SIG_IGN;  // nohup
    if (!unwanted) signals_.add(number, ignored);
  }
  spawn_or_die(io_.get_executor(), "signals", take_signals());
  spawn_or_die(io_.get_executor(), "member", serve());
  while (!done_) io_.run_one();
  signals_.cancel();
  // For the agent, whose channel has ended, to end its ranks and itself.
  io_.run_for(plan_.timeouts.grace + kStopMargin);
  return std::move(result_);
}

void Member::finish(int status, std::optional<Error> failure) {
  if (std::exchange(done_, true)) return;
  result_ = {status, std::move(failure)};
  last_word_.reset();
  resolver_.cancel();
  if (shell_) shell_->close();
  if (wire_) wire_->close();
}

// --- signals -------------------------------------------------------------------------------------------------------

asio::awaitable<void> Member::take_signals() {
  while (!done_) {
    const auto [error, number] = co_await signals_.async_wait(await_tuple);
    if (error) co_return;
    on_signal(number);
  }
}

void Member::on_signal(int number) {
  if (number == SIGUSR1 || number == SIGUSR2 || number == SIGTSTP)
    return log_warning("{} has no effect here: machine 0 takes it for the whole job", signal_name(number));
  if (joined_ && !std::exchange(stopping_, true)) {
    log_warning("caught {}: machine 0 stops the job (once more: leave it at once)", signal_name(number));
    wire_->send(CallSignal{static_cast<std::uint32_t>(number)});
    return;
  }
  const char* when = joined_ ? "" : " before machine 0 had answered";
  finish(128 + number, make_error(Errc::interrupted, fmt::format("interrupted by {}{}", signal_name(number), when)));
}

// --- joining -------------------------------------------------------------------------------------------------------

Error Member::unanswered(const Error& last) const {
  return make_error(
      Errc::timed_out,
      fmt::format("machine 0 did not answer at {} within {:g} s: {}", where_,
                  std::chrono::duration<double>(plan_.timeouts.rendezvous).count(), last.what),
      {},
      fmt::format("start there: llmlaunch run --machine_rank 0 …, and let other machines reach TCP port {}; "
                  "llmlaunch.timeouts.rendezvous is how long it is waited for",
                  plan_.rendezvous_port));
}

asio::awaitable<Result<tcp::socket>> Member::connect() {
  tcp::socket socket(io_);
  const Deadline deadline(io_.get_executor(), plan_.timeouts.connect, [this, &socket] {
    resolver_.cancel();
    boost::system::error_code ignored;  // it is given up
    socket.close(ignored);
  });
  const auto late = [this] {
    return make_error(Errc::timed_out, fmt::format("no answer within {:g} s",
                                                   std::chrono::duration<double>(plan_.timeouts.connect).count()));
  };
  const std::string port = std::to_string(plan_.rendezvous_port);
  const auto [unknown, found] = co_await resolver_.async_resolve(plan_.rendezvous_address, port, await_tuple);
  if (deadline.expired()) co_return late();
  if (unknown) co_return make_error(Errc::unreachable, unknown.message());
  boost::system::error_code last = asio::error::host_not_found;
  for (const auto& entry : found) {
    boost::system::error_code ignored;  // of the attempt before
    socket.close(ignored);
    const tcp::endpoint address = entry.endpoint();
    const auto [failed] = co_await socket.async_connect(address, await_tuple);
    last = failed;
    if (deadline.expired()) co_return late();
    if (!failed) break;
  }
  if (last) co_return make_error(Errc::unreachable, last.message());
  co_return std::move(socket);
}

// One connection, until machine 0 has admitted us or said why not.
asio::awaitable<Result<void>> Member::try_once() {
  Result<tcp::socket> socket = co_await connect();
  if (!socket) co_return socket.error();
  tune_connection(socket->native_handle());
  wire_ = std::make_shared<CallWire>(std::move(*socket), tls_);
  const Result<void> shaken = co_await wire_->handshake({}, kAnswerLimit);
  if (!shaken) co_return shaken;
  const Result<void> known = co_await introduce();
  co_return known;
}

asio::awaitable<Result<void>> Member::introduce() {
  const std::shared_ptr<CallWire> wire = wire_;
  wire->trust();
  wire->send(call_hello(plan_, rank_));
  const Deadline deadline(io_.get_executor(), kAnswerLimit, [wire] { wire->close(); });
  const Result<CallMessage> answer = co_await wire->next();
  if (!answer) co_return answer.error();
  if (const auto* refused = std::get_if<CallRefused>(&*answer))
    co_return make_error(static_cast<Errc>(refused->code), refused->what, "machine 0 at " + where_, refused->hint);
  const auto* welcome = std::get_if<CallWelcome>(&*answer);
  if (welcome == nullptr) co_return make_error(Errc::protocol, "machine 0 answered with what is no answer");
  name_ = welcome->name;
  joined_ = true;
  log_info("machine {} of {} has joined the job at {}: rank{} {}{}; their output and the logs are on machine 0", rank_,
           plan_.hosts.size(), where_, welcome->first_rank == welcome->last_rank ? "" : "s", welcome->first_rank,
           welcome->first_rank == welcome->last_rank ? "" : fmt::format("-{}", welcome->last_rank));
  co_return ok;
}

// Again and again, as nobody says which machine is started first.
asio::awaitable<Result<void>> Member::call() {
  const auto give_up = steady_clock::now() + plan_.timeouts.rendezvous;
  auto say_at = steady_clock::now() + kWaitSaidAfter;
  milliseconds delay = kFirstCallDelay;
  while (true) {
    const Result<void> tried = co_await try_once();
    if (tried || done_) co_return tried;
    const Error& error = tried.error();
    if (error.code == Errc::unauthenticated) {
      co_return make_error(Errc::unauthenticated,
                           fmt::format("machine 0 at {} has another token than this machine", where_), {},
                           "all machines of a job need the same token: llmlaunch.token_file, --token-file or "
                           "LLMLAUNCH_JOIN_TOKEN");
    }
    const bool final_word = !error.where.empty();  // machine 0's own
    if (final_word) co_return error;
    const auto now = steady_clock::now();
    if (now + delay >= give_up) co_return unanswered(error);
    if (now >= say_at) {
      log_info("machine {} waits for machine 0 at {}: {}", rank_, where_, error.what);
      say_at = now + kWaitSaidEvery;
    }
    asio::steady_timer pause(io_, delay);
    co_await pause.async_wait(await_tuple);
    delay = std::min(2 * delay, kMaxCallDelay);
  }
}

// --- the job -------------------------------------------------------------------------------------------------------

asio::awaitable<void> Member::serve() {
  const Result<void> called = co_await call();
  if (done_) co_return;
  if (!called) {
    const bool settings = called.error().code == Errc::invalid_config;
    co_return finish(settings ? kStatusConfig : kStatusUnavailable, called.error());
  }
  spawn_or_die(io_.get_executor(), "agent", start_agent());
  co_await carry_to_agent();
}

asio::awaitable<void> Member::start_agent() {
  HostPlan host;
  host.name = name_;
  host.local = true;
  const std::shared_ptr<RemoteShell> shell = make_local_shell(io_.get_executor(), host, agent_, plan_.timeouts.start);
  shell_ = shell;
  shell->on_noise([this](std::string_view line) { log_info("{} said: {}", name_, line); });
  const Result<void> opened = co_await shell->open();
  if (done_) co_return;
  if (!opened) {
    const Error& error = opened.error();
    wire_->send(CallFailed{static_cast<std::uint32_t>(error.code.value()), error.what, error.hint});
    co_return;
  }
  wire_->send(CallStarted{});
  co_await carry_from_agent();
}

asio::awaitable<void> Member::carry_from_agent() {
  Bytes buffer(kMaxCallDataBytes);
  while (!done_) {
    const Result<std::size_t> got = co_await shell_->read_some(buffer);
    if (done_) co_return;
    const std::size_t size = got ? *got : 0;
    wire_->send(CallData{Bytes(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(size))});
    if (size == 0) break;
    co_await wire_->drained();
  }
  if (hung_up_) co_return;  // the job may go on elsewhere for long
  // It ended unasked: machine 0 ends the job for that, or was silent and is gone.
  last_word_.emplace(io_.get_executor(), plan_.timeouts.grace + 2 * kStopMargin, [this] {
    finish(kStatusUnavailable,
           make_error(Errc::closed,
                      fmt::format("the agent of this machine ended, and machine 0 at {} says nothing", where_), {},
                      "the way to machine 0 is cut, or it is down"));
  });
}

asio::awaitable<void> Member::carry_to_agent() {
  while (!done_) {
    const Result<CallMessage> message = co_await wire_->next();
    if (done_) co_return;
    if (!message) {
      co_return finish(
          kStatusUnavailable,
          make_error(Errc::closed, fmt::format("machine 0 at {} was lost: {}", where_, message.error().what), {},
                     "its llmlaunch was killed, or the way to it is cut; the ranks of this machine end"));
    }
    if (const auto* end = std::get_if<CallEnd>(&*message)) co_return take_end(*end);
    const auto* data = std::get_if<CallData>(&*message);
    if (data == nullptr || !shell_) continue;
    if (data->data.empty()) {
      hung_up_ = true;
      last_word_.reset();
      shell_->close();
      continue;
    }
    const Result<void> written = co_await shell_->write(data->data);
    if (!written) log_debug("{}", to_string(written.error()));  // its reader tells of its end
  }
}

void Member::take_end(const CallEnd& how) {
  if (how.status == 0) {
    log_info("the job ended well");
    return finish(0, std::nullopt);
  }
  finish(static_cast<int>(how.status),
         make_error(Errc::rank_failed, "the job failed: " + how.what, {}, "machine 0 has the output and the logs"));
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
