// Lines of steps. Called by the reports and the file of losses.
#include "trainer/step_lines.hpp"

#include <charconv>
#include <optional>
#include <system_error>

namespace llmlaunch::trainer {
namespace {

/// What a line of a test has, and no other.
constexpr std::string_view kTestInLine = "\"eval_loss\": ";

std::optional<std::uint64_t> step_told_by(std::string_view line) {
  if (!line.starts_with(kStepLineStart)) return std::nullopt;
  std::uint64_t step = 0;
  const char* const end = line.data() + line.size();
  if (std::from_chars(line.data() + kStepLineStart.size(), end, step).ec != std::errc()) return std::nullopt;
  return step;
}

template <class Take>
void for_each_line(std::string_view text, Take take) {
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    take(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
}

}  // namespace

std::string kept_step_lines(std::string_view text, std::uint64_t steps_done, bool tests_again) {
  std::string kept;
  for_each_line(text, [&](std::string_view line) {
    const auto step = step_told_by(line);
    if (!step || *step > steps_done) return;
    if (tests_again && *step == steps_done && line.find(kTestInLine) != std::string_view::npos) return;
    kept += line;
  });
  return kept;
}

std::size_t count_step_lines(std::string_view text) {
  std::size_t lines = 0;
  for_each_line(text, [&](std::string_view line) { lines += step_told_by(line) ? 1 : 0; });
  return lines;
}

}  // namespace llmlaunch::trainer
