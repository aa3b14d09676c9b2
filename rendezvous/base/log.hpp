/// \file
/// What llmlaunch itself has to say, on stderr, one write per line: "llmlaunch: warning: …". Ranks' output does not
/// pass here. May be called from any thread.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>
#include <string_view>

namespace llmlaunch {

enum class LogLevel { error, warning, info, debug };

/// Who gets the lines (without newline, printable). The default writes "llmlaunch: …\n" to stderr.
using LogSinkFunction = std::function<void(LogLevel, std::string_view line)>;

/// `text` without what a terminal would obey: control characters, and bytes that are no UTF-8, become \xNN. Letters,
/// newlines and tabs stay. For whatever came from a file or another host; log lines need no call of it.
std::string printable(std::string_view text);

void set_log_level(LogLevel most_verbose);
LogLevel log_level();
void set_log_sink(LogSinkFunction sink);

/// The word before the colon on stderr; the agent and the trainer set their own.
void set_log_prefix(std::string prefix);

void log_line(LogLevel level, std::string_view line);

template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::debug) log_line(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace llmlaunch
