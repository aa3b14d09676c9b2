// Which jobs may go on from which. Called by resume.
#include "trainer/dealing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "rendezvous/base/counted.hpp"

namespace llmlaunch::trainer {
namespace {

/// Numbers of ranks that an error names; nobody reads more.
constexpr std::size_t kNamed = 8;
/// A step may have billions of images, and no job so many ranks.
constexpr std::uint64_t kMostRanks = 65536;

/// Which number differs, with both values; empty: none does.
std::string difference(const SampleAccounting& then, const SampleAccounting& now) {
  const auto differs = [](const char* name, auto a, auto b) { return fmt::format("{} was {} and is {}", name, a, b); };
  if (then.images != now.images) return differs("the number of training images", then.images, now.images);
  if (then.images_per_step != now.images_per_step) {
    return differs("the number of images per step", then.images_per_step, now.images_per_step);
  }
  if (then.steps_per_epoch != now.steps_per_epoch) {
    return differs("the number of steps per epoch", then.steps_per_epoch, now.steps_per_epoch);
  }
  if (then.data_seed != now.data_seed)
    return differs("the seed of the images' order (--data_seed, else --seed)", then.data_seed, now.data_seed);
  if (then.drop_last != now.drop_last) return differs("--dataloader_drop_last", then.drop_last, now.drop_last);
  return {};
}

/// "1, 2, 4": as many ranks would deal the images as they were dealt.
std::string ranks_that_would_do(const Dealing& then) {
  std::vector<std::uint32_t> good;
  const std::uint64_t most = std::min(then.accounting.images_per_step, kMostRanks);
  for (std::uint32_t ranks = 1; ranks <= most && good.size() < kNamed; ++ranks) {
    const bool shares = then.accounting.images_per_step % ranks == 0;
    if (shares && Dealing{then.accounting, ranks}.places() == then.places()) good.push_back(ranks);
  }
  return fmt::format("{}", fmt::join(good, ", "));
}

/// "2 ranks, or with ", where so many would do with the flags as they are.
std::string hint_of_ranks(const Dealing& then, const Dealing& now) {
  SampleAccounting same_step = now.accounting;
  same_step.images_per_step = then.accounting.images_per_step;
  same_step.steps_per_epoch = then.accounting.steps_per_epoch;  // follows from it
  const std::uint64_t of_a_rank = now.ranks == 0 ? 0 : now.accounting.images_per_step / now.ranks;
  if (!difference(then.accounting, same_step).empty() || of_a_rank == 0) return {};
  const std::uint64_t ranks = then.accounting.images_per_step / of_a_rank;
  if (ranks == 0 || ranks > kMostRanks || ranks * of_a_rank != then.accounting.images_per_step) return {};
  if (Dealing{then.accounting, static_cast<std::uint32_t>(ranks)}.places() != then.places()) return {};
  return fmt::format("{}, or with ", counted(ranks, "rank"));
}

}  // namespace

std::uint64_t Dealing::places() const {
  if (ranks == 0) return 0;  // of a file that was tampered with
  const std::uint64_t each = accounting.drop_last ? accounting.images / ranks : (accounting.images + ranks - 1) / ranks;
  return each * ranks;
}

Result<void> check_dealing(const Dealing& then, const Dealing& now, const std::string& checkpoint) {
  if (const std::string changed = difference(then.accounting, now.accounting); !changed.empty()) {
    return make_error(Errc::invalid_argument, changed + ", so that images would be seen twice or never", checkpoint,
                      fmt::format("go on with {}the same data, --data_seed {} and {} per step (ranks x "
                                  "--per_device_train_batch_size x --gradient_accumulation_steps), or start anew in "
                                  "another --output_dir",
                                  hint_of_ranks(then, now), then.accounting.data_seed,
                                  counted(then.accounting.images_per_step, "image")));
  }
  if (then.places() == now.places()) return ok;
  return make_error(
      Errc::invalid_argument,
      fmt::format("{} {} as {} and {} them as {}, so that images would be seen twice or never, and "
                  "with other dropout",
                  now.ranks == 1 ? "1 rank deals" : fmt::format("{} ranks deal", now.ranks),
                  counted(now.accounting.images, "image"), now.places(),
                  then.ranks == 1 ? "1 rank dealt" : fmt::format("{} ranks dealt", then.ranks), then.places()),
      checkpoint,
      fmt::format("with {} per step these numbers of ranks go on from it: {}",
                  counted(then.accounting.images_per_step, "image"), ranks_that_would_do(then)));
}

}  // namespace llmlaunch::trainer
