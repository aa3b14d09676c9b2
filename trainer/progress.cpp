// The line of progress. Only "\r" and blanks: every terminal knows them, and llmlaunch's console, too, which shows such
// a line in one place of its own terminal, and elsewhere as it is now and then.
#include "trainer/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "rendezvous/base/env.hpp"
#include "rendezvous/base/whole_number.hpp"
#include "trainer/output.hpp"

namespace llmlaunch::trainer {
namespace {

/// Often enough to look alive, and rare enough for a slow terminal.
constexpr std::chrono::milliseconds kBetweenDrawings{100};

/// A line that wraps cannot be drawn again.
std::size_t own_columns(std::FILE* out) {
  winsize size{};
  const bool known = ::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return known ? size.ws_col - 1U : 79U;
}

/// llmlaunch reads a rank's stdout through one: a file behind it is somebody's own, and wants lines.
bool is_pipe(std::FILE* out) {
  struct stat info {};
  return ::fstat(::fileno(out), &info) == 0 && S_ISFIFO(info.st_mode);
}

std::string clock_of(double seconds) {
  const auto whole = static_cast<std::uint64_t>(std::clamp(std::ceil(seconds), 0.0, 1e9));
  const std::uint64_t hours = whole / 3600;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

void ProgressLine::put(const std::string& bytes) {
  write_output(out_, bytes);
}

void ProgressLine::clear() {
  if (shown_.empty()) return;
  put("\r" + std::string(shown_.size(), ' ') + "\r");
  shown_.clear();
}

void ProgressLine::say(const std::string& line) {
  const std::string below = shown_;
  clear();
  put(line + "\n");
  if (below.empty()) return;
  put("\r" + below);  // who reads it knows by that that it is the same line
  shown_ = below;
}

void ProgressLine::draw(const std::string& text, Clock::time_point now, bool at_once) {
  if (!redraws_ || (!at_once && drawn_at_ && now - *drawn_at_ < kBetweenDrawings)) return;
  drawn_at_ = now;
  const std::string cut = text.substr(0, columns_ > 0 ? columns_ : own_columns(out_));
  const std::size_t rest = shown_.size() > cut.size() ? shown_.size() - cut.size() : 0;
  put("\r" + cut + std::string(rest, ' '));
  shown_ = cut;
}

void ProgressLine::end() {
  if (shown_.empty()) return;
  put("\n");
  shown_.clear();
}

bool redraws_progress(Progress wanted, std::FILE* out, std::size_t columns) {
  if (wanted == Progress::automatic) return ::isatty(::fileno(out)) == 1 || (columns > 0 && is_pipe(out));
  return wanted == Progress::always;
}

std::size_t columns_from_launcher() {
  const char* const text = std::getenv(env::kColumns);
  return text == nullptr ? 0 : parse_whole<std::size_t>(text).value_or(0);
}

std::string shown_number(double value) {
  if (std::isnan(value)) return "nan";
  constexpr double kLong = 1e9;
  return std::abs(value) < kLong ? fmt::format("{:.4f}", value) : fmt::format("{:.4e}", value);
}

std::string progress_text(const ProgressFacts& facts) {
  return fmt::format("step {}/{}{} ({:.0f} samples/s, {} left)", facts.step, facts.steps,
                     facts.loss ? " loss " + shown_number(*facts.loss) : std::string(), facts.samples_per_second,
                     clock_of(facts.seconds_left));
}

}  // namespace llmlaunch::trainer
