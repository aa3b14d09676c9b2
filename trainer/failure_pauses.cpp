// At most one pause for each failure. None for rank 0's own, nor where nobody will end the job.
#include "trainer/failure_pauses.hpp"

namespace llmlaunch::trainer {
namespace {

using std::chrono::seconds;

/// What every rank may find before the first step, a wrong flag for one, or rank 0 as it ends for its own reason, is
/// told by rank 0. Where no end follows from its words, this rank's are others: its command line, host or files are.
constexpr seconds kRank0Words{2};
/// A rank that left its words to another waits for the end of that one.
constexpr seconds kFirstWords{10};
/// One that only lost another lets that one's end be the first.
constexpr seconds kLostRank{2};

}  // namespace

FailurePauses FailurePauses::of(const Error& error, std::uint32_t rank, bool hears_of_end, bool has_started) {
  if (!hears_of_end) return {};
  if (error.what.empty()) return {.after_words = kFirstWords};
  if (rank > 0 && !has_started) return {.before_words = kRank0Words};
  if (error.code == Errc::closed) return {.after_words = kLostRank};
  return {};
}

}  // namespace llmlaunch::trainer
