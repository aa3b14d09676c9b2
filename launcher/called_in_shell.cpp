// The RemoteShell of a machine that calls in: open() waits for it, and the agent that it has started speaks through its
// connection. make_called_in_shell() is in call_desk.hpp.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "launcher/call_desk.hpp"

namespace llmlaunch::launcher {
namespace {

class CalledInShell final : public RemoteShell {
 public:
  CalledInShell(asio::any_io_executor executor, CalledInPlace place)
      : executor_(std::move(executor)), place_(std::move(place)), line_(place_.line) {}
  ~CalledInShell() override { close(); }

  asio::awaitable<Result<void>> open() override;
  asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> buffer) override;
  asio::awaitable<Result<void>> write(ByteView bytes) override;
  void close() override;
  std::string head_address() const override { return place_.head_address; }
  std::string host_address() const override { return line_->address; }
  OpenStep step() const override { return step_; }

 private:
  void enter(OpenStep step) {
    step_ = step;
    note_step(step);
  }
  std::string where() const { return "host " + place_.name; }
  Error canceled() const { return make_error(Errc::canceled, "the channel to the agent was closed", where()); }
  Error not_started() const;

  asio::any_io_executor executor_;
  CalledInPlace place_;
  std::shared_ptr<CallLine> line_;
  OpenStep step_ = OpenStep::waiting;
  bool closed_ = false;
};

Error CalledInShell::not_started() const {
  return make_error(
      Errc::timed_out,
      fmt::format("its agent was not ready within {:g} s", std::chrono::duration<double>(place_.start_limit).count()),
      where(), "a slow machine may need more: llmlaunch.timeouts.start");
}

asio::awaitable<Result<void>> CalledInShell::open() {
  enter(OpenStep::connecting);
  std::optional<Deadline> deadline;
  const auto wake = [line = line_] { line->changed.cancel(); };
  deadline.emplace(executor_, place_.call_limit, wake);
  while (!closed_ && !line_->wire && !deadline->expired()) co_await line_->changed.async_wait(await_tuple);
  if (closed_) co_return canceled();
  if (!line_->wire) {
    Error late = place_.not_called();
    late.where = where();
    co_return late;
  }
  enter(OpenStep::starting);
  deadline.emplace(executor_, place_.start_limit, wake);
  while (!closed_ && !line_->started && !line_->failed && !deadline->expired())
    co_await line_->changed.async_wait(await_tuple);
  if (closed_) co_return canceled();
  if (line_->failed) {
    Error error = *line_->failed;
    error.where = where();
    co_return error;
  }
  if (!line_->started) co_return not_started();
  enter(OpenStep::open);
  co_return ok;
}

asio::awaitable<Result<std::size_t>> CalledInShell::read_some(std::span<std::byte> buffer) {
  while (!closed_ && line_->inbox.size() == line_->read && !line_->ended && !line_->failed)
    co_await line_->changed.async_wait(await_tuple);
  if (closed_) co_return canceled();
  const std::size_t size = std::min(buffer.size(), line_->inbox.size() - line_->read);
  if (size == 0 && line_->failed && !line_->ended) {
    Error error = *line_->failed;
    error.where = where();
    co_return error;
  }
  std::copy_n(line_->inbox.begin() + static_cast<std::ptrdiff_t>(line_->read), size, buffer.begin());
  line_->read += size;
  if (line_->read == line_->inbox.size()) {
    line_->inbox.clear();
    line_->read = 0;
    line_->taken.cancel();
  }
  co_return size;
}

asio::awaitable<Result<void>> CalledInShell::write(ByteView bytes) {
  while (!bytes.empty()) {
    if (closed_) co_return canceled();
    if (line_->wire->closed()) co_return make_error(Errc::closed, "the connection of its llmlaunch ended", where());
    const ByteView piece = bytes.first(std::min(bytes.size(), kMaxCallDataBytes));
    CallData data;
    data.data.assign(piece.begin(), piece.end());
    line_->wire->send(std::move(data));
    bytes = bytes.subspan(piece.size());
    co_await line_->wire->drained();
  }
  co_return ok;
}

// The agent sees the end of its stdin; the machine's connection stays for the job's last word.
void CalledInShell::close() {
  if (std::exchange(closed_, true)) return;
  if (line_->wire) line_->wire->send(CallData{});
  line_->changed.cancel();
}

}  // namespace

std::shared_ptr<RemoteShell> make_called_in_shell(asio::any_io_executor executor, CalledInPlace place) {
  return std::make_shared<CalledInShell>(std::move(executor), std::move(place));
}

}  // namespace llmlaunch::launcher
