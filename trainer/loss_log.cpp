// The loss file. JSON has no word for a loss that is not a number: that is null.
#include "trainer/loss_log.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <string>

#include "trainer/files.hpp"
#include "trainer/step_lines.hpp"

namespace llmlaunch::trainer {

LossLog::LossLog(LossLog&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      wanted_(other.wanted_),
      on_failure_(std::move(other.on_failure_)),
      lines_(other.lines_),
      failed_(other.failed_),
      first_failure_(std::move(other.first_failure_)) {}

LossLog::~LossLog() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<LossLog> LossLog::open(const std::string& path, bool wanted) {
  if (path.empty()) return LossLog(path, -1, wanted);
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0) return system_error(errno, "--loss_file: open", path);
  return LossLog(path, descriptor, wanted);
}

Result<void> LossLog::begin(std::uint64_t steps_done) {
  if (descriptor_ < 0) return ok;
  std::string kept;
  std::size_t same = 0;
  std::error_code ignored;  // what cannot be looked at is not kept
  if (steps_done > 0 && std::filesystem::is_regular_file(path_, ignored)) {
    const auto before = read_whole_file(path_, kMaxStepLines);
    if (!before) return before.error();
    kept = kept_step_lines(as_text(*before), steps_done);
    if (as_text(*before).starts_with(kept)) same = kept.size();
  }
  // What is written next comes after this. A pipe or /dev/stderr has nothing to keep and says EINVAL.
  if (::ftruncate(descriptor_, static_cast<off_t>(same)) != 0 && errno != EINVAL) {
    return system_error(errno, "--loss_file: truncate", path_);
  }
  return append(std::string_view(kept).substr(same));
}

Result<void> LossLog::append(std::string_view bytes) {
  const off_t end = ::lseek(descriptor_, 0, SEEK_END);  // a pipe has none
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int reason = errno;
      // Should this fail, a torn line stays; whoever goes on with the file drops it.
      [[maybe_unused]] const int cut = end < 0 ? 0 : ::ftruncate(descriptor_, end);
      return system_error(reason, "--loss_file: write", path_);
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return ok;
}

void LossLog::write(std::uint64_t step, double loss) {
  if (descriptor_ < 0) return;
  const std::string number = std::isfinite(loss) ? fmt::format("{}", loss) : "null";
  ++lines_;
  const auto written = append(fmt::format("{}{}, \"loss\": {}}}\n", kStepLineStart, step, number));
  if (written || failed_++ > 0) return;
  first_failure_ = written.error();
  if (on_failure_) on_failure_(*first_failure_);
}

Result<void> LossLog::finish() const {
  if (failed_ == 0) return ok;
  Error error =
      make_error(Errc::internal, fmt::format("{} of {} lines of --loss_file could not be written", failed_, lines_),
                 first_failure_->where, "see the warning above; the training itself is whole");
  error.code = first_failure_->code;
  return error;
}

}  // namespace llmlaunch::trainer
