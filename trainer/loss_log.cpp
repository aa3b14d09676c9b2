// The loss file. JSON has no word for a loss that is not a number: that is null.
#include "trainer/loss_log.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "rendezvous/base/log.hpp"
#include "trainer/files.hpp"
#include "trainer/step_lines.hpp"

namespace llmlaunch::trainer {
namespace {

Error of_flag(Error error) {
  error.what = "--loss_file: " + error.what;
  return error;
}

/// Whether a file begins as ours do: {"step": 1, "loss": …
bool begins_with_loss(const std::string& path) {
  std::ifstream in(path);
  std::string start(kStepLineStart.size(), '\0');
  std::uint64_t step = 0;
  std::string behind(std::string_view(", \"loss\": ").size(), '\0');
  return in.read(start.data(), static_cast<std::streamsize>(start.size())) && start == kStepLineStart && in >> step &&
         in.read(behind.data(), static_cast<std::streamsize>(behind.size())) && behind == ", \"loss\": ";
}

/// A name typed wrong must not cost somebody's file.
Result<void> check_ours(const std::string& path) {
  std::error_code ignored;  // what cannot be looked at is found by the opening
  if (std::filesystem::is_directory(path, ignored)) {
    return make_error(Errc::invalid_config, "--loss_file: is a folder", path,
                      "name a file; its folder has to be there");
  }
  const bool has_content =
      std::filesystem::is_regular_file(path, ignored) && std::filesystem::file_size(path, ignored) > 0;
  if (!has_content || begins_with_loss(path)) return ok;
  return make_error(Errc::invalid_config, "--loss_file: is there already, and is no file of losses", path,
                    "name another one, or remove it");
}

}  // namespace

Result<LossLog> LossLog::open(const std::string& path, bool wanted) {
  if (path.empty()) return LossLog(AppendFile(), wanted);
  if (auto ours = check_ours(path); !ours) return ours.error();
  auto file = AppendFile::open(path);
  if (!file) return of_flag(file.error());
  if (!file->lock()) {
    return make_error(Errc::locked, "another job is writing this file", path,
                      "wait for its end, or give this one another --loss_file");
  }
  return LossLog(std::move(*file), wanted);
}

Result<void> LossLog::begin(std::uint64_t steps_done) {
  if (!file_.is_open()) return ok;
  std::string kept;
  std::size_t same = 0;
  std::error_code ignored;  // what cannot be looked at is not kept
  if (steps_done > 0 && std::filesystem::is_regular_file(file_.path(), ignored)) {
    const auto before = read_whole_file(file_.path(), kMaxStepLines);
    if (!before) return of_flag(before.error());
    kept = kept_step_lines(as_text(*before), steps_done);
    if (as_text(*before).starts_with(kept)) same = kept.size();
  } else if (steps_done == 0 && std::filesystem::is_regular_file(file_.path(), ignored) &&
             std::filesystem::file_size(file_.path(), ignored) > 0) {
    log_warning("{}: --loss_file: an earlier job's losses are overwritten", file_.path());
  }
  if (auto cut = file_.cut(same); !cut) return of_flag(cut.error());
  if (auto put = file_.append(std::string_view(kept).substr(same)); !put) return of_flag(put.error());
  return ok;
}

void LossLog::write(std::uint64_t step, double loss) {
  if (!file_.is_open()) return;
  const std::string number = std::isfinite(loss) ? fmt::format("{}", loss) : "null";
  const auto written = file_.append(fmt::format("{}{}, \"loss\": {}}}\n", kStepLineStart, step, number));
  if (tally_.add(written) && on_failure_) on_failure_(of_flag(written.error()));
}

Result<void> LossLog::finish() const {
  return tally_.finish("line", "--loss_file");
}

}  // namespace llmlaunch::trainer
