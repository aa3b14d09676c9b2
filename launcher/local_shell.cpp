// The RemoteShell of a host that is this machine. The agent's bytes, its marker line and its end are the same as
// through ssh, so that one code path serves both. make_local_shell() is in remote.hpp.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <utility>

#include "launcher/agent_greeting.hpp"
#include "launcher/line_cutter.hpp"
#include "launcher/local_child.hpp"
#include "launcher/remote.hpp"

namespace llmlaunch::launcher {
namespace {

using LocalSocket = asio::local::stream_protocol::socket;

// The agent's process, shared with who waits for its end.
struct Process {
  pid_t pid = -1;  // -1: none yet, or its status was taken and the number may be another's
  std::function<void(std::string_view)> noise;
};

// Reads the agent's stderr to its end and takes its status: the pipe ends when the agent does, and no earlier, as the
// ranks do not get it. So no SIGCHLD is needed, and no zombie stays. Owns all that it uses.
asio::awaitable<void> follow_child(asio::posix::stream_descriptor errors, std::shared_ptr<Process> process) {
  LineCutter lines;
  const auto show = [&process](std::string_view line) {
    if (process->noise) process->noise(line);
  };
  std::string piece(4096, '\0');
  while (true) {
    const auto [error, size] = co_await errors.async_read_some(asio::buffer(piece), await_tuple);
    if (error) break;
    lines.feed(std::string_view(piece).substr(0, size), show);
  }
  lines.flush(show);
  while (::waitpid(process->pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  process->pid = -1;
}

class LocalShell final : public RemoteShell {
 public:
  LocalShell(asio::any_io_executor executor, const HostPlan& host, std::shared_ptr<const AgentBinary> agent,
             std::chrono::milliseconds start_limit)
      : executor_(std::move(executor)),
        host_(host.name),
        agent_(std::move(agent)),
        start_limit_(start_limit),
        channel_(executor_) {}
  ~LocalShell() override {
    close();
    process_->noise = nullptr;  // the agent may outlive us, and whom the sink belongs to
  }

  asio::awaitable<Result<void>> open() override;
  asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> buffer) override;
  asio::awaitable<Result<void>> write(ByteView bytes) override;
  void close() override;
  std::string head_address() const override { return "127.0.0.1"; }
  std::string host_address() const override { return "127.0.0.1"; }
  OpenStep step() const override { return step_; }

 private:
  void enter(OpenStep step) {
    step_ = step;
    note_step(step);
  }
  Result<void> start();
  Result<bool> take_greeting(std::string_view bytes);
  asio::awaitable<Result<void>> await_marker();
  void kill();
  Error ended() const;
  Error too_slow() const;
  std::string where() const { return "host " + host_; }
  Error canceled() const { return make_error(Errc::canceled, "the channel to the agent was closed", where()); }

  asio::any_io_executor executor_;
  std::string host_;
  std::shared_ptr<const AgentBinary> agent_;
  std::chrono::milliseconds start_limit_;
  LocalSocket channel_;
  AgentGreeting greeting_;
  std::string early_;  // the start of the frames, read with the marker
  std::shared_ptr<Process> process_ = std::make_shared<Process>();
  OpenStep step_ = OpenStep::waiting;
  bool closed_ = false;
  bool nobody_reads_ = false;  // a write has failed
};

Result<void> LocalShell::start() {
  const Result<LocalChild> child = fork_local_agent(agent_->path);
  if (!child) {
    Error error = child.error();
    error.where = where();
    return error;
  }
  *process_ = {child->pid, noise_};
  boost::system::error_code code;
  channel_.assign(asio::local::stream_protocol(), child->channel, code);
  if (code) return from_asio(code, "socket of the agent", where());
  asio::posix::stream_descriptor errors(executor_, child->errors);
  spawn_or_die(executor_, "stderr of the agent on " + host_, follow_child(std::move(errors), process_));
  return ok;
}

// Shows what comes before the marker. True: the marker was there, and `early_` is the start of the frames.
Result<bool> LocalShell::take_greeting(std::string_view bytes) {
  greeting_.feed(bytes);
  while (true) {
    Result<std::optional<GreetingEvent>> event = greeting_.next();
    if (!event) {
      Error error = event.error();
      error.what = "'" + agent_->path + "': " + error.what;
      error.where = where();
      return error;
    }
    if (!*event) return false;
    if (std::holds_alternative<AgentMarker>(**event)) break;
    // No bootstrap runs here: nothing asks for a push.
    if (const auto* line = std::get_if<NoiseLine>(&**event); line && noise_) noise_(line->text);
  }
  early_ = greeting_.take_rest();
  return true;
}

Error LocalShell::ended() const {
  return make_error(Errc::closed, "the agent '" + agent_->path + "' ended before it was ready", where(),
                    "run it with --version to see whether it works here");
}

Error LocalShell::too_slow() const {
  return make_error(
      Errc::timed_out,
      fmt::format("the agent '{}' was not ready within {} s", agent_->path,
                  std::chrono::duration<double>(start_limit_).count()),
      where(),
      "run it with --version to see whether it works here; a slow machine may need more: llmlaunch.timeouts.start");
}

// With what it may have started: become_agent() made it the leader of a group.
void LocalShell::kill() {
  if (process_->pid > 0) ::kill(-process_->pid, SIGKILL);
}

asio::awaitable<Result<void>> LocalShell::open() {
  enter(OpenStep::starting);
  Result<void> started = closed_ ? Result<void>(canceled()) : start();
  if (!started) co_return started;
  const Deadline deadline(executor_, start_limit_, [this] {
    kill();
    close();
  });
  const Result<void> opened = co_await await_marker();
  if (deadline.expired()) co_return too_slow();
  if (opened) enter(OpenStep::open);
  co_return opened;
}

asio::awaitable<Result<void>> LocalShell::await_marker() {
  std::string piece(4096, '\0');
  while (true) {
    const auto [error, size] = co_await channel_.async_read_some(asio::buffer(piece), await_tuple);
    if (closed_) co_return canceled();
    if (error == asio::error::eof || error == asio::error::connection_reset) co_return ended();
    if (error) co_return from_asio(error, "read from the agent", where());
    const Result<bool> found = take_greeting(std::string_view(piece).substr(0, size));
    if (!found) {
      close();
      co_return found.error();
    }
    if (*found) co_return ok;
  }
}

asio::awaitable<Result<std::size_t>> LocalShell::read_some(std::span<std::byte> buffer) {
  if (closed_) co_return canceled();
  if (!early_.empty()) {
    const std::size_t size = std::min(buffer.size(), early_.size());
    std::copy_n(as_bytes(early_).begin(), size, buffer.begin());
    early_.erase(0, size);
    co_return size;
  }
  const auto [error, size] = co_await channel_.async_read_some(asio::buffer(buffer.data(), buffer.size()), await_tuple);
  if (closed_) co_return canceled();
  // An agent that was killed with our bytes unread resets the channel: to the reader that is an end like any other.
  if (error == asio::error::eof || error == asio::error::connection_reset) co_return std::size_t{0};
  if (error) co_return from_asio(error, "read from the agent", where());
  co_return size;
}

asio::awaitable<Result<void>> LocalShell::write(ByteView bytes) {
  if (closed_) co_return canceled();
  if (nobody_reads_) co_return make_error(Errc::closed, "the agent has ended", where());
  const auto [error, size] =
      co_await asio::async_write(channel_, asio::buffer(bytes.data(), bytes.size()), await_tuple);
  if (closed_) co_return canceled();
  // Asio takes a failed write for a full buffer: the next one would wait for an event that never comes.
  nobody_reads_ = error.failed();
  if (error == asio::error::broken_pipe || error == asio::error::connection_reset)
    co_return make_error(Errc::closed, "the agent has ended", where());
  if (error) co_return from_asio(error, "write to the agent", where());
  co_return ok;
}

void LocalShell::close() {
  if (std::exchange(closed_, true)) return;
  boost::system::error_code ignored;  // of a socket that is given up
  channel_.close(ignored);
}

}  // namespace

std::shared_ptr<RemoteShell> make_local_shell(asio::any_io_executor executor, const HostPlan& host,
                                              std::shared_ptr<const AgentBinary> agent,
                                              std::chrono::milliseconds start_limit) {
  return std::make_shared<LocalShell>(std::move(executor), host, std::move(agent), start_limit);
}

}  // namespace llmlaunch::launcher
