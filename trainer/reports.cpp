// Reports of the training, as files that other programs read. Called by the training loop, on rank 0.
#include "trainer/reports.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <string_view>
#include <utility>

#include "rendezvous/base/counted.hpp"
#include "rendezvous/base/log.hpp"
#include "trainer/event_file.hpp"
#include "trainer/files.hpp"
#include "trainer/step_lines.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr std::string_view kEventsPrefix = "events.out.tfevents.";

double now_in_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Result<void> make_folder(const std::string& folder) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) return system_error(failed.value(), "--report_to: mkdir", folder);
  return ok;
}

std::string this_host() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "host";
  std::string host = name.data();
  std::replace(host.begin(), host.end(), '/', '_');
  return host;
}

/// TensorBoard reads a folder's files in the order of their names: the new one's time is after that of each other, also
/// where the clock was set back.
Result<std::uint64_t> time_of_new_file(const std::string& folder) {
  auto seconds = static_cast<std::uint64_t>(now_in_seconds());
  std::error_code failed;
  std::filesystem::directory_iterator at(folder, failed);
  for (; !failed && at != std::filesystem::directory_iterator(); at.increment(failed)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(kEventsPrefix)) continue;
    std::uint64_t other = 0;
    std::from_chars(name.data() + kEventsPrefix.size(), name.data() + name.size(), other);
    constexpr std::uint64_t kLastOfTenDigits = 9'999'999'999;
    if (other >= seconds && other < kLastOfTenDigits) seconds = other + 1;
  }
  if (failed) return system_error(failed.value(), "--report_to: read", folder);
  return seconds;
}

/// "eval_loss" → "eval/loss", "loss" → "train/loss", as Hugging Face's callback.
std::string tag_of(const std::string& name) {
  constexpr std::string_view kEval = "eval_";
  return name.starts_with(kEval) ? "eval/" + name.substr(kEval.size()) : "train/" + name;
}

std::string events_of(const LogRecord& record, double now) {
  std::string events = scalar_event(now, record.step, "train/epoch", record.epoch);
  for (const auto& [name, value] : record.values) events += scalar_event(now, record.step, tag_of(name), value);
  return events;
}

}  // namespace

std::string metrics_line(const LogRecord& record, double time) {
  const auto number = [](double value) { return std::isfinite(value) ? fmt::format("{}", value) : "null"; };
  std::string line = fmt::format("{}{}, \"epoch\": {}", kStepLineStart, record.step, number(record.epoch));
  for (const auto& [name, value] : record.values) line += fmt::format(", \"{}\": {}", name, number(value));
  return line + fmt::format(", \"time\": {:.3f}}}\n", time);
}

Reports::Reports(ReportFolders folders, std::function<void(const Error&)> on_failure)
    : folders_(std::move(folders)), on_failure_(std::move(on_failure)) {}

Result<void> Reports::begin(std::uint64_t steps_done, bool tests_again, std::span<const LogRecord> history) {
  if (!folders_.json.empty()) {
    if (auto begun = begin_json(steps_done, tests_again); !begun) return begun;
  }
  if (!folders_.tensorboard.empty()) return begin_tensorboard(tests_again ? steps_done : steps_done + 1, history);
  return ok;
}

Result<void> Reports::begin_json(std::uint64_t steps_done, bool tests_again) {
  if (auto made = make_folder(folders_.json); !made) return made;
  const std::string path = (std::filesystem::path(folders_.json) / kMetricsFile).string();
  std::string kept;
  std::size_t same = 0;
  std::error_code ignored;  // what cannot be looked at is not kept
  if (std::filesystem::is_regular_file(path, ignored)) {
    const auto before = read_whole_file(path, kMaxStepLines);
    if (!before) return before.error();
    // Only the start of a first line, too: its job was killed then.
    const std::string_view start = as_text(*before).substr(0, kStepLineStart.size());
    if (!kStepLineStart.starts_with(start)) {
      return make_error(Errc::invalid_config, "--report_to json: is there already, and is no file of records", path,
                        "name another --logging_dir, or remove it");
    }
    kept = kept_step_lines(as_text(*before), steps_done, tests_again);
    if (as_text(*before).starts_with(kept)) same = kept.size();
    const std::size_t lines = count_step_lines(as_text(*before));
    if (steps_done == 0 && lines > 0) {
      log_warning("{}: {} of an earlier job {} overwritten, for this one starts anew; another --logging_dir keeps {}",
                  path, counted(lines, "record"), lines == 1 ? "is" : "are", lines == 1 ? "it" : "them");
    }
  }
  auto opened = AppendFile::open(path);
  if (!opened) return opened.error();
  if (auto cut = opened->cut(same); !cut) return cut;
  if (auto put = opened->append(std::string_view(kept).substr(same)); !put) return put;
  json_ = std::move(*opened);
  return ok;
}

/// What is in the history of the first step and later ones is told once more: its mark makes TensorBoard forget it.
Result<void> Reports::begin_tensorboard(std::uint64_t first_step, std::span<const LogRecord> history) {
  if (auto made = make_folder(folders_.tensorboard); !made) return made;
  const auto seconds = time_of_new_file(folders_.tensorboard);
  if (!seconds) return seconds.error();
  const std::string name = fmt::format("{}{:010}.{}.{}", kEventsPrefix, *seconds, this_host(), ::getpid());
  auto opened = AppendFile::open((std::filesystem::path(folders_.tensorboard) / name).string());
  if (!opened) return opened.error();
  if (auto cut = opened->cut(0); !cut) return cut;
  tensorboard_ = std::move(*opened);
  const double now = now_in_seconds();
  std::string events = version_event(now) + start_event(now, first_step);
  for (const LogRecord& record : history) {
    if (record.step >= first_step) events += events_of(record, now);
  }
  append(*tensorboard_, tensorboard_tally_, events);
  return ok;
}

void Reports::add(const LogRecord& record) {
  const double now = now_in_seconds();
  if (json_) append(*json_, json_tally_, metrics_line(record, now));
  if (tensorboard_) append(*tensorboard_, tensorboard_tally_, events_of(record, now));
}

void Reports::append(AppendFile& file, WriteTally& tally, const std::string& bytes) {
  const auto written = file.append(bytes);
  if (tally.add(written)) on_failure_(written.error());
}

Result<void> Reports::finish() const {
  if (auto whole = json_tally_.finish("record", "--report_to"); !whole) return whole;
  return tensorboard_tally_.finish("record", "--report_to");
}

}  // namespace llmlaunch::trainer
