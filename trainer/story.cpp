// The telling of a job, apart from its doing. Called by the training loop.
#include "trainer/story.hpp"

#include "rendezvous/base/log.hpp"

namespace llmlaunch::trainer {
namespace {

ReportFolders report_folders(const TrainOptions& options, bool is_first) {
  if (!is_first) return {};
  const bool own_folder = !options.logging_dir.empty();
  ReportFolders folders;
  if (options.report_json) folders.json = own_folder ? options.logging_dir : options.output_dir;
  if (options.report_tensorboard) folders.tensorboard = own_folder ? options.logging_dir : options.output_dir + "/runs";
  return folders;
}

double seconds_of(Story::Clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

Story::Story(const TrainOptions& options, const World& world, const TrainingLength& length)
    : options_(options),
      is_first_(world.rank == 0),
      length_(length),
      progress_(stdout, is_first_ && redraws_progress(options.progress, stdout, columns_from_launcher()),
                columns_from_launcher()),
      reports_(report_folders(options, is_first_),
               [this](const Error& error) { warn(fmt::format("{}; training goes on", to_string(error))); }) {}

void Story::warn(const std::string& text) {
  progress_.clear();
  log_warning("{}", text);
}

Result<void> Story::begin(std::uint64_t steps_done, bool tests_again) {
  begun_step_ = steps_done;
  begun_at_ = logged_at_ = Clock::now();
  return reports_.begin(steps_done, tests_again, course.history);
}

void Story::step_done(std::uint64_t step, std::optional<double> mean_loss, const StepFacts& facts) {
  const bool is_last = step == length_.steps;
  if (is_last) progress_.clear();  // nothing is left: the step's line stays, above the test
  if (mean_loss) {
    last_loss_ = mean_loss;
    const auto now = Clock::now();
    const double speed = static_cast<double>(images_) / seconds_of(now - logged_at_);
    if (!progress_.redraws() || is_last)
      say("step {}/{} loss {} ({:.0f} samples/s)", step, length_.steps, shown_number(*mean_loss), speed);
    LogRecord record{.step = step, .epoch = epochs_after(step), .values = {{"loss", *mean_loss}}};
    if (facts.gradient_norm) record.values.emplace_back("grad_norm", *facts.gradient_norm);
    record.values.emplace_back("learning_rate", facts.learning_rate);
    record.values.emplace_back("samples_per_second", speed);
    keep(std::move(record));
    last_speed_ = speed;
    logged_at_ = now;
    images_ = 0;
  }
  if (!is_last) draw(step, mean_loss.has_value());
}

void Story::draw(std::uint64_t step, bool at_once) {
  if (!progress_.redraws()) return;
  const auto now = Clock::now();
  const auto done = static_cast<double>(step - begun_step_);
  const double since_line = seconds_of(now - logged_at_);
  const ProgressFacts facts{
      .step = step,
      .steps = length_.steps,
      .loss = last_loss_,
      .samples_per_second = last_speed_.value_or(since_line > 0 ? static_cast<double>(images_) / since_line : 0),
      .seconds_left = seconds_of(now - begun_at_) / done * static_cast<double>(length_.steps - step)};
  progress_.draw(progress_text(facts), now, at_once);
}

bool Story::keeps_records() const {
  return is_first_ &&
         (options_.save_strategy != SaveStrategy::no || options_.report_json || options_.report_tensorboard);
}

void Story::keep(LogRecord record) {
  if (!keeps_records()) return;
  reports_.add(record);
  course.history.push_back(std::move(record));
}

double Story::epochs_after(std::uint64_t step) const {
  return trainer::epochs_after(length_, step);
}

}  // namespace llmlaunch::trainer
