// The training loop: the same story on every rank, told by rank 0. Data, weights, steps with averaged gradients, the
// check after each epoch, the test. Which device and which network is decided elsewhere.
#include "trainer/train.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <new>
#include <string>
#include <utility>

#include "rendezvous/base/counted.hpp"
#include "rendezvous/base/log.hpp"
#include "trainer/agreement.hpp"
#include "trainer/batch_loader.hpp"
#include "trainer/checkpoint_keeper.hpp"
#include "trainer/data_source.hpp"
#include "trainer/ddp.hpp"
#include "trainer/files.hpp"
#include "trainer/host_loop.hpp"
#include "trainer/job_facts.hpp"
#include "trainer/loss_log.hpp"
#include "trainer/model_check.hpp"
#include "trainer/output.hpp"
#include "trainer/output_folders.hpp"
#include "trainer/output_lock.hpp"
#include "trainer/predictions.hpp"
#include "trainer/resident_loop.hpp"
#include "trainer/resume.hpp"
#include "trainer/same_everywhere.hpp"
#include "trainer/same_program.hpp"
#include "trainer/stop.hpp"
#include "trainer/stop_story.hpp"
#include "trainer/training_job.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr std::chrono::seconds kLastWrite{60};

class Training {
 public:
  /// All of these outlive it. `lock` is that of output_dir.
  Training(TrainingJob& job, BatchLoader& loader, bool is_cpu, OutputLock& lock)
      : job_(job), host_loop_(job, loader), resident_loop_(job, is_cpu), checkpoints_(job, locked(lock)), model_(job) {}

  Result<Ending> run() {
    if (auto started = start(); !started) return started.error();
    note_first_stop(job_.agenda.saves(), job_.world.client == nullptr);
    if (auto trained = train(); !trained) return trained.error();
    return job_.stopped ? save_and_stop() : finish();
  }

  /// A checkpoint that is on its way, where the job ends by an error. Not for ever: the disk may hang.
  void finish_writing() { checkpoints_.settle_within(kLastWrite); }

  /// Before others write to the terminal.
  void end_line() { job_.story.end_line(); }

 private:
  /// A checkpoint is not written where another job is at work by now, for somebody has removed the lock.
  static CheckpointWriter::Write locked(OutputLock& lock) {
    return [&lock](const std::string& output_dir, const TrainingState& state) -> Result<std::string> {
      if (auto kept = lock.keep(); !kept) return kept.error();
      return save_checkpoint(output_dir, state);
    };
  }

  Result<void> start() {
    const TrainOptions& options = job_.options;
    // What follows from flags and data is the same on all ranks only then.
    if (auto same = check_same_everywhere(job_); !same) return same;
    job_.run.flags = flags_to_keep(options, job_.data, length().steps, job_.world.world_size);
    keep_order_of_sums();
    if (auto enough = check_length(); !enough) return enough;
    const std::uint32_t batches = options.gradient_accumulation_steps;
    job_.story.say("{} train and {} ({}), {} of {} x {}{} images", job_.data.train->count(),
                   counted(job_.data.test->count(), "test image"), job_.data.description,
                   counted(length().steps, "step"), job_.world.world_size,
                   batches == 1 ? "" : fmt::format("{} x ", batches), options.per_device_train_batch_size);
    warn_of_warmup();
    return begin_or_resume();
  }

  /// What no flag says, and what a sum's last bits depend on: threads, and from three ranks on who adds them up.
  void keep_order_of_sums() {
    job_.run.flags.emplace_back("the device", job_.backend.description());
    if (job_.world.world_size < 3) return;
    const std::string text = job_.comm.description();  // "shared memory, gloo on 10.0.0.7"
    job_.run.flags.emplace_back("what averages", text.substr(0, text.find(" on ")));
  }

  void warn_of_warmup() {
    const std::uint64_t warmup = job_.schedule.warmup_steps;
    const bool has_warmup = warmup > 0 && job_.options.lr_scheduler_type != SchedulerType::constant;
    if (job_.world.rank != 0 || !has_warmup || warmup < length().steps) return;
    job_.story.warn(fmt::format("--warmup_steps {}: the job has {}, and its learning rate never is --learning_rate {}",
                                job_.options.warmup_steps, counted(length().steps, "step"),
                                job_.options.learning_rate));
  }

  Result<void> check_length() const {
    if (length().steps > 0) return ok;
    return told_once(
        job_.comm,
        make_error(Errc::invalid_argument,
                   fmt::format("no batch can be filled: {} for {} {} {} each, and a batch has {}",
                               counted(job_.data.train->count(), "image"), counted(job_.world.world_size, "rank"),
                               job_.data.train->count() == 1 ? "is" : "are", job_.sampler.size(),
                               job_.options.per_device_train_batch_size),
                   {}, "use fewer ranks, a smaller --per_device_train_batch_size, or no --dataloader_drop_last"));
  }

  /// Rank 0's weights to all, as DDP does, though every rank could draw the same.
  Result<void> begin_or_resume() {
    const auto begun = start_state(
        job_.options, job_.world.host, job_.run, job_.comm, job_.backend,
        [this](const std::string& line) { job_.story.say("{}", line); }, job_.story.course);
    if (!begun) return begun.error();
    job_.run.optimizer = begun->optimizer;
    job_.schedule.learning_rate = begun->optimizer.learning_rate;
    job_.step = job_.steps_before = begun->steps.done;
    job_.skipped = begun->steps.skipped;
    job_.loss_scale = begun->steps.loss_scale;
    begun_untested_ = job_.step > 0 && job_.step <= length().steps && !begun->tested;
    if (job_.step > 0) job_.reducer.resume();
    const bool is_done = job_.step >= length().steps;
    if (is_done) {
      if (job_.step > length().steps) {
        job_.story.say("nothing is left to train: {} done, and {} asked for", counted(job_.step, "step"),
                       length().steps);
      } else {
        job_.story.say("nothing is left to train: {} of {} {} done", job_.step, counted(length().steps, "step"),
                       length().steps == 1 ? "is" : "are");
      }
    }
    if (is_done && !begun_untested_) return ok;  // what reports and losses say stays as it is
    const bool tests_again = begun_untested_ && job_.agenda.due_test(job_.step);
    if (auto begun_story = job_.story.begin(job_.step, tests_again); !begun_story) return begun_story;
    return job_.losses.begin(job_.step);
  }

  Result<void> train() {
    const bool trains = job_.step < length().steps;
    if (auto tested = test_what_was_missed(); !tested) return tested;
    for (std::uint64_t epoch = job_.step / length().steps_per_epoch; !is_over(); ++epoch) {
      if (auto done = train_epoch(epoch); !done) return done;
    }
    job_.story.end_line();
    return trains || job_.last_test || job_.stopped ? Result<void>(ok) : model_.test({});
  }

  /// A SIGTERM ends a job before the test of its last step, which could take longer than the launcher waits. The job
  /// that goes on makes up for it, and where that step's checkpoint counts as one of the job's, it learns of the test.
  Result<void> test_what_was_missed() {
    const auto when = job_.agenda.due_test(job_.step);
    if (!begun_untested_ || !when) return ok;
    if (auto tested = model_.test_and_keep(*when); !tested || job_.stopped) return tested;
    return save_what_is_due();
  }

  Result<void> train_epoch(std::uint64_t epoch) {
    // Only for steps of the host: others would wait for an order and for images that nobody takes.
    bool is_loaded = false;
    while (!is_over() && next_batch(epoch) < length().batches_per_epoch) {
      const std::uint64_t first = next_batch(epoch);
      if (const std::uint64_t ahead = resident_loop_.steps_from(first); ahead > 0) {
        if (auto trained = resident_loop_.train(epoch, first, ahead, [&] { return after_step(epoch); }); !trained) {
          return trained;
        }
        is_loaded = false;
      } else {
        if (!std::exchange(is_loaded, true)) host_loop_.load(epoch, first);
        if (auto trained = take_host_step(epoch, first); !trained) return trained;
      }
    }
    return ok;
  }

  Result<void> take_host_step(std::uint64_t epoch, std::uint64_t first) {
    const std::uint64_t last =
        std::min<std::uint64_t>(first + job_.options.gradient_accumulation_steps, length().batches_per_epoch);
    if (auto taken = host_loop_.step(epoch, first, last); !taken) return taken;
    resident_loop_.host_step_taken();
    return job_.stopped ? Result<void>(ok) : after_step(epoch);
  }

  /// In this order, so that a checkpoint knows what its test gave.
  Result<void> after_step(std::uint64_t epoch) {
    if (job_.agenda.ends_epoch(job_.step)) {
      if (auto equal = model_.compare_ranks(epoch); !equal) return equal;
    }
    if (const auto when = job_.agenda.due_test(job_.step)) {
      if (auto tested = model_.test_and_keep(*when); !tested || job_.stopped) return tested;
    }
    return save_what_is_due();
  }

  Result<void> save_what_is_due() {
    if (job_.agenda.saves_best()) return checkpoints_.save_if_best();
    return job_.agenda.is_time_to_save(job_.step) ? checkpoints_.save() : Result<void>(ok);
  }

  /// The first batch of an epoch that no step has taken yet.
  std::uint64_t next_batch(std::uint64_t epoch) const {
    return (job_.step - epoch * length().steps_per_epoch) * job_.options.gradient_accumulation_steps;
  }

  bool is_over() const { return job_.stopped || job_.step >= length().steps; }

  Result<Ending> finish() {
    checkpoints_.settle();
    const auto kept = checkpoints_.finish();
    note_first_stop(false);
    if (job_.agenda.saves() && (job_.options.load_best_model_at_end || !job_.options.predict.empty())) {
      const auto told = is_told_to_stop();
      if (!told) return told.error();
      if (*told) return stop(kept);
    }
    if (job_.options.load_best_model_at_end) {
      if (auto tested = model_.test_best(kept.has_value()); !tested) return tested.error();
    }
    if (job_.agenda.saves_best()) tell_what_was_saved(kept.has_value());
    if (auto predicted = model_.predict(); !predicted) return predicted.error();
    if (auto learnt = model_.check_learnt(); !learnt) return learnt.error();
    resident_loop_.close();
    if (auto finished = job_.comm.finish(); !finished) return finished.error();
    if (!kept) return kept.error();
    if (auto reported = finish_reports(); !reported) return reported.error();
    if (model_.missing_best()) return *model_.missing_best();
    return Ending::done;
  }

  /// Any rank, behind the last step that asks: what is left is not training, and may take long.
  Result<bool> is_told_to_stop() const {
    const std::array<double, 1> told = {is_stop_noted() ? 1.0 : 0.0};
    const auto sum = sum_over_ranks(job_.comm, told);
    if (!sum) return sum.error();
    return sum->front() > 0;
  }

  /// The last step's weights go with the process, unless they are the best; with --load_best_model_at_end that is said.
  /// Where not `all` could be saved, the best one may be missing, and the job ends with the words for that.
  void tell_what_was_saved(bool all) {
    const auto& best = job_.story.course.best;
    if (job_.world.rank != 0 || job_.options.load_best_model_at_end) return;
    if (best) {
      job_.story.say("saved is the best model{}, that of step {}: {}", all ? "" : " of those that could be saved",
                     best->step, best->checkpoint);
    } else if (all) {
      job_.story.warn("--save_strategy best: no test gave a number, and no model is saved");
    }
  }

  /// What is missing in the files that grow beside the training.
  Result<void> finish_reports() {
    if (auto reported = job_.story.finish(); !reported) return reported;
    return job_.losses.finish();
  }

  /// Of a job that was stopped, which ends by the signal and with the name of its checkpoint.
  void warn_of_loss(const Result<void>& written) {
    if (!written) job_.story.warn(fmt::format("{}: {}", written.error().where, written.error().what));
  }

  /// The end that a signal asked for: what is done is kept.
  Result<Ending> save_and_stop() {
    mark_saving();
    // Where no step was taken, the checkpoint that it went on from stays as it is.
    if (job_.step > job_.steps_before) {
      if (auto saved = checkpoints_.save_once(); !saved) return saved.error();
    }
    return stop(checkpoints_.finish());
  }

  Result<Ending> stop(const Result<void>& kept) {
    // Nobody leaves before the file is there: the first rank that goes ends the job.
    const auto told = who_was_told_to_stop(job_.world, job_.comm);
    if (!told) return told.error();
    const std::string stopped = fmt::format("stopped by {} after step {}/{}", told->by, job_.step, length().steps);
    if (!kept && !checkpoints_.has_saved()) {
      Error unsaved = kept.error();
      unsaved.what = fmt::format("{}; {}", stopped, unsaved.what);
      return unsaved;
    }
    for (const auto& written : {kept, job_.story.finish(), job_.losses.finish()}) warn_of_loss(written);
    job_.story.say("{}; {}", stopped, who_has_it());
    // The launcher shows the last words of the rank that ends first.
    if (job_.world.rank != 0 && !told->told_here.empty()) log_warning("stopped by {}", told->told_here);
    return Ending::stopped;
  }

  std::string who_has_it() const {
    if (job_.world.rank != 0) return "rank 0's checkpoint has it";
    if (checkpoints_.has_saved()) return checkpoints_.last() + " has it";
    return job_.step > job_.steps_before ? "it is not saved"
           : job_.step > 0               ? "the checkpoint that it went on from has it"
                                         : "there is nothing to save";
  }

  const TrainingLength& length() const { return job_.length(); }

  TrainingJob& job_;
  HostLoop host_loop_;
  ResidentLoop resident_loop_;
  CheckpointKeeper checkpoints_;
  ModelCheck model_;
  bool begun_untested_ = false;  // the checkpoint gone on from knows of no test of its step
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
  if (!ending) note_first_stop(false);
  return ending;
}

}  // namespace

Error no_memory() {
  return make_error(
      Errc::out_of_resources, "there is not enough memory", {},
      "a smaller --per_device_train_batch_size, --per_device_eval_batch_size or --train_samples needs less");
}

Result<Ending> train(const TrainOptions& options, World& world, const DevicePlan& plan,
                     const std::function<void(const Error&)>& tell,
                     const std::function<void(const Result<Ending>&)>& at_end) {
  auto data = load_data(options, world.world_size);
  if (!data) return with_folder(data.error());
  auto locks = lock_folders(options, world);
  if (!locks) return locks.error();
  auto losses = LossLog::open(world.rank == 0 ? options.loss_file : std::string(), !options.loss_file.empty());
  if (!losses) return losses.error();
  if (world.rank == 0 && !options.predict.empty()) {
    if (auto good = prepare_predictions(options.predict, options.loss_file); !good) return good.error();
  }
  if (world.world_size > 1) {
    const auto limit =
        std::min<std::chrono::milliseconds>(world.client->options().timeout, std::chrono::seconds(options.ddp_timeout));
    if (auto same = check_same_program(world, limit); !same) return same.error();
  }
  auto engine = make_engine(options, world, plan);
  if (!engine) return engine.error();
  if (world.rank == 0) {
    print_line(fmt::format("llmlaunch-train {}: {}, {}", LLMLAUNCH_VERSION, counted(world.world_size, "rank"),
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
  TrainingJob job(options, world, *engine, *data, *losses);
  Training training(job, **loader, !plan.cuda, locks->front());
  auto ending = run_to_end(training);
  if (ending && *ending == Ending::done) {
    if (const auto told = output_written(); !told) ending = told.error();
  }
  if (!ending) {
    tell(ending.error());
    training.finish_writing();
  }
  at_end(ending);
  return ending;
}

}  // namespace llmlaunch::trainer
