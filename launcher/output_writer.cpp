// The thread that writes: rank files with the bytes as they came, then whole lines in batches to merged.log (`LogMux`)
// and to the terminal (`Console`). What is written is reported, which is the hosts' credit; nothing is decided here.
#include "launcher/output_writer.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#include "launcher/terminal_columns.hpp"

namespace llmlaunch::launcher {
namespace {

// Lines that go out in one write.
constexpr std::size_t kBatchBytes = 64u << 10;
// `| tee log` has printed by then what it was given.
constexpr std::chrono::milliseconds kOthersPrint{100};

// A pipe's reader may be `tee`, with the same terminal for what it prints; a file has no screen.
WayToScreen way_of(int fd) {
  struct stat file {};
  if (::isatty(fd) == 1 || ::fstat(fd, &file) != 0) return WayToScreen::direct;
  return S_ISFIFO(file.st_mode) || S_ISSOCK(file.st_mode) ? WayToScreen::through_others : WayToScreen::none;
}

}  // namespace

std::string log_text(LogLevel level, std::string_view line) {
  const char* word = level == LogLevel::error ? "error: " : level == LogLevel::warning ? "warning: " : "";
  return fmt::format("llmlaunch: {}{}\n", word, printable(line));
}

OutputWriter::OutputWriter(LogMux mux, Console console, LogFiles files, int stdout_fd, int stderr_fd,
                           TakenFunction on_taken, NoReaderFunction on_no_reader, GatheredOutput* gather,
                           SaidFunction on_said)
    : mux_(std::move(mux)),
      console_(std::move(console)),
      files_(std::move(files)),
      on_taken_(std::move(on_taken)),
      on_no_reader_(std::move(on_no_reader)),
      gather_(gather),
      on_said_(std::move(on_said)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      out_{FdWriter(stdout_fd, wake_.value()), "stdout"},
      err_{FdWriter(stderr_fd, wake_.value()), "stderr"},
      stderr_fd_(stderr_fd) {
  out_.way = way_of(stdout_fd);
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
    queue_.push_back(Line{level, std::move(text), std::exchange(said_dropped_, 0)});
  }
  filled_.notify_one();
}

void OutputWriter::status(std::string line) {
  {
    const std::scoped_lock lock(mutex_);
    status_ = std::move(line);
  }
  filled_.notify_one();
}

void OutputWriter::abandon_terminal() {
  const std::uint64_t one = 1;
  // It can only fail when the counter is full, that is when the thread has been woken already.
  [[maybe_unused]] const ssize_t put = ::write(wake_.value(), &one, sizeof(one));
}

void OutputWriter::finish(std::optional<std::chrono::milliseconds> patience) {
  if (!thread_.joinable()) return;
  {
    std::unique_lock lock(mutex_);
    finishing_ = true;
    filled_.notify_one();
    if (patience && !end_.wait_for(lock, *patience, [this] { return ended_; })) abandon_terminal();
  }
  thread_.join();
}

void OutputWriter::run() {
  std::deque<Item> items;
  while (wait_for_work(items)) {
    while (!items.empty()) {
      take(items.front());
      items.pop_front();
    }
    set_time();
    const auto now = std::chrono::steady_clock::now();
    console_.tick(now, pieces_);
    flush();
    draw_live(now);
  }
  end_all();
}

// False: everything is done. With no items, something that waited has its time, or there is a new status.
bool OutputWriter::wait_for_work(std::deque<Item>& items) {
  std::unique_lock lock(mutex_);
  const auto there = [this] { return finishing_ || !queue_.empty() || status_.has_value(); };
  auto due = console_.due();
  if (!live_.is_drawn()) due = std::min(due.value_or(draw_from_), draw_from_);
  if (due)
    filled_.wait_until(lock, *due, there);
  else
    filled_.wait(lock, there);
  if (status_) roll_call_ = *std::exchange(status_, std::nullopt);
  items.swap(queue_);
  return !finishing_ || !items.empty();
}

// Of hosts that were lost in the middle of a line.
void OutputWriter::end_all() {
  live_.set({});
  if (const std::string erased = live_.erase(); !erased.empty()) write(err_, erased);
  set_time();
  std::string err;
  mux_.end_all(merged_, err);
  merged_ += err;
  console_.end_all(pieces_);
  flush();
  const std::scoped_lock lock(mutex_);
  ended_ = true;
  end_.notify_one();
}

// Looked up once a second, not with each line.
void OutputWriter::set_time() {
  const std::time_t now = std::time(nullptr);
  if (std::exchange(time_, now) == now) return;
  const std::string text = fmt::format("{:%Y-%m-%dT%H:%M:%S}", fmt::localtime(now));
  mux_.set_time(text);
  console_.set_time(text);
}

void OutputWriter::take(Item& item) {
  std::visit([this](auto& one) { take(one); }, item);
}

void OutputWriter::take(Output& output) {
  check(files_.write_rank(output.rank, output.stream, output.data));
  if (gather_ != nullptr) check(gather_->add(output.rank, output.stream, output.data));
  set_time();
  if (files_.keeps_merged()) mux_.feed(output.rank, output.stream, output.data, merged_);
  if (gather_ == nullptr)
    console_.feed(output.rank, output.stream, output.data, std::chrono::steady_clock::now(), pieces_);
  if (taken_.empty() || taken_.back().first != output.host) taken_.emplace_back(output.host, 0);
  taken_.back().second += output.data.size();
  unwritten_ += output.data.size();
  if (unwritten_ >= kBatchBytes || merged_.size() >= kBatchBytes) flush();
}

void OutputWriter::take(const End& end) {
  if (files_.keeps_merged()) mux_.end(end.rank, end.stream, merged_);
  if (gather_ == nullptr) console_.end(end.rank, end.stream, std::chrono::steady_clock::now(), pieces_);
}

void OutputWriter::take(const Line& line) {
  console_.settle(pieces_);
  flush();
  if (line.dropped > 0)
    show_own(LogLevel::warning, log_text(LogLevel::warning, fmt::format("{} lines not shown", line.dropped)));
  show_own(line.level, line.text);
  const std::scoped_lock lock(mutex_);
  said_bytes_ -= line.text.size();
}

void OutputWriter::flush() {
  if (!merged_.empty()) check(files_.write_merged(merged_));
  merged_.clear();
  if (merged_.capacity() > 4 * kBatchBytes) merged_ = std::string();
  if (const auto notice = files_.take_notice()) warn(LogLevel::warning, *notice);
  // In their order, so that stdout and stderr on the same terminal keep theirs.
  for (const Console::Piece& piece : std::exchange(pieces_, {}))
    show(piece.stream == agent::Stream::err ? err_ : out_, piece.text);
  unwritten_ = 0;
  if (!taken_.empty()) on_taken_(std::exchange(taken_, {}));
}

// --- the terminal ----------------------------------------------------------------------------------------------------

void OutputWriter::show(Terminal& terminal, std::string_view lines) {
  make_room(terminal);
  write(terminal, lines);
}

void OutputWriter::make_room(const Terminal& terminal) {
  if (terminal.way == WayToScreen::none) return;
  if (const std::string erased = live_.erase(); !erased.empty()) write(err_, erased);
  if (console_.live() && terminal.way == WayToScreen::through_others)
    draw_from_ = std::chrono::steady_clock::now() + kOthersPrint;
}

void OutputWriter::draw_live(std::chrono::steady_clock::time_point now) {
  if (console_.live_line_is_due(now)) console_.update_live_line(terminal_columns(stderr_fd_), now);
  live_.set(roll_call_.empty() && console_.live() ? console_.live_line() : roll_call_);
  if (now < draw_from_) return;
  if (const std::string bytes = live_.draw(); !bytes.empty()) write(err_, bytes);
}

void OutputWriter::write(Terminal& terminal, std::string_view bytes) {
  if (terminal.gone) return;
  const Result<void> written = terminal.writer.write(bytes);
  if (written) return;
  const std::string place = files_.place();
  if (written.error().code == Errc::canceled) {
    if (!std::exchange(terminal.cut, true))
      warn(LogLevel::warning, fmt::format("{} takes no more lines; {}", terminal.name,
                                          place.empty() ? "no file keeps the rest" : "the rest is only in " + place));
    return;
  }
  terminal.gone = true;
  if (&terminal == &out_ && place.empty() && on_no_reader_) {
    warn(LogLevel::warning, fmt::format("{}: {}", terminal.name, written.error().what));
    return on_no_reader_(written.error());
  }
  const std::string kept = place.empty()         ? "and no file keeps its lines"
                           : files_.incomplete() ? "and its log files are incomplete, too"
                                                 : "all lines are in " + place;
  warn(LogLevel::warning, fmt::format("{}: {}; the job goes on, {}", terminal.name, written.error().what, kept));
}

void OutputWriter::show_own(LogLevel level, std::string_view line) {
  if (on_said_) on_said_(level, line.substr(0, line.size() - 1));
  if (!err_.gone) show(err_, line);
}

void OutputWriter::warn(LogLevel level, const std::string& text) {
  show_own(level, log_text(level, text));
}

void OutputWriter::check(const Result<void>& written) {
  if (written) return;
  warn(LogLevel::error, fmt::format("{}; the job goes on, its {} INCOMPLETE from here", written.error().what,
                                    files_.directory().empty() ? "output is" : "log files are"));
}

}  // namespace llmlaunch::launcher
