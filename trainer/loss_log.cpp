// The loss file. JSON has no word for a loss that is not a number: that is null.
#include "trainer/loss_log.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>

namespace llmlaunch::trainer {

Result<LossLog> LossLog::open(const std::string& path, bool wanted) {
  if (path.empty()) return LossLog(path, nullptr, wanted);
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) return system_error(errno, "--loss_file: open", path);
  return LossLog(path, file, wanted);
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
