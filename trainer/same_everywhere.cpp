// The questions about flags and images, the cheap ones first. Called by the training loop as it starts.
#include "trainer/same_everywhere.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "trainer/agreement.hpp"
#include "trainer/data_checksum.hpp"
#include "trainer/job_facts.hpp"

namespace llmlaunch::trainer {
namespace {

/// "/a on rank 0 and /b on rank 2": each one with the first rank that has it.
std::string told_places(const std::vector<std::string>& places) {
  constexpr std::size_t kShown = 4;
  std::vector<std::string> told;
  for (auto place = places.begin(); place != places.end() && told.size() < kShown; ++place) {
    if (std::find(places.begin(), place, *place) != place) continue;
    told.push_back(fmt::format("{} on rank {}", *place, place - places.begin()));
  }
  return fmt::format("{}", fmt::join(told, " and "));
}

/// Where the files lie is no difference, and leads to one.
Result<void> check_same_content(const TrainingJob& job) {
  const auto places = gather_texts(job.comm, job.data.description);
  if (!places) return places.error();
  auto same = check_same_job(job.comm, job.world.host, content_facts(job.data));
  if (same || same.error().code != Errc::invalid_argument || same.error().what.empty()) return same;
  Error error = same.error();
  error.what += fmt::format("; the files are those of {}", told_places(*places));
  return error;
}

}  // namespace

// First what all know at once, then what is in the data, for which the ranks of a host read together.
Result<void> check_same_everywhere(TrainingJob& job) {
  const bool alone = job.world.world_size == 1;
  if (!alone) {
    if (auto same = check_same_job(job.comm, job.world.host, job_facts(job.options, job.data)); !same) return same;
  }
  if (job.options.data_dir.empty()) return ok;
  if (auto read = checksum_data(job.comm, job.world, job.data); !read) return read;
  return alone ? Result<void>(ok) : check_same_content(job);
}

}  // namespace llmlaunch::trainer
