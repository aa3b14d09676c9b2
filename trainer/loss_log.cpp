// The loss file. JSON has no word for a loss that is not a number: that is null.
#include "trainer/loss_log.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <string>

#include "trainer/files.hpp"
#include "trainer/step_lines.hpp"

namespace llmlaunch::trainer {

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
    const auto before = read_whole_file(path_, kMaxStepLines);
    if (!before) return before.error();
    kept = kept_step_lines(as_text(*before), steps_done);
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
  const std::string line = fmt::format("{}{}, \"loss\": {}}}\n", kStepLineStart, step, number);
  if (std::fputs(line.c_str(), file_.get()) < 0 || std::fflush(file_.get()) != 0)
    return system_error(errno, "--loss_file: write", path_);
  return ok;
}

}  // namespace llmlaunch::trainer
