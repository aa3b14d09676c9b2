// The loss file. JSON has no word for a loss that is not a number: that is null.
#include "trainer/loss_log.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string_view>

#include "trainer/files.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr std::string_view kBeforeStep = "{\"step\": ";
constexpr std::size_t kMaxFile = std::size_t{1} << 30U;

std::optional<std::uint64_t> step_in(std::string_view line) {
  if (!line.starts_with(kBeforeStep)) return std::nullopt;
  std::uint64_t step = 0;
  const char* const end = line.data() + line.size();
  if (std::from_chars(line.data() + kBeforeStep.size(), end, step).ec != std::errc()) return std::nullopt;
  return step;
}

/// The whole lines of the first steps. A line that was being written when its job was killed has no end and goes.
std::string kept_lines(std::string_view text, std::uint64_t steps_done) {
  std::string kept;
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const std::string_view line = text.substr(0, end + 1);
    if (const auto step = step_in(line); step && *step <= steps_done) kept += line;
    text.remove_prefix(end + 1);
  }
  return kept;
}

}  // namespace

Result<LossLog> LossLog::open(const std::string& path, bool wanted) {
  if (path.empty()) return LossLog(path, nullptr, wanted);
  std::FILE* file = std::fopen(path.c_str(), "ae");
  if (file == nullptr) return system_error(errno, "--loss_file: open", path);
  return LossLog(path, file, wanted);
}

Result<void> LossLog::begin(std::uint64_t steps_done) {
  if (!file_) return ok;
  std::string kept;
  std::error_code ignored;  // what cannot be looked at is not kept
  if (steps_done > 0 && std::filesystem::is_regular_file(path_, ignored)) {
    const auto before = read_whole_file(path_, kMaxFile);
    if (!before) return before.error();
    kept = kept_lines(as_text(*before), steps_done);
  }
  // Opened for appending: what is written next comes after this.
  // A pipe or /dev/stderr has nothing to keep and says EINVAL.
  if (::ftruncate(::fileno(file_.get()), 0) != 0 && errno != EINVAL) {
    return system_error(errno, "--loss_file: truncate", path_);
  }
  if (std::fputs(kept.c_str(), file_.get()) < 0 || std::fflush(file_.get()) != 0) {
    return system_error(errno, "--loss_file: write", path_);
  }
  return ok;
}

Result<void> LossLog::write(std::uint64_t step, double loss) {
  if (!file_) return ok;
  const std::string number = std::isfinite(loss) ? fmt::format("{}", loss) : "null";
  const std::string line = fmt::format("{{\"step\": {}, \"loss\": {}}}\n", step, number);
  if (std::fputs(line.c_str(), file_.get()) < 0 || std::fflush(file_.get()) != 0)
    return system_error(errno, "--loss_file: write", path_);
  return ok;
}

}  // namespace llmlaunch::trainer
