// From a host's name to its agent's first byte: resolve, connect, key exchange, host key, sign in, one exec. Each step
// has its own deadline, and its failure names the host. What libssh wants is session.cpp's, policy on keys is
// known_hosts.cpp's and sign_in.cpp's.
#include "launcher/ssh/ssh_shell.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "launcher/agent_greeting.hpp"
#include "launcher/line_cutter.hpp"
#include "launcher/ssh/bootstrap.hpp"
#include "launcher/ssh/session.hpp"
#include "launcher/ssh/sign_in.hpp"
#include "launcher/ssh/ssh_context.hpp"
#include "launcher/ssh/tcp_connect.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// What a login shell prints is shown, so that a failure can be understood; a flood of it would bury the ranks' lines.
constexpr std::size_t kMaxNoiseLines = 20;

std::string own_machine() {
  utsname names{};
  ::uname(&names);  // fails only for a bad pointer
  return names.machine;
}

class SshShell final : public RemoteShell, public std::enable_shared_from_this<SshShell> {
 public:
  SshShell(asio::any_io_executor executor, const HostPlan& host, std::shared_ptr<const AgentBinary> agent,
           std::shared_ptr<SshContext> context)
      : executor_(std::move(executor)),
        host_(host),
        agent_(std::move(agent)),
        context_(std::move(context)),
        connector_(std::make_shared<TcpConnector>(executor_)) {}
  ~SshShell() override { close(); }

  asio::awaitable<Result<void>> open() override;
  asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> buffer) override;
  asio::awaitable<Result<void>> write(ByteView bytes) override;
  void close() override;
  std::string head_address() const override { return session_ ? session_->local_address() : ""; }
  std::string host_address() const override { return session_ ? session_->remote_address() : ""; }
  OpenStep step() const override { return step_; }

 private:
  asio::awaitable<Result<void>> all_steps();
  asio::awaitable<Result<void>> connect();
  asio::awaitable<Result<void>> within(std::chrono::milliseconds limit, std::string doing,
                                       asio::awaitable<Result<void>> step);
  asio::awaitable<Result<void>> check_host_key();
  asio::awaitable<Result<void>> accept_host_key(const HostKeyQuestion& question, KnownHosts& known);
  asio::awaitable<Result<void>> sign_in();
  asio::awaitable<Result<void>> start_agent();
  asio::awaitable<Result<bool>> greet(AgentGreeting& greeting);
  void flush_errors() {
    errors_.flush([this](std::string_view line) { tell(line); });
  }
  void tell(std::string_view line) {
    if (!noise_ || line.empty()) return;
    if (++told_ <= kMaxNoiseLines) noise_(line);
    if (told_ == kMaxNoiseLines + 1) noise_("(and more, which is not shown)");
    if (told_ > kMaxNoiseLines) last_hidden_ = line;
  }
  void enter(OpenStep step) {
    step_ = step;
    note_step(step);
  }
  std::string where() const { return "host " + host_.name; }
  Error at_host(Error error) const {
    if (error.where.empty()) error.where = where();
    return error;
  }

  asio::any_io_executor executor_;
  const HostPlan& host_;
  std::shared_ptr<const AgentBinary> agent_;
  std::shared_ptr<SshContext> context_;
  std::shared_ptr<TcpConnector> connector_;
  HostAccess access_;
  std::shared_ptr<Session> session_;
  std::optional<SignInAttempt> signing_in_;
  LineCutter errors_;
  std::string early_;        // what came behind the marker: the start of the frames
  std::size_t told_ = 0;     // lines
  std::string last_hidden_;  // the last one that was not shown: with a failure it is the one that matters
  OpenStep step_ = OpenStep::waiting;
  bool closed_ = false;
};

asio::awaitable<Result<void>> SshShell::open() {
  const auto self = shared_from_this();
  auto opened = co_await all_steps();
  if (opened) {
    enter(OpenStep::open);
    co_return ok;
  }
  const bool asked = closed_;
  flush_errors();
  if (noise_ && !asked && !last_hidden_.empty()) noise_(last_hidden_);
  close();
  if (asked) co_return make_error(Errc::canceled, "the connection was closed", where());
  co_return at_host(opened.error());
}

asio::awaitable<Result<void>> SshShell::all_steps() {
  const auto connecting = co_await connect();
  if (!connecting) co_return connecting;
  enter(OpenStep::key_exchange);
  const auto exchanged = co_await within(access_.tcp.timeout, "key exchange", session_->exchange_keys());
  if (!exchanged) co_return exchanged;
  enter(OpenStep::host_key);
  const auto trusted = co_await check_host_key();
  if (!trusted) co_return trusted;
  enter(OpenStep::authenticating);
  const auto signed_in = co_await sign_in();
  if (!signed_in) co_return signed_in;
  enter(OpenStep::starting);
  auto started = co_await within(context_->timeouts().start, "start of the agent", start_agent());
  if (!started && started.error().code == Errc::timed_out)
    started.error().hint =
        "the login shell's startup files (.bashrc, .cshrc) take too long or wait for input; what they "
        "started may still run there; the limit is llmlaunch.timeouts.start";
  co_return started;
}

asio::awaitable<Result<void>> SshShell::connect() {
  enter(OpenStep::resolving);
  auto access = context_->access(host_);
  if (!access) co_return access.error();
  access_ = std::move(*access);
  auto endpoints = co_await connector_->resolve(access_.tcp);
  if (!endpoints) co_return endpoints.error();
  enter(OpenStep::connecting);
  auto socket = co_await connector_->connect(std::move(*endpoints), access_.tcp);
  if (!socket) co_return socket.error();
  const auto known = context_->known_hosts(access_.key_files);
  if (!known) co_return known.error();
  std::vector<std::string> types;
  for (const auto& name : access_.key_names)
    for (auto& type : (*known)->types_of(name)) types.push_back(std::move(type));
  auto session = Session::make(std::move(*socket), {access_.user, access_.tcp.host, host_key_algorithms(types)});
  if (!session) co_return session.error();
  session_ = std::move(*session);
  if (closed_) session_->close();
  co_return ok;
}

// A step that is not done in time is ended by closing the session; its error then says which step it was.
asio::awaitable<Result<void>> SshShell::within(std::chrono::milliseconds limit, std::string doing,
                                               asio::awaitable<Result<void>> step) {
  const Deadline deadline(executor_, limit, [session = session_] { session->close(); });
  auto done = co_await std::move(step);
  if (!done && deadline.expired()) co_return too_slow(doing, session_->remote_address(), limit);
  co_return done;
}

// --- host key ------------------------------------------------------------------------------------------------------

asio::awaitable<Result<void>> SshShell::check_host_key() {
  auto key = session_->server_key();
  if (!key) co_return key.error();
  const auto known = context_->known_hosts(access_.key_files);
  if (!known) co_return known.error();
  const HostKeyAnswer answer = (*known)->check_any(access_.key_names, *key);
  if (answer.status == HostKeyStatus::ok) co_return ok;
  const HostKeyQuestion question{host_.name,       access_.key_names.front(), access_.tcp.host,
                                 access_.tcp.port, access_.new_keys_file,     std::move(*key)};
  if (answer.status != HostKeyStatus::unknown || access_.policy != HostKeyPolicy::accept_new)
    co_return host_key_error(question, answer);
  co_return co_await accept_host_key(question, **known);
}

asio::awaitable<Result<void>> SshShell::accept_host_key(const HostKeyQuestion& question, KnownHosts& known) {
  std::string to;
  if (!question.file.empty()) {
    const auto added =
        co_await asio::co_spawn(context_->threads(), call_there([&question, hashed = access_.hash_names] {
                                  return append_host_key(question.file, question.name, question.key, hashed);
                                }),
                                asio::use_awaitable);
    if (!added) co_return added.error();
    to = " in " + question.file;
  }
  known.add(question.name, question.key, question.file);
  log_info("{}: new host key {} {} accepted{}", host_.name, question.key.type, fingerprint(question.key), to);
  co_return ok;
}

// --- signing in, and the agent -------------------------------------------------------------------------------------

asio::awaitable<Result<void>> SshShell::sign_in() {
  signing_in_.emplace(executor_, session_, context_, access_);
  const auto signed_in = co_await signing_in_->run();
  signing_in_.reset();
  if (!signed_in && !closed_) {  // a banner often says why
    LineCutter lines;
    lines.feed(session_->banner() + "\n", [this](std::string_view line) { tell(line); });
  }
  co_return signed_in;
}

asio::awaitable<Result<void>> SshShell::start_agent() {
  session_->on_stderr([weak = weak_from_this()](std::string_view text) {
    if (const auto self = weak.lock()) self->errors_.feed(text, [&](std::string_view line) { self->tell(line); });
  });
  const std::string command = bootstrap_command(agent_->hash, agent_->bytes.size(), own_machine());
  const auto started = co_await session_->exec(command);
  if (!started) co_return started;
  AgentGreeting greeting;
  std::array<std::byte, 4096> piece;
  for (;;) {
    const auto got = co_await session_->read_some(piece);
    if (!got) co_return got.error();
    if (*got == 0) {
      tell(greeting.take_rest());
      flush_errors();
      co_return make_error(Errc::closed, "the command that starts the agent ended before the agent ran", {},
                           "a startup file of the login shell (.bashrc) that ends it, a login shell that is none, or a "
                           "ForceCommand does that; what they printed is shown above");
    }
    greeting.feed(as_text(ByteView(piece).first(*got)));
    const auto there = co_await greet(greeting);
    if (!there) co_return there.error();
    if (*there) break;
  }
  session_->settle();
  early_ = greeting.take_rest();
  co_return ok;
}

// What the host said so far. True: the agent runs.
asio::awaitable<Result<bool>> SshShell::greet(AgentGreeting& greeting) {
  for (;;) {
    auto event = greeting.next();
    if (!event) co_return event.error();
    if (!*event) co_return false;
    if (std::holds_alternative<AgentMarker>(**event)) co_return true;
    if (const auto* line = std::get_if<NoiseLine>(&**event)) tell(line->text);
    if (const auto* failed = std::get_if<StartFailed>(&**event))
      co_return make_error(Errc::refused, "the agent cannot be started: " + failed->reason);
    if (const auto* need = std::get_if<NeedAgent>(&**event)) {
      if (need->hash != agent_->hash) co_return make_error(Errc::protocol, "the host asks for another agent than ours");
      enter(OpenStep::pushing);
      const auto pushed = co_await session_->write(agent_->bytes);
      if (!pushed) tell("(while the agent was sent) " + pushed.error().what);  // the host's own words follow
    }
  }
}

// --- the open channel ----------------------------------------------------------------------------------------------

asio::awaitable<Result<std::size_t>> SshShell::read_some(std::span<std::byte> buffer) {
  const auto self = shared_from_this();
  if (!early_.empty()) {
    const std::size_t size = std::min(buffer.size(), early_.size());
    std::copy_n(as_bytes(early_).begin(), size, buffer.begin());
    early_.erase(0, size);
    co_return size;
  }
  auto got = co_await session_->read_some(buffer);
  if (!got) co_return at_host(got.error());
  co_return got;
}

asio::awaitable<Result<void>> SshShell::write(ByteView bytes) {
  const auto self = shared_from_this();
  const auto written = co_await session_->write(bytes);
  if (!written) co_return at_host(written.error());
  co_return ok;
}

void SshShell::close() {
  if (std::exchange(closed_, true)) return;
  flush_errors();
  connector_->cancel();
  if (signing_in_) signing_in_->close();
  if (session_) session_->close();
}

}  // namespace

Result<std::shared_ptr<SshContext>> load_ssh_context(const LaunchPlan& plan) {
  return SshContext::load(plan);
}

std::shared_ptr<RemoteShell> make_ssh_shell(asio::any_io_executor executor, const HostPlan& host,
                                            std::shared_ptr<const AgentBinary> agent,
                                            std::shared_ptr<SshContext> context) {
  return std::make_shared<SshShell>(std::move(executor), host, std::move(agent), std::move(context));
}

}  // namespace llmlaunch::launcher::ssh
