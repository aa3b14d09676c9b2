// The script of setup lines and the words for its failures; see setup_script.hpp. The lines are the user's own: what
// they may not do is only to change what llmlaunch learns of them.
#include "launcher/agent/setup_script.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "launcher/agent/exec_spec.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr std::string_view kEnvMark = "\nenv\n";

std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  }
  return out + "'";
}

/// What a shell changes for itself, and a rank must not find.
bool is_shells_own(std::string_view name) {
  constexpr std::array<std::string_view, 4> kNames{"_", "SHLVL", "PWD", "OLDPWD"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

std::string_view name_of_entry(std::string_view entry) {
  return entry.substr(0, entry.find('='));
}

/// A line as an error shows it: up to the first word that may hold a secret, an option or an assignment.
std::string recognisable(std::string_view line) {
  constexpr std::size_t kMost = 80;
  std::size_t end = 0;
  while (end < line.size()) {
    const std::size_t start = std::min(line.find_first_not_of(' ', end), line.size());
    const std::size_t next = std::min(line.find_first_of(" \n", start), line.size());
    const std::string_view word = line.substr(start, next - start);
    if (word.starts_with('-') || word.find('=') != word.npos || next > kMost || word.empty()) break;
    end = next;
    if (next < line.size() && line[next] == '\n') break;
  }
  return std::string(line.substr(0, end)) + (end == line.size() ? "" : end == 0 ? "…" : " …");
}

}  // namespace

std::string setup_shell(const std::vector<std::string>& environment, std::string& note) {
  constexpr std::array<std::string_view, 7> kKnown{"sh", "bash", "dash", "zsh", "ksh", "mksh", "ash"};
  const std::string* entry = find_env(environment, "SHELL");
  if (entry == nullptr) return "/bin/sh";
  const std::string shell = entry->substr(std::strlen("SHELL="));
  const std::string name = shell.substr(shell.rfind('/') + 1);
  if (shell.starts_with('/') && std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end()) return shell;
  note = "setup lines run in /bin/sh: they are written for shells of its family, which '" + shell + "' is not";
  return "/bin/sh";
}

bool is_shell_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && letter(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

std::string setup_script(const std::vector<std::string>& lines, const EnvList& env) {
  const std::string report = " >&" + std::to_string(kSetupReportFd);
  std::string script = "exec " + std::to_string(kSetupScriptFd) + "<&-\n";
  for (const auto& [name, value] : env)
    if (is_shell_name(name)) script += "export " + name + "=" + quoted(value) + "\n";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    script += "printf 'line " + std::to_string(i + 1) + "\\n'" + report + "\n";
    script += "eval " + quoted(lines[i]) + " || exit\n";
  }
  return script + "printf 'env\\n'" + report + "\n/usr/bin/env -0" + report + " || exit\n";
}

void SetupReport::add_report(std::string_view bytes) {
  if (report_.size() + bytes.size() > kMaxSetupReportBytes) too_long_ = true;
  if (!too_long_) report_ += bytes;
}

std::optional<std::string> SetupReport::take_noise(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  tail_.emplace_back(line.substr(0, kMaxSetupNoiseLineBytes));
  if (tail_.size() > kSetupTailLines) tail_.erase(tail_.begin());
  if (shown_ > kMaxSetupNoiseLines) return std::nullopt;
  if (++shown_ > kMaxSetupNoiseLines)
    return "more than " + std::to_string(kMaxSetupNoiseLines) + " lines: the rest is not shown";
  return tail_.back();
}

std::vector<std::string> SetupReport::add_noise(std::string_view bytes) {
  std::vector<std::string> shown;
  partial_ += bytes;
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = partial_.find('\n', begin)) != partial_.npos; begin = end + 1)
    if (auto line = take_noise(std::string_view(partial_).substr(begin, end - begin)))
      shown.push_back(std::move(*line));
  partial_.erase(0, begin);
  if (partial_.size() > kMaxSetupNoiseLineBytes) {  // no newline in sight
    if (auto line = take_noise(partial_)) shown.push_back(std::move(*line));
    partial_.clear();
  }
  return shown;
}

std::vector<std::string> SetupReport::end_noise() {
  std::vector<std::string> shown;
  if (partial_.empty()) return shown;
  if (auto line = take_noise(partial_)) shown.push_back(std::move(*line));
  partial_.clear();
  return shown;
}

/// "setup line 2 'module load cuda'"; before the first line it is the login shell itself.
std::string SetupReport::failed_line() const {
  constexpr std::string_view kMark = "line ";
  std::size_t number = 0;
  for (std::size_t at = 0; at < report_.size() && report_.compare(at, kMark.size(), kMark) == 0;) {
    std::from_chars(report_.data() + at + kMark.size(), report_.data() + report_.size(), number);
    const std::size_t end = report_.find('\n', at);
    if (end == report_.npos) break;
    at = end + 1;
  }
  if (number == 0 || number > lines_.size()) return "the login shell, before the first setup line,";
  return "setup line " + std::to_string(number) + " '" + recognisable(lines_[number - 1]) + "'";
}

std::string SetupReport::last_output() const {
  if (tail_.empty()) return "\n   it printed nothing";
  std::string text =
      tail_.size() == 1 ? "\n   the last line that was printed:" : "\n   the last lines that were printed:";
  for (const std::string& line : tail_) text += "\n     | " + line;
  return text;
}

Result<std::vector<std::string>> SetupReport::finish(const SetupEnd& end, const std::vector<std::string>& before,
                                                     std::uint32_t timeout_ms) const {
  const std::size_t mark = report_.find(kEnvMark);  // only our own marks stand before it
  const bool complete = mark != report_.npos && report_.ends_with('\0');
  if (end.timed_out) {
    const std::string seconds = std::to_string(timeout_ms / 1000) +
                                (timeout_ms % 1000 == 0 ? "" : "." + std::to_string(timeout_ms % 1000 / 100));
    return make_error(Errc::timed_out, failed_line() + " did not end within " + seconds + " s" + last_output(), {},
                      "a slow one may need more: llmlaunch.timeouts.start");
  }
  if (too_long_) {
    return make_error(Errc::too_large, "the environment after the setup lines has more than " +
                                           std::to_string(kMaxSetupReportBytes) + " bytes");
  }
  if (end.signaled)
    return make_error(Errc::unsupported,
                      failed_line() + " was ended by signal " + std::to_string(end.value) + last_output());
  if (end.value != 0)
    return make_error(Errc::unsupported,
                      failed_line() + " failed with status " + std::to_string(end.value) + last_output(), {},
                      "each line runs in the login shell of the host; try it there: ssh to it and type the line");
  if (!complete) return make_error(Errc::unsupported, failed_line() + " ended the shell" + last_output());

  std::vector<std::string> environment;
  for (const std::string& entry : before)
    if (is_shells_own(name_of_entry(entry))) environment.push_back(entry);
  std::string_view rest = std::string_view(report_).substr(mark + kEnvMark.size());
  while (!rest.empty()) {
    const std::string_view entry = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(entry.size() + 1, rest.size()));
    if (entry.find('=') != entry.npos && !is_shells_own(name_of_entry(entry))) environment.emplace_back(entry);
  }
  return environment;
}

}  // namespace llmlaunch::launcher::agent
