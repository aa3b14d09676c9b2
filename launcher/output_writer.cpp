// The thread that writes: rank files with the bytes as they came, then whole prefixed lines in batches to merged.log
// and to the terminal. What is written is reported, which is the hosts' credit; nothing is decided here.
#include "launcher/output_writer.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <csignal>

namespace llmlaunch::launcher {
namespace {

// Lines that go out in one write.
constexpr std::size_t kBatchBytes = 64u << 10;

}  // namespace

std::string log_text(LogLevel level, std::string_view line) {
  const char* word = level == LogLevel::error ? "error: " : level == LogLevel::warning ? "warning: " : "";
  return fmt::format("llmlaunch: {}{}\n", word, printable(line));
}

OutputWriter::OutputWriter(LogMux mux, LogFiles files, int stdout_fd, int stderr_fd, TakenFunction on_taken)
    : mux_(std::move(mux)),
      files_(std::move(files)),
      on_taken_(std::move(on_taken)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      out_{FdWriter(stdout_fd, wake_.value()), "stdout"},
      err_{FdWriter(stderr_fd, wake_.value()), "stderr"} {
  // Signals are the event loop's, and SIGPIPE is an error of write() like any other: the thread inherits a full mask.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

OutputWriter::~OutputWriter() {
  finish();
}

void OutputWriter::push(Item item) {
  {
    const std::scoped_lock lock(mutex_);
    queue_.push_back(std::move(item));
  }
  filled_.notify_one();
}

void OutputWriter::output(std::size_t host, Rank rank, agent::Stream stream, Bytes data) {
  push(Output{host, rank, stream, std::move(data)});
}

void OutputWriter::end(Rank rank, agent::Stream stream) {
  push(End{rank, stream});
}

void OutputWriter::say(LogLevel level, std::string_view line) {
  std::string text = log_text(level, line);
  {
    const std::scoped_lock lock(mutex_);
    if (level != LogLevel::error && said_bytes_ + text.size() > kMaxSaidBytes) {
      ++said_dropped_;
      return;
    }
    said_bytes_ += text.size();
    queue_.push_back(Line{std::move(text), std::exchange(said_dropped_, 0)});
  }
  filled_.notify_one();
}

void OutputWriter::abandon_terminal() {
  const std::uint64_t one = 1;
  // It can only fail when the counter is full, that is when the thread has been woken already.
  [[maybe_unused]] const ssize_t put = ::write(wake_.value(), &one, sizeof(one));
}

void OutputWriter::finish() {
  if (!thread_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    finishing_ = true;
  }
  filled_.notify_one();
  thread_.join();
}

void OutputWriter::run() {
  for (;;) {
    std::deque<Item> items;
    {
      std::unique_lock lock(mutex_);
      filled_.wait(lock, [this] { return finishing_ || !queue_.empty(); });
      if (queue_.empty()) break;
      items.swap(queue_);
    }
    while (!items.empty()) {
      take(items.front());
      items.pop_front();
    }
    flush();
  }
  std::string out, err;
  mux_.end_all(out, err);  // of hosts that were lost in the middle of a line
  for (const auto& [stream, lines] : {std::pair{agent::Stream::out, &out}, std::pair{agent::Stream::err, &err}}) {
    use_stream(stream);
    batch_ += *lines;
    flush();
  }
}

void OutputWriter::take(Item& item) {
  std::visit([this](auto& one) { take(one); }, item);
}

void OutputWriter::take(Output& output) {
  check(files_.write_rank(output.rank, output.stream, output.data));
  use_stream(output.stream);
  mux_.feed(output.rank, output.stream, output.data, batch_);
  if (taken_.empty() || taken_.back().first != output.host) taken_.emplace_back(output.host, 0);
  taken_.back().second += output.data.size();
  if (batch_.size() >= kBatchBytes) flush();
}

void OutputWriter::take(const End& end) {
  use_stream(end.stream);
  mux_.end(end.rank, end.stream, batch_);
}

void OutputWriter::take(const Line& line) {
  flush();
  if (line.dropped > 0) show(err_, log_text(LogLevel::warning, fmt::format("{} lines not shown", line.dropped)));
  show(err_, line.text);
  const std::scoped_lock lock(mutex_);
  said_bytes_ -= line.text.size();
}

// One batch holds lines of one stream, so that stdout and stderr on the same terminal keep their order.
void OutputWriter::use_stream(agent::Stream stream) {
  if (stream != batch_stream_) flush();
  batch_stream_ = stream;
}

void OutputWriter::flush() {
  if (!batch_.empty()) {
    check(files_.write_merged(batch_));
    show(batch_stream_ == agent::Stream::err ? err_ : out_, batch_);
    batch_.clear();
    if (batch_.capacity() > 4 * kBatchBytes) batch_ = std::string();
  }
  if (!taken_.empty()) on_taken_(std::exchange(taken_, {}));
}

void OutputWriter::show(Terminal& terminal, std::string_view lines) {
  if (terminal.gone) return;
  const Result<void> written = terminal.writer.write(lines);
  if (written) return;
  if (written.error().code == Errc::canceled) {
    if (!std::exchange(terminal.cut, true))
      warn(LogLevel::warning,
           fmt::format("{} takes no more lines; the rest is only in {}/merged.log", terminal.name, files_.directory()));
    return;
  }
  terminal.gone = true;
  warn(LogLevel::warning, fmt::format("{}: {}; the job goes on, all lines are in {}/merged.log", terminal.name,
                                      written.error().what, files_.directory()));
}

void OutputWriter::warn(LogLevel level, const std::string& text) {
  if (!err_.gone) show(err_, log_text(level, text));
}

void OutputWriter::check(const Result<void>& written) {
  if (written) return;
  warn(LogLevel::error,
       fmt::format("{}; the job goes on, its log files are INCOMPLETE from here", written.error().what));
}

}  // namespace llmlaunch::launcher
