// One line, one write: lines of several threads and processes on the same terminal stay whole.
#include "rendezvous/base/log.hpp"

#include <unistd.h>

#include <atomic>
#include <mutex>

namespace llmlaunch {
namespace {

struct Logger {
  std::mutex mutex;
  LogSinkFunction sink;
  std::string prefix = "llmlaunch";
  std::atomic<LogLevel> level{LogLevel::info};
};

Logger& logger() {
  static Logger instance;
  return instance;
}

void write_to_stderr(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // nobody is left who could be told
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

void set_log_level(LogLevel most_verbose) { logger().level = most_verbose; }
LogLevel log_level() { return logger().level; }

void set_log_sink(LogSinkFunction sink) {
  const std::scoped_lock lock(logger().mutex);
  logger().sink = std::move(sink);
}

void set_log_prefix(std::string prefix) {
  const std::scoped_lock lock(logger().mutex);
  logger().prefix = std::move(prefix);
}

void log_line(LogLevel level, std::string_view line) {
  if (level > log_level()) return;
  const std::scoped_lock lock(logger().mutex);
  if (logger().sink) {
    logger().sink(level, line);
    return;
  }
  const char* word = level == LogLevel::error ? "error: " : level == LogLevel::warning ? "warning: " : "";
  write_to_stderr(fmt::format("{}: {}{}\n", logger().prefix, word, line));
}

}  // namespace llmlaunch
