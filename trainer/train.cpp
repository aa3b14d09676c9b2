// The training loop: the same story on every rank, told by rank 0. Data, weights, steps with averaged gradients, the
// check after each epoch, the test. Which device and which network is decided elsewhere.
#include "trainer/train.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rendezvous/base/log.hpp"
#include "trainer/agreement.hpp"
#include "trainer/batch_loader.hpp"
#include "trainer/best_model.hpp"
#include "trainer/checkpoint_writer.hpp"
#include "trainer/data_source.hpp"
#include "trainer/ddp.hpp"
#include "trainer/evaluation.hpp"
#include "trainer/files.hpp"
#include "trainer/host_steps.hpp"
#include "trainer/job_facts.hpp"
#include "trainer/loss_log.hpp"
#include "trainer/output.hpp"
#include "trainer/output_lock.hpp"
#include "trainer/predictions.hpp"
#include "trainer/resume.hpp"
#include "trainer/sampler.hpp"
#include "trainer/schedule.hpp"
#include "trainer/stop.hpp"
#include "trainer/story.hpp"

namespace llmlaunch::trainer {
namespace {

/// Characters of a parameter hash that are shown; all 64 are compared.
constexpr std::size_t kShownHash = 16;

/// Steps of a run that are never resident: the first puts gradients into buckets, the second sends these, and then all
/// libraries know their sizes.
constexpr std::uint64_t kOrdinarySteps = 2;

class Training {
 public:
  Training(const TrainOptions& options, const World& world, Engine& engine, DataSource& data, LossLog& losses,
           BatchLoader& loader, bool is_cpu)
      : options_(options),
        world_(world),
        backend_(*engine.backend),
        comm_(*engine.comm),
        data_(data),
        losses_(losses),
        loader_(loader),
        sampler_(data.train.count(), world.world_size, world.rank, options.data_seed.value_or(options.seed),
                 options.dataloader_drop_last ? Tail::drop : Tail::repeat),
        reducer_(comm_, backend_.gradient(), places(backend_.model()), caps(options)),
        length_(
            training_length({.images_per_rank = sampler_.size(),
                             .batch_size = options.per_device_train_batch_size,
                             .accumulation = options.gradient_accumulation_steps,
                             .drop_last = options.dataloader_drop_last,
                             .epochs = options.num_train_epochs,
                             .max_steps = static_cast<std::uint64_t>(std::max<std::int64_t>(0, options.max_steps))})),
        schedule_(schedule_of(options, length_.steps)),
        run_{.accounting = {.images = data.train.count(),
                            .images_per_step = std::uint64_t{world.world_size} * options.per_device_train_batch_size *
                                               options.gradient_accumulation_steps,
                            .steps_per_epoch = length_.steps_per_epoch,
                            .data_seed = options.data_seed.value_or(options.seed),
                            .drop_last = options.dataloader_drop_last},
             .plan = {.max_steps = length_.steps,
                      .num_train_epochs = length_.epochs,
                      .logging_steps = options.logging_steps,
                      .eval_steps = steps_between_tests(options),
                      .save_steps = options.save_steps,
                      .train_batch_size = options.per_device_train_batch_size},
             .optimizer = optimizer_numbers(options),
             .flags = flags_to_keep(options, data, length_.steps, world.world_size)},
        story_(options, world, length_),
        checkpoints_(
            options.output_dir, options.save_total_limit,
            [this](const Error& error) { story_.warn(fmt::format("{}; training goes on", to_string(error))); }),
        is_cpu_(is_cpu) {}

  Result<Ending> run() {
    if (auto started = start(); !started) return started.error();
    note_first_sigterm(saves());
    const bool trains = step_ < length_.steps;
    if (auto tested = test_what_was_missed(); !tested) return tested.error();
    for (std::uint64_t epoch = step_ / length_.steps_per_epoch; step_ < length_.steps && !stopped_; ++epoch) {
      if (auto done = train_epoch(epoch); !done) return done.error();
    }
    story_.end_line();
    if (stopped_) return save_and_stop();
    if (!trains && !tested_) {
      if (auto tested = test({}); !tested) return tested.error();
    }
    settle_checkpoint();
    const auto kept = checkpoints_.finish();
    note_first_sigterm(false);
    if (options_.load_best_model_at_end) {
      if (auto tested = test_best(); !tested) return tested.error();
    }
    if (auto predicted = predict(); !predicted) return predicted.error();
    resident_.reset();  // a graph goes before the communicator that it uses
    if (auto finished = comm_.finish(); !finished) return finished.error();
    if (!kept) return kept.error();
    if (auto reported = story_.finish(); !reported) return reported.error();
    if (missing_best_) return *missing_best_;
    return Ending::done;
  }

  /// Before others write to the terminal.
  void end_line() { story_.end_line(); }

  /// A checkpoint that is being written, where the job ends by an error.
  void finish_writing() { checkpoints_.settle(); }

 private:
  static std::vector<Range> places(const Model& model) {
    std::vector<Range> result;
    for (const Parameter& parameter : model.parameters) result.push_back({parameter.first, parameter.count});
    return result;
  }

  static BucketCaps caps(const TrainOptions& options) {
    const auto bytes = static_cast<std::size_t>(options.ddp_bucket_cap_mb * 1024 * 1024);
    return {.first_bytes = std::min(kFirstBucketBytes, bytes), .bytes = bytes};
  }

  static Schedule schedule_of(const TrainOptions& options, std::uint64_t steps) {
    const double warmup =
        options.warmup_steps < 1 ? std::ceil(options.warmup_steps * static_cast<double>(steps)) : options.warmup_steps;
    return {.type = options.lr_scheduler_type,
            .learning_rate = options.learning_rate,
            .warmup_steps = static_cast<std::uint64_t>(warmup),
            .total_steps = steps};
  }

  static std::uint32_t steps_between_tests(const TrainOptions& options) {
    return options.eval_steps > 0 ? options.eval_steps : options.logging_steps;
  }

  /// Rank 0's weights to all, as DDP does, though every rank could draw the same.
  Result<void> start() {
    if (length_.steps == 0) {
      return make_error(
          Errc::invalid_argument,
          fmt::format("no batch can be filled: {} images for {} ranks are {} each, and a batch has {}",
                      data_.train.count(), world_.world_size, sampler_.size(), options_.per_device_train_batch_size),
          {}, "use fewer ranks, a smaller --per_device_train_batch_size, or no --dataloader_drop_last");
    }
    const std::uint32_t batches = options_.gradient_accumulation_steps;
    story_.say("{} train and {} test images ({}), {} steps of {} x {}{} images", data_.train.count(),
               data_.test.count(), data_.description, length_.steps, world_.world_size,
               batches == 1 ? "" : fmt::format("{} x ", batches), options_.per_device_train_batch_size);
    if (auto same = check_same_job(comm_, world_.host, job_facts(options_, data_)); !same) return same;
    const auto begun = start_state(
        options_, run_, comm_, backend_, [this](const std::string& line) { story_.say("{}", line); }, story_.course);
    if (!begun) return begun.error();
    run_.optimizer = begun->optimizer;
    schedule_.learning_rate = begun->optimizer.learning_rate;
    step_ = begun->steps.done;
    skipped_ = begun->steps.skipped;
    begun_untested_ = step_ > 0 && step_ <= length_.steps && !begun->tested;
    if (step_ >= length_.steps) story_.say("nothing is left to train: {} of {} steps are done", step_, length_.steps);
    if (step_ >= length_.steps && !begun_untested_) return ok;  // what reports and losses say stays as it is
    if (auto begun_story = story_.begin(step_); !begun_story) return begun_story;
    return losses_.begin(step_);
  }

  Result<void> train_epoch(std::uint64_t epoch) {
    const std::uint64_t begun = step_ - epoch * length_.steps_per_epoch;  // of this epoch's steps, by an earlier run
    std::uint64_t first = begun * options_.gradient_accumulation_steps;
    load_epoch(epoch, first);
    while (first < length_.batches_per_epoch && step_ < length_.steps && !stopped_) {
      if (const std::uint64_t ahead = resident_steps_from(first); ahead > 0) {
        if (auto trained = train_resident(epoch, first, ahead); !trained) return trained;
        first = step_ - epoch * length_.steps_per_epoch;
        load_epoch(epoch, first);
        continue;
      }
      const std::uint64_t last =
          std::min<std::uint64_t>(first + options_.gradient_accumulation_steps, length_.batches_per_epoch);
      ++step_;
      const auto loss = train_step(epoch, {.first = first, .last = last});
      if (!loss) return loss.error();
      if (ordinary_steps_ < kOrdinarySteps) ++ordinary_steps_;
      if (auto logged = log_step(*loss); !logged) return logged;
      if (stopped_) return ok;
      if (auto done = after_step(epoch); !done) return done;
      first = last;
    }
    return ok;
  }

  /// How many steps from batch `first` on the device may take by itself: as many as the epoch has full batches, and the
  /// job steps. With these flags a step is a batch.
  std::uint64_t resident_steps_from(std::uint64_t first) const {
    if (!options_.cuda_graph || resident_refused_ || ordinary_steps_ < kOrdinarySteps) return 0;
    const std::uint64_t full = sampler_.size() / options_.per_device_train_batch_size;
    return first < full ? std::min(full - first, length_.steps - step_) : 0;
  }

  /// Steps from batch `first` on without the host between them. It looks at them where the ordinary loop would do
  /// something that needs them, and where no more may be in flight.
  Result<void> train_resident(std::uint64_t epoch, std::uint64_t first, std::uint64_t count) {
    if (!resident_) {
      if (auto made = make_resident(); !made || resident_refused_) return made;
    }
    std::vector<ResidentStep> steps;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t position = (first + i) * options_.per_device_train_batch_size;
      steps.push_back({.first_position = position,
                       .first_sample = first_sample(epoch, position),
                       .optimizer_step = step_ + 1 + i - skipped_,
                       .learning_rate = learning_rate_of(schedule_, step_ + 1 + i)});
    }
    if (auto begun = resident_->begin(sampler_.epoch(epoch), steps); !begun) return begun;
    std::uint64_t unseen = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      ++step_;
      if (auto launched = resident_->launch(); !launched) return launched;
      mark_batch();
      ++unseen;
      const bool look = is_time_to_log() || is_time_to_save() || is_time_to_test();
      if (!look && unseen < kStepsInFlight && i + 1 < count) continue;
      if (auto seen = look_at_resident(std::exchange(unseen, 0)); !seen) return seen;
      if (stopped_) return ok;
      if (auto done = after_step(epoch); !done) return done;
    }
    return ok;
  }

  /// All ranks the same way: a device that cannot is told of, and the job goes on as without the flag.
  Result<void> make_resident() {
    const ResidentPlan plan = {.images = &data_.train,
                               .batch_size = options_.per_device_train_batch_size,
                               .most_positions = sampler_.size(),
                               .most_steps = length_.steps_per_epoch,
                               .sample_stride = world_.world_size,
                               .halts = options_.on_nan == OnNan::stop,
                               .ready = [this](std::size_t parameter) { return reducer_.ready(parameter); },
                               .averaged = [this] { return reducer_.finish_queued_step(); },
                               .drained = [this] { return comm_.drain(); }};
    if (is_cpu_) {
      resident_ = make_host_steps(backend_, plan);
      return ok;
    }
    auto made = backend_.make_resident(plan);
    if (!made && made.error().code != Errc::unsupported) return made.error();
    if (!made) reducer_.abandon_step();
    if (!made) story_.warn(fmt::format("--cuda_graph: {}", to_string(made.error())));
    const std::array<double, 1> refused = {made ? 0.0 : 1.0};
    const auto sum = sum_over_ranks(comm_, refused);
    if (!sum) return sum.error();
    resident_refused_ = sum->front() > 0;
    if (resident_refused_) {
      story_.say("--cuda_graph: {:.0f} of {} ranks cannot; every step is started by the host", sum->front(),
                 world_.world_size);
    } else {
      resident_ = std::move(*made);
    }
    return ok;
  }

  /// The last `count` steps, up to step_: their losses from all ranks, and whether a rank was told to stop.
  Result<void> look_at_resident(std::uint64_t count) {
    auto said = resident_->collect();
    if (!said) return said.error();
    if (said->size() != count) {
      return make_error(Errc::internal, fmt::format("{} losses of {} steps", said->size(), count));
    }
    mark_batch();
    norm_.reset();
    if (is_time_to_log() && story_.keeps_records()) {
      const auto norm = backend_.gradient_norm();  // of the last step: AdamW has left it
      if (!norm) return norm.error();
      norm_ = *norm;
    }
    said->push_back(is_stop_noted() ? 1.0 : 0.0);
    const auto all = gather_over_ranks(comm_, *said);
    if (!all) return all.error();
    double stops = 0;
    for (const auto& rank : *all) stops += rank.back();
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t step = step_ - count + 1 + i;
      double sum = 0;
      for (std::uint32_t rank = 0; rank < world_.world_size; ++rank) {
        const double loss = (*all)[rank][i];
        if (options_.on_nan == OnNan::stop && !std::isfinite(loss)) return diverged(step, loss, rank);
        sum += loss;
      }
      story_.add_images(std::uint64_t{options_.per_device_train_batch_size} * world_.world_size);
      const double loss = sum / world_.world_size;
      const bool is_last = step == step_;  // the others are none that is logged
      story_.step_done(
          step, loss,
          {.gradient_norm = is_last ? norm_ : std::nullopt, .learning_rate = learning_rate_of(schedule_, step)},
          is_last && is_time_to_log());
      if (auto written = losses_.write(step, loss); !written) return written;
    }
    stopped_ = saves() && stops > 0;
    return ok;
  }

  /// The epoch's batches from `first` on, as far as the job needs them.
  void load_epoch(std::uint64_t epoch, std::uint64_t first) {
    // No more than an epoch's, so that the product of a very long job does not wrap.
    const std::uint64_t wanted =
        std::min(length_.steps - step_, length_.steps_per_epoch) * options_.gradient_accumulation_steps;
    const auto order = std::make_shared<const std::vector<std::uint32_t>>(sampler_.epoch(epoch));
    loader_.begin(first, std::min<std::uint64_t>(first + wanted, length_.batches_per_epoch),
                  [order, &images = data_.train, size = std::size_t{options_.per_device_train_batch_size}](
                      std::uint64_t index, FilledBatch& into) -> Result<void> {
                    const std::size_t begin = index * size;
                    fill(images, std::span(*order).subspan(begin, std::min(size, order->size() - begin)), into);
                    return ok;
                  });
  }

  bool is_time_to_test() const {
    return options_.eval_strategy == EvalStrategy::steps && step_ % steps_between_tests(options_) == 0;
  }

  /// In this order, so that a checkpoint knows what its test gave.
  Result<void> after_step(std::uint64_t epoch) {
    const bool epoch_ends = step_ % length_.steps_per_epoch == 0 || step_ == length_.steps;
    if (epoch_ends) {
      if (auto equal = check_parameters(epoch); !equal) return equal;
    }
    if (const auto when = due_test()) {
      if (auto tested = test_and_keep(*when); !tested) return tested;
    }
    return is_time_to_save() ? save() : Result<void>(ok);
  }

  /// How the line of the test after this step begins; nothing: none is due.
  std::optional<std::string> due_test() const {
    if (step_ == length_.steps) return std::string();
    if (options_.eval_strategy == EvalStrategy::epoch && step_ % length_.steps_per_epoch == 0) {
      return fmt::format("epoch {}/{}: ", step_ / length_.steps_per_epoch, length_.epochs);
    }
    if (is_time_to_test()) return fmt::format("step {}/{}: ", step_, length_.steps);
    return std::nullopt;
  }

  /// A SIGTERM ends a job before the test of its last step, which could take longer than the launcher waits. The job
  /// that goes on makes up for it, and where that step's checkpoint counts as one of the job's, it learns of the test.
  Result<void> test_what_was_missed() {
    const auto when = due_test();
    if (!begun_untested_ || !when) return ok;
    if (auto tested = test_and_keep(*when); !tested) return tested;
    return is_time_to_save() ? save() : Result<void>(ok);
  }

  /// Batches `first` … `last` - 1 of an epoch.
  struct Batches {
    std::uint64_t first, last;
  };

  /// The mean of the batches' mean losses on this rank. Their gradients are added up here, and averaged over the ranks
  /// while the last batch's backward pass runs.
  Result<double> train_step(std::uint64_t epoch, Batches batches) {
    const auto parts = static_cast<double>(batches.last - batches.first);
    double loss = 0;
    for (std::uint64_t b = batches.first; b < batches.last; ++b) {
      const auto filled = loader_.next();
      if (!filled) return filled.error();
      Batch batch = {.images = (*filled)->images, .labels = (*filled)->labels};
      const std::size_t first = b * options_.per_device_train_batch_size;
      batch.samples = {.first = first_sample(epoch, first), .stride = world_.world_size};
      const GradientUse use{.scale = static_cast<float>(1 / parts), .accumulate = b > batches.first};
      const bool last = b + 1 == batches.last;
      const auto result = backend_.forward_backward(
          batch, use, [&](std::size_t parameter) { return last ? reducer_.ready(parameter) : Result<void>(ok); });
      if (!result) return result.error();
      loss += result->loss_sum / static_cast<double>(result->count) / parts;
      story_.add_images(batch.labels.size() * world_.world_size);
      mark_batch();
    }
    if (options_.on_nan == OnNan::stop && !std::isfinite(loss)) return diverged(step_, loss, world_.rank);
    if (auto averaged = reducer_.finish_step(); !averaged) return averaged.error();
    norm_.reset();
    const bool clips = options_.max_grad_norm > 0;
    if (options_.on_nan == OnNan::skip || (!clips && is_time_to_log() && story_.keeps_records())) {
      const auto norm = backend_.gradient_norm();
      if (!norm) return norm.error();
      norm_ = *norm;
    }
    if (options_.on_nan == OnNan::skip && !std::isfinite(*norm_)) {
      ++skipped_;
      if (world_.rank == 0) {
        story_.warn(fmt::format("step {}: the gradient is not finite; the step is skipped", step_));
      }
      return loss;
    }
    if (clips) {
      const auto clipped = backend_.clip_gradient(options_.max_grad_norm);
      if (!clipped) return clipped.error();
      norm_ = *clipped;
    }
    if (auto stepped = backend_.optimizer_step(step_ - skipped_, learning_rate_of(schedule_, step_)); !stepped) {
      return stepped.error();
    }
    return loss;
  }

  /// The number of the image at `position` of this rank's order of an epoch.
  std::uint64_t first_sample(std::uint64_t epoch, std::uint64_t position) const {
    return (epoch * sampler_.size() + position) * world_.world_size + world_.rank;
  }

  /// Before anybody's weights know of it: the average would carry it to all. Of another rank only the number is known.
  Error diverged(std::uint64_t step, double loss, std::uint32_t rank) const {
    const std::string host = rank == world_.rank ? " on " + world_.host : std::string();
    Error error = make_error(
        Errc::internal, fmt::format("step {}: the loss is {}", step, std::isnan(loss) ? "not a number" : "infinite"),
        world_.world_size == 1 ? std::string() : fmt::format("rank {}{}", rank, host),
        "a lower --learning_rate or --max_grad_norm 1 may help; --on_nan skip leaves such steps out");
    error.code = std::make_error_code(std::errc::argument_out_of_domain);
    return error;
  }

  bool saves() const { return options_.save_strategy != SaveStrategy::no; }

  bool is_time_to_save() const {
    switch (options_.save_strategy) {
      case SaveStrategy::no: return false;
      case SaveStrategy::steps: return step_ % options_.save_steps == 0 || step_ == length_.steps;
      case SaveStrategy::epoch: return step_ % length_.steps_per_epoch == 0 || step_ == length_.steps;
    }
    return false;
  }

  /// All ranks are equal, so rank 0's copy is the state of all.
  Result<void> save() {
    if (world_.rank != 0) return ok;
    settle_checkpoint();
    auto& best = story_.course.best;
    if (tested_ && tested_->step == step_ && is_better(options_, *tested_, best)) {
      best_before_ = best;
      best = BestModel{.metric = *value_in(*tested_, record_name(*options_.metric_for_best_model)),
                       .step = step_,
                       .checkpoint = checkpoint_folder(options_.output_dir, step_),
                       .by = yardstick(options_)};
    }
    auto state = state_after({.done = step_, .skipped = skipped_}, options_, run_, story_.course, comm_, backend_);
    if (!state) return state.error();
    checkpoints_.save(std::move(*state));
    saved_step_ = step_;
    return ok;
  }

  /// Waits for the one that is being written. One that is not on the disk is not the best.
  void settle_checkpoint() {
    auto& best = story_.course.best;
    if (!checkpoints_.settle() && best && best->step == saved_step_) best = best_before_;
  }

  /// The end that a SIGTERM asked for: what is done is kept.
  Result<Ending> save_and_stop() {
    mark_saving();
    if (saved_step_ != step_) {
      if (auto saved = save(); !saved) return saved.error();
    }
    const auto kept = checkpoints_.finish();
    // Nobody leaves before the file is there: the first rank that goes ends the job.
    if (auto met = comm_.barrier(); !met) return met.error();
    if (!kept) return kept.error();
    if (const auto reported = story_.finish(); !reported) return reported.error();
    story_.say("stopped by SIGTERM after step {}/{}; {} has it", step_, length_.steps,
               world_.rank == 0 ? checkpoints_.last() : "rank 0's checkpoint");
    return Ending::stopped;
  }

  bool is_time_to_log() const {
    return step_ % options_.logging_steps == 0 || step_ == length_.steps || (step_ == 1 && options_.logging_first_step);
  }

  /// The mean over the ranks of their means: with equal batches that of one process with all of their images. On the
  /// same way the ranks of a job that saves learn whether one of them was told to stop: all find the same, after the
  /// same step.
  Result<void> log_step(double mine) {
    const bool logged = is_time_to_log();
    const StepFacts facts{.gradient_norm = norm_, .learning_rate = learning_rate_of(schedule_, step_)};
    if (!logged && !losses_.wanted() && !saves()) {
      story_.step_done(step_, {}, facts, false);
      return ok;
    }
    const std::array<double, 2> said = {mine, is_stop_noted() ? 1.0 : 0.0};
    const auto sum = sum_over_ranks(comm_, said);
    if (!sum) return sum.error();
    const double loss = sum->front() / world_.world_size;
    stopped_ = saves() && sum->back() > 0;
    story_.step_done(step_, loss, facts, logged);
    return losses_.write(step_, loss);
  }

  Result<void> check_parameters(std::uint64_t epoch) {
    const auto parameters = backend_.copy_parameters();
    if (!parameters) return parameters.error();
    const auto hash = digest(std::as_bytes(std::span(*parameters)));
    if (!hash) return hash.error();
    if (auto equal = check_equal_on_all_ranks(comm_, *hash, fmt::format("parameters after epoch {}", epoch + 1));
        !equal) {
      return equal;
    }
    story_.say("epoch {}/{} done: parameter hash {}{}", epoch + 1, length_.epochs, hash->substr(0, kShownHash),
               world_.world_size == 1 ? "" : fmt::format(", equal on all {} ranks", world_.world_size));
    return ok;
  }

  Result<void> test(const std::string& when) {
    const auto begun = Story::Clock::now();
    const auto found = evaluate(backend_, comm_, data_.test, options_.per_device_eval_batch_size);
    if (!found) return found.error();
    const double accuracy = found->correct / found->count;
    story_.say("{}test accuracy {:.2f} % ({:.0f}/{:.0f}), loss {:.4f}", when, 100 * accuracy, found->correct,
               found->count, found->loss);
    tested_ = LogRecord{.step = step_,
                        .epoch = story_.epochs_after(step_),
                        .values = {{"eval_loss", found->loss},
                                   {"eval_accuracy", accuracy},
                                   {"eval_runtime", found->seconds},
                                   {"eval_samples_per_second", found->count / found->seconds}}};
    story_.leave_out(Story::Clock::now() - begun);
    return ok;
  }

  /// As a test after a step, and its record is kept.
  Result<void> test_and_keep(const std::string& when) {
    if (auto tested = test(when); !tested) return tested;
    story_.keep(*tested_);
    return ok;
  }

  /// The best checkpoint's weights, tested once more.
  Result<void> test_best() {
    const auto& best = story_.course.best;
    if (world_.rank == 0 && !best)
      log_warning("--load_best_model_at_end: there is no checkpoint whose test gave a number");
    const auto loaded = load_best(best, comm_, backend_, missing_best_);
    if (!loaded) return loaded.error();
    if (!*loaded) return ok;
    if (best) weights_step_ = best->step;
    if (best) story_.say("the best model is that of step {}: {}", best->step, best->checkpoint);
    return test("best model: ");
  }

  Result<void> predict() {
    if (options_.predict.empty()) return ok;
    if (auto written = write_predictions(options_.predict, data_.test, options_.per_device_eval_batch_size,
                                         weights_step_.value_or(step_), comm_, backend_, mark_batch);
        !written) {
      return written;
    }
    story_.say("logits of {} test images are in {}", data_.test.count(), options_.predict);
    return ok;
  }

  static void fill(const Dataset& from, std::span<const std::uint32_t> positions, FilledBatch& into) {
    into.images.resize(positions.size() * kImageValues);
    into.labels.resize(positions.size());
    fill_batch(from, positions, into.images, into.labels);
  }

  const TrainOptions& options_;
  const World& world_;
  Backend& backend_;
  Comm& comm_;
  DataSource& data_;
  LossLog& losses_;
  BatchLoader& loader_;
  DistributedSampler sampler_;
  GradientReducer reducer_;
  TrainingLength length_;
  Schedule schedule_;
  RunFacts run_;
  Story story_;
  CheckpointWriter checkpoints_;
  std::optional<LogRecord> tested_;       // by the last test
  std::optional<BestModel> best_before_;  // the one that is being written
  std::optional<Error> missing_best_;
  std::optional<std::uint64_t> weights_step_;  // rank 0's, where the weights are no longer the last step's
  std::optional<double> norm_;                 // of the step's gradient, where it is known
  const bool is_cpu_;
  std::unique_ptr<ResidentSteps> resident_;  // from the first of its steps on
  bool resident_refused_ = false;
  std::uint64_t ordinary_steps_ = 0;  // of this run, up to kOrdinarySteps
  bool stopped_ = false;
  std::uint64_t skipped_ = 0;  // steps that changed no weight, for their gradient was no number
  std::uint64_t saved_step_ = 0;
  bool begun_untested_ = false;  // the checkpoint gone on from knows of no test of its step
  std::uint64_t step_ = 0;       // of the whole run, from 1
};

void print_line(const std::string& line) {
  write_output(stdout, line + "\n");
}

/// The job's rank as long as it runs: what it had begun to write is on the disk before anybody is told how it ended.
Result<Ending> run_to_end(Training& training) {
  Result<Ending> ending = no_memory();
  try {
    ending = training.run();
  } catch (const std::bad_alloc&) {
  }
  training.end_line();
  if (!ending) training.finish_writing();
  return ending;
}

/// Where rank 0 makes files in output_dir, nobody else does meanwhile.
Result<OutputLock> lock_output(const TrainOptions& options, const World& world) {
  if (options.output_dir.empty() || world.rank != 0) return OutputLock();
  const bool reports = options.logging_dir.empty() && (options.report_json || options.report_tensorboard);
  if (options.save_strategy != SaveStrategy::no || reports) {
    std::error_code ignored;  // who needs the folder says why there is none
    std::filesystem::create_directories(options.output_dir, ignored);
  }
  return OutputLock::take(options.output_dir, world.host);
}

}  // namespace

Error no_memory() {
  return make_error(
      Errc::out_of_resources, "there is not enough memory", {},
      "a smaller --per_device_train_batch_size, --per_device_eval_batch_size or --train_samples needs less");
}

Result<Ending> train(const TrainOptions& options, World& world, const DevicePlan& plan,
                     const std::function<void(const Result<Ending>&)>& at_end) {
  auto data = load_data(options);
  if (!data) return data.error();
  const auto lock = lock_output(options, world);
  if (!lock) return lock.error();
  auto losses = LossLog::open(world.rank == 0 ? options.loss_file : std::string(), !options.loss_file.empty());
  if (!losses) return losses.error();
  if (world.rank == 0 && !options.predict.empty()) {
    if (auto good = prepare_predictions(options.predict, options.loss_file); !good) return good.error();
  }
  auto engine = make_engine(options, world, plan);
  if (!engine) return engine.error();
  if (world.rank == 0) {
    print_line(fmt::format("llmlaunch-train {}: {}, {}", LLMLAUNCH_VERSION,
                           world.world_size == 1 ? "1 rank" : fmt::format("{} ranks", world.world_size),
                           engine->comm->description()));
  }
  // From every rank: which device a host gave is the first thing to look at when one of them is slow.
  print_line(fmt::format("device {}{}", engine->backend->description(),
                         plan.why.empty() ? std::string() : fmt::format("; {}", plan.why)));
  if (world.rank == 0) {
    for (const std::string& note : options.notes) log_warning("{}", note);
  }
  if (options.cuda_graph && !plan.cuda && world.rank == 0) {
    print_line("--cuda_graph: no GPU here; the host takes the steps of its loop");
  }
  const auto loader = BatchLoader::make(options.dataloader_num_workers);
  if (!loader) return loader.error();
  Training training(options, world, *engine, *data, *losses, **loader, !plan.cuda);
  auto ending = run_to_end(training);
  if (ending && *ending == Ending::done) {
    if (const auto told = output_written(); !told) ending = told.error();
  }
  at_end(ending);
  return ending;
}

}  // namespace llmlaunch::trainer
