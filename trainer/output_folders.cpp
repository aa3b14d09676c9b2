// Which folders are made and locked. Called once, before the data's first collective.
#include "trainer/output_folders.hpp"

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "trainer/files.hpp"

namespace llmlaunch::trainer {

Result<OutputLocks> lock_folders(const TrainOptions& options, const World& world) {
  OutputLocks locks;
  if (world.rank != 0) return locks;
  const std::string& output = options.output_dir;
  const std::string& logging = options.logging_dir;
  const bool reports = options.report_json || options.report_tensorboard;
  // A job that cannot begin leaves no new folder behind; resume says why.
  std::error_code failed;
  const std::string& checkpoint = options.resume_from_checkpoint;
  const bool is_named = !checkpoint.empty() && checkpoint != kLastCheckpoint;
  if (is_named && std::filesystem::status(checkpoint, failed).type() == std::filesystem::file_type::not_found) {
    return locks;
  }
  // Who needs a folder says why there is none.
  if (!output.empty()) {
    if (options.save_strategy != SaveStrategy::no || (reports && logging.empty())) (void)make_folders(output);
    auto lock = OutputLock::take(output, world.host, "--output_dir");
    if (!lock) return lock.error();
    locks[0] = std::move(*lock);
  }
  if (logging.empty() || !reports) return locks;
  (void)make_folders(logging);
  std::error_code ignored;  // then they are not the same
  if (std::filesystem::equivalent(logging, output, ignored)) return locks;
  auto lock = OutputLock::take(logging, world.host, "--logging_dir");
  if (!lock) return lock.error();
  locks[1] = std::move(*lock);
  return locks;
}

}  // namespace llmlaunch::trainer
