/// \file
/// `OutputWriter`: takes everything that goes to the terminal and into the run directory off the event loop, so that a
/// pager that stands still or a slow disk delays nothing but output. One thread of its own; the queue in front of it is
/// bounded by the hosts' windows, as each byte of output is acknowledged only when it was written.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/console.hpp"
#include "launcher/fd_writer.hpp"
#include "launcher/gathered_output.hpp"
#include "launcher/live_line.hpp"
#include "launcher/log_files.hpp"
#include "launcher/log_mux.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {

/// Lines of llmlaunch's own that wait for a terminal (a host may say a lot before its agent runs); the rest is counted.
inline constexpr std::size_t kMaxSaidBytes = 1u << 20;

/// How what is written to a descriptor comes, as far as anybody knows, to the screen of the live line.
enum class WayToScreen { direct, through_others, none };

class OutputWriter {
 public:
  /// Bytes written, by index of the host; called on the writer's thread, must not block.
  using TakenFunction = std::function<void(std::vector<std::pair<std::size_t, std::uint64_t>> taken)>;

  /// Called on the writer's thread, at most once, when stdout takes nothing any more and no file keeps the lines. Not
  /// `Errc::closed`: it has a reader, and a full disk, say.
  using NoReaderFunction = std::function<void(const Error&)>;

  /// Called on the writer's thread with every line of llmlaunch's own that is to be shown, without its end; not after
  /// `finish()`.
  using SaidFunction = std::function<void(LogLevel, std::string_view line)>;

  /// With `gather`, ranks' output goes there instead of to the descriptors; llmlaunch's own lines do not.
  OutputWriter(LogMux mux, Console console, LogFiles files, int stdout_fd, int stderr_fd, TakenFunction on_taken,
               NoReaderFunction on_no_reader = {}, GatheredOutput* gather = nullptr, SaidFunction on_said = {});
  /// `finish()`.
  ~OutputWriter();
  OutputWriter(const OutputWriter&) = delete;
  OutputWriter& operator=(const OutputWriter&) = delete;

  // From the event loop.
  void output(std::size_t host, Rank rank, agent::Stream stream, Bytes data);
  void end(Rank rank, agent::Stream stream);
  /// A line of llmlaunch's own to stderr, in order with the rest.
  void say(LogLevel level, std::string_view line);
  /// The line below all others on the terminal of stderr; "" takes it away, and the place is that of the line that
  /// ranks draw again (`Console::live_line`). Only the last one waits for its turn.
  void status(std::string line);
  /// From now on the terminal gets only what it takes at once. The files still get everything.
  void abandon_terminal();

  /// Writes what is left, ends the thread. Idempotent. With a patience: a terminal that has not taken everything by
  /// then is abandoned.
  void finish(std::optional<std::chrono::milliseconds> patience = std::nullopt);
  /// After `finish`: output is missing from the run directory.
  bool files_incomplete() const { return files_.incomplete() || (gather_ != nullptr && gather_->incomplete()); }

 private:
  struct Output {
    std::size_t host;
    Rank rank;
    agent::Stream stream;
    Bytes data;
  };
  struct End {
    Rank rank;
    agent::Stream stream;
  };
  struct Line {
    LogLevel level;
    std::string text;
    std::size_t dropped;  // lines before it that had no room
  };
  using Item = std::variant<Output, End, Line>;
  struct Terminal {
    FdWriter writer;
    const char* name;
    bool gone = false;  // EPIPE and its like
    bool cut = false;   // abandoned with bytes left
    WayToScreen way = WayToScreen::direct;
  };

  void push(Item item);
  void run();
  bool wait_for_work(std::deque<Item>& items);
  void end_all();
  void set_time();
  void take(Item& item);
  void take(Output& output);
  void take(const End& end);
  void take(const Line& line);
  void flush();
  void show(Terminal& terminal, std::string_view lines);
  void make_room(const Terminal& terminal);
  void draw_live(std::chrono::steady_clock::time_point now);
  void write(Terminal& terminal, std::string_view bytes);
  void show_own(LogLevel level, std::string_view line);
  void warn(LogLevel level, const std::string& text);
  void check(const Result<void>& written);

  // Of the thread alone.
  LogMux mux_;
  Console console_;
  LogFiles files_;
  TakenFunction on_taken_;
  NoReaderFunction on_no_reader_;
  GatheredOutput* gather_;
  SaidFunction on_said_;
  UniqueFd wake_;
  Terminal out_;
  Terminal err_;
  std::string merged_;         // for merged.log
  Console::Pieces pieces_;     // for the terminal
  std::size_t unwritten_ = 0;  // bytes of output that came since the last flush
  int stderr_fd_;
  LiveLine live_;
  std::string roll_call_;                              // `status`, as far as the thread has it
  std::chrono::steady_clock::time_point draw_from_{};  // until then others may still write on the screen
  std::time_t time_ = 0;                               // that mux_ and console_ know of
  std::vector<std::pair<std::size_t, std::uint64_t>> taken_;

  // Shared, under the mutex.
  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<Item> queue_;
  std::size_t said_bytes_ = 0;
  std::size_t said_dropped_ = 0;
  std::optional<std::string> status_;
  bool finishing_ = false;
  bool ended_ = false;
  std::condition_variable end_;

  std::thread thread_;  // last: it uses all of the above
};

/// "llmlaunch: warning: …\n", printable, as base/log.hpp writes it.
std::string log_text(LogLevel level, std::string_view line);

}  // namespace llmlaunch::launcher
