// One line, one write: lines of several threads and processes on the same terminal stay whole.
#include "rendezvous/base/log.hpp"

#include <unistd.h>

#include <atomic>
#include <mutex>

#include "rendezvous/base/write_all.hpp"

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

// Of the letter that `text` begins with; 0: a control character, C1's two-byte ones included, or no UTF-8.
std::size_t letter_bytes(std::string_view text) {
  const auto byte = [text](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0), second = byte(1);
  if (first < 0x80) return first == '\n' || first == '\t' || (first >= 0x20 && first != 0x7f) ? 1 : 0;
  const std::size_t bytes = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (first < 0xc2 || first > 0xf4) return 0;
  const unsigned lowest = first == 0xc2 || first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned highest = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (second < lowest || second > highest) return 0;
  for (std::size_t i = 2; i < bytes; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  return bytes;
}

void write_to_stderr(std::string_view text) {
  (void)write_all(STDERR_FILENO, text);  // unless nobody is left who could be told
}

}  // namespace

std::string printable(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t bytes = letter_bytes(text);
    if (bytes == 0)
      shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
    else
      shown += text.substr(0, bytes);
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return shown;
}

void set_log_level(LogLevel most_verbose) {
  logger().level = most_verbose;
}
LogLevel log_level() {
  return logger().level;
}

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
  const std::string text = printable(line);
  const std::scoped_lock lock(logger().mutex);
  if (logger().sink) {
    logger().sink(level, text);
    return;
  }
  const char* word = level == LogLevel::error ? "error: " : level == LogLevel::warning ? "warning: " : "";
  write_to_stderr(fmt::format("{}: {}{}\n", logger().prefix, word, text));
}

}  // namespace llmlaunch
