// From a host's name to its agent's first byte: a login (login.cpp), one exec, the agent's greeting. A failure names
// the host. What libssh wants is session.cpp's.
#include "launcher/ssh/ssh_shell.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <variant>

#include "launcher/agent_greeting.hpp"
#include "launcher/line_cutter.hpp"
#include "launcher/ssh/bootstrap.hpp"
#include "launcher/ssh/login.hpp"
#include "launcher/ssh/session.hpp"
#include "launcher/ssh/ssh_context.hpp"

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
      : executor_(std::move(executor)), host_(host), agent_(std::move(agent)), context_(std::move(context)) {}
  ~SshShell() override { close(); }

  asio::awaitable<Result<void>> open() override;
  asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> buffer) override;
  asio::awaitable<Result<void>> write(ByteView bytes) override;
  void close() override;
  std::string head_address() const override { return session_ ? session_->head_address() : ""; }
  std::string host_address() const override { return session_ ? session_->host_address() : ""; }
  OpenStep step() const override { return step_; }

 private:
  asio::awaitable<Result<void>> all_steps();
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
  std::shared_ptr<Login> login_;
  std::shared_ptr<Session> session_;
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
  auto access = context_->access(host_);
  if (!access) co_return access.error();
  const std::weak_ptr<SshShell> weak = weak_from_this();
  const auto hear = [weak](std::string_view line) {
    if (const auto self = weak.lock()) self->tell(line);
  };
  const auto note = [weak](OpenStep step) {
    if (const auto self = weak.lock()) self->enter(step);
  };
  login_ = std::make_shared<Login>(executor_, context_, hear, note);
  login_->live_on(context_->workers().next());
  auto session = co_await login_->run(*access);
  if (!session) co_return session.error();
  session_ = std::move(*session);
  if (closed_) session_->close();
  enter(OpenStep::starting);
  const auto limit = context_->timeouts().start;
  const Deadline deadline(executor_, limit, [session = session_] { session->close(); });
  const auto started = co_await start_agent();
  if (started || !deadline.expired()) co_return started;
  Error error = too_slow("start of the agent", session_->peer(), limit);
  error.hint =
      "the login shell's startup files (.bashrc, .cshrc) take too long or wait for input; what they started may still "
      "run there; the limit is llmlaunch.timeouts.start";
  co_return error;
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
  if (login_) login_->close();
  if (session_) session_->close();
}

}  // namespace

Result<std::shared_ptr<SshContext>> load_ssh_context(const LaunchPlan& plan, const Questions& questions,
                                                     std::size_t workers) {
  return SshContext::load(plan, questions, workers);
}

void end_workers(SshContext& context) {
  context.workers().stop();
}

std::chrono::milliseconds workers_behind(SshContext& context) {
  return context.workers().behind(std::chrono::steady_clock::now());
}

std::shared_ptr<RemoteShell> make_ssh_shell(asio::any_io_executor executor, const HostPlan& host,
                                            std::shared_ptr<const AgentBinary> agent,
                                            std::shared_ptr<SshContext> context) {
  return std::make_shared<SshShell>(std::move(executor), host, std::move(agent), std::move(context));
}

}  // namespace llmlaunch::launcher::ssh
