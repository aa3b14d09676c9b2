// Tests of the model, and what follows from them. Called by the training loop after steps and at the end.
#include "trainer/model_check.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <span>

#include "rendezvous/base/counted.hpp"
#include "rendezvous/base/log.hpp"
#include "trainer/agreement.hpp"
#include "trainer/divergence.hpp"
#include "trainer/evaluation.hpp"
#include "trainer/files.hpp"
#include "trainer/predictions.hpp"
#include "trainer/stop.hpp"

namespace llmlaunch::trainer {
namespace {

/// Characters of a parameter hash that are shown; all 64 are compared.
constexpr std::size_t kShownHash = 16;

}  // namespace

Result<void> ModelCheck::test(const std::string& when, bool may_stop) {
  const auto begun = Story::Clock::now();
  const auto tested = evaluate(job_.backend, job_.comm, *job_.data.test, job_.options.per_device_eval_batch_size,
                               [may_stop] { return may_stop && is_stop_noted(); });
  if (!tested) return tested.error();
  if (!*tested) {
    job_.stopped = true;
    return ok;
  }
  const Evaluation& found = **tested;
  const double accuracy = found.correct / found.count;
  const double in_a_step = static_cast<double>(job_.options.per_device_eval_batch_size) * job_.world.world_size;
  job_.story.say("{}test accuracy {:.2f} % ({:.0f}/{:.0f}), loss {}", when, 100 * accuracy, found.correct, found.count,
                 shown_number(found.loss));
  job_.last_test = LogRecord{.step = job_.step,
                             .epoch = job_.story.epochs_after(job_.step),
                             .values = {{"eval_loss", found.loss},
                                        {"eval_accuracy", accuracy},
                                        {"eval_runtime", found.seconds},
                                        {"eval_samples_per_second", found.count / found.seconds},
                                        {"eval_steps_per_second", std::ceil(found.count / in_a_step) / found.seconds}}};
  job_.story.leave_out(Story::Clock::now() - begun);
  return judge(found.loss);
}

/// The same on all ranks, as the loss is.
Result<void> ModelCheck::judge(double loss) {
  if (std::isfinite(loss)) return ok;
  const std::string what = fmt::format("after step {}: the test loss is {}", job_.step, word_for_loss(loss));
  if (job_.is_end(loss)) return told_once(job_.comm, divergence(what, {}, job_.as_diverged()));
  if (job_.world.rank == 0) job_.story.warn(what + "; these weights are of no use");
  return ok;
}

Result<void> ModelCheck::test_and_keep(const std::string& when) {
  if (auto tested = test(when); !tested || job_.stopped) return tested;
  job_.story.keep(*job_.last_test);
  return ok;
}

Result<void> ModelCheck::test_best(bool all_saved) {
  const auto& best = job_.story.course.best;
  if (job_.world.rank == 0 && !best) {
    log_warning("--load_best_model_at_end: {}", all_saved
                                                    ? "there is no checkpoint whose test gave a number"
                                                    : "no checkpoint of a test that gave a number could be saved");
  }
  const auto loaded = load_best(best, job_.comm, job_.backend, missing_best_);
  if (!loaded) return loaded.error();
  if (!*loaded) return ok;
  if (best) {
    weights_step_ = best->step;
    job_.story.say("the best model{} is that of step {}: {}", all_saved ? "" : " of those that could be saved",
                   best->step, best->checkpoint);
  }
  return test("best model: ", false);  // everything is saved
}

Result<void> ModelCheck::predict() {
  const std::string& path = job_.options.predict;
  if (path.empty()) return ok;
  if (auto written = write_predictions(path, *job_.data.test, job_.options.per_device_eval_batch_size,
                                       weights_step_.value_or(job_.step), job_.comm, job_.backend, mark_batch);
      !written) {
    return written;
  }
  job_.story.say("logits of {} are in {}", counted(job_.data.test->count(), "test image"), path);
  return ok;
}

/// The same on all ranks, whose gradients were the same.
Result<void> ModelCheck::check_learnt() {
  const bool skips = job_.options.on_nan == OnNan::skip;
  if (skips && job_.step > 0 && job_.skipped + job_.loss_scale.skipped >= job_.step) {
    const std::string what =
        job_.step == 1
            ? "the only step was skipped, for its gradient was not finite: nothing was learnt"
            : fmt::format("all {} steps were skipped, for no gradient was finite: nothing was learnt", job_.step);
    return told_once(job_.comm, divergence(what, {}, job_.as_diverged()));
  }
  const std::uint64_t overflowed = job_.loss_scale.skipped;
  if (job_.world.rank == 0 && job_.step > 0 && overflowed >= job_.step) {
    const std::string whose =
        job_.step == 1 ? "the gradient of the only step" : fmt::format("the gradients of all {} steps", job_.step);
    job_.story.warn(
        fmt::format("no step was taken, and nothing was learnt: {} overflowed in half precision, where a scale for the "
                    "loss is found by trying (it is {} now); more steps may find it, --bf16 needs none",
                    whose, job_.loss_scale.factor));
  }
  if (job_.world.rank == 0 && job_.skipped > 0) {
    job_.story.warn(fmt::format("{} of {} steps {} skipped, for {} gradient was not finite", job_.skipped, job_.step,
                                job_.skipped == 1 ? "was" : "were", job_.skipped == 1 ? "its" : "their"));
  }
  return check_weights();
}

/// The same on all ranks, as the weights are. They may hide from the loss: oneDNN's relu makes 0 of what is no number.
Result<void> ModelCheck::check_weights() {
  const auto parameters = job_.backend.copy_parameters();
  if (!parameters) return parameters.error();
  std::string why;
  if (const auto found = find_not_finite(job_.backend.model(), *parameters)) {
    why = *found;
  } else if (job_.last_test) {
    const auto loss = value_in(*job_.last_test, "eval_loss");
    if (loss && !std::isfinite(*loss)) why = fmt::format("their test loss is {}", word_for_loss(*loss));
  }
  if (why.empty()) return ok;
  return told_once(job_.comm,
                   divergence(fmt::format("the job ends with weights of no use: {}", why), {}, job_.as_diverged()));
}

/// Copy and hash are none of the training's time; what the device has not done yet is.
Result<void> ModelCheck::compare_ranks(std::uint64_t epoch) {
  if (auto done = job_.backend.synchronize(); !done) return done;
  const auto begun = Story::Clock::now();
  const auto parameters = job_.backend.copy_parameters();
  if (!parameters) return parameters.error();
  const auto hash = digest(std::as_bytes(std::span(*parameters)));
  if (!hash) return hash.error();
  job_.story.leave_out(Story::Clock::now() - begun);
  if (auto equal = check_equal_on_all_ranks(job_.comm, *hash, fmt::format("parameters after epoch {}", epoch + 1));
      !equal) {
    return equal;
  }
  job_.story.say("epoch {}/{} done: parameter hash {}{}", epoch + 1, job_.length().epochs, hash->substr(0, kShownHash),
                 job_.world.world_size == 1 ? "" : fmt::format(", equal on all {} ranks", job_.world.world_size));
  return ok;
}

}  // namespace llmlaunch::trainer
