/// \file
/// Checkpoints: what a job needs to go on where it was, as files that others can read. A checkpoint is a folder
///
///     OUTPUT_DIR/checkpoint-500/
///       model.safetensors      the weights, under PyTorch's names: load_state_dict(load_file(…)) takes them
///       optimizer.safetensors  AdamW's exp_avg.NAME and exp_avg_sq.NAME
///       trainer_state.json     Hugging Face's TrainerState: step, epoch, what was logged, which checkpoint is the best
///       llmlaunch_state.json   the model, what the order of the images depends on, and the flags that a later run is compared with
///       checksums.json         size and SHA-256 of the four, written last
///
/// Older ones have everything in a trainer_state.json of another kind, and no llmlaunch_state.json; they are read as
/// well.
///
/// Masks and the order of the images follow from seed and step, so there is no generator's state to keep. A folder gets
/// its name when everything in it is on the disk, and an older checkpoint goes only after a newer one has its name: at
/// every moment the last good one is whole. One process writes, rank 0.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/course.hpp"
#include "trainer/grad_scaler.hpp"
#include "trainer/model.hpp"

namespace llmlaunch::trainer {

/// What decides which images a step sees. A job goes on only where these are the same, because else images would be
/// seen twice or never within an epoch.
struct SampleAccounting {
  std::uint64_t images = 0;           ///< in the training set
  std::uint64_t images_per_step = 0;  ///< ranks × batch × accumulation
  std::uint64_t steps_per_epoch = 0;
  std::uint64_t data_seed = 0;
  bool drop_last = false;
  friend bool operator==(const SampleAccounting&, const SampleAccounting&) = default;
};

struct TrainingState {
  const Model* model = nullptr;
  std::uint64_t step = 0;     ///< steps done
  std::uint64_t skipped = 0;  ///< of them: those that changed no weight because of --on_nan skip
  LossScale loss_scale;       ///< of half precision; as at the start, where there was never any
  double epoch = 0;           ///< passes done, with the part of the last
  std::uint64_t seed = 0;
  std::uint32_t world_size = 1;
  SampleAccounting accounting;
  JobPlan plan;
  Course course;
  std::optional<OptimizerNumbers> optimizer;  ///< an old checkpoint has none
  FlagValues flags;
  std::vector<float> parameters, first_moment, second_moment;  ///< model->values each, as `Backend` holds them
};

/// OUTPUT_DIR/checkpoint-STEP
std::string checkpoint_folder(const std::string& output_dir, std::uint64_t step);

/// Writes OUTPUT_DIR/checkpoint-STEP and makes it last (fsync of files and folders). Our own of that
/// name is replaced; another program's gets a name of its own (checkpoint-500.foreign), and a warning says so. An error
/// leaves all older ones, and nothing of this one, but for a disk that fails at the very end.
Result<std::string> save_checkpoint(const std::string& output_dir, const TrainingState& state);

/// Reads one checkpoint. `Errc::not_found` when there is no such folder, `Errc::invalid_config` names the file that is
/// missing, damaged or of another model; a file that cannot be read now is the system's error.
Result<TrainingState> load_checkpoint(const std::string& folder);

/// Removes what saves and removals that were broken off have left (checkpoint-300.unfinished), but for the folder
/// `named`, which somebody goes on from. What was replaced stays until a newer one is there.
Result<void> remove_unfinished_saves(const std::string& output_dir, const std::string& named);

/// Makes the folder where it is missing, and finds out whether a checkpoint can be written there. The system's error.
Result<void> prepare_output(const std::string& output_dir);

struct FoundCheckpoint {
  std::string folder;
  TrainingState state;
  std::vector<Error> damaged;  ///< newer ones that could not be used
};
/// The newest checkpoint of `output_dir` that is whole; nothing when there is none at all. Where there are only damaged
/// ones, the error of the newest; where one cannot be read now, that error.
Result<std::optional<FoundCheckpoint>> find_last_checkpoint(const std::string& output_dir);

/// The folder of the newest checkpoint, whole or not; empty when there is none.
Result<std::string> newest_checkpoint_name(const std::string& output_dir);

/// Whether a folder has what this program writes beside the weights: Hugging Face's Trainer has the same names for its
/// checkpoints. One that cannot be looked at is not its own.
bool is_own_checkpoint(const std::filesystem::path& folder);

/// Gives those of later steps than `step` another name, under which they count no more (checkpoint-300.set-aside), and
/// tells it: they belong to a course of the job that is left, or are damaged, and would be taken for the newest. One
/// that has that name already goes, and that is told as well.
Result<std::vector<std::string>> set_aside_later(const std::string& output_dir, std::uint64_t step);

/// Removes the oldest checkpoints until `limit` are left (0: none is removed), and what a broken-off save left behind.
/// The newest and that of step `best` stay in any case, and so does another program's, which does not count.
Result<void> prune_checkpoints(const std::string& output_dir, std::uint32_t limit,
                               std::optional<std::uint64_t> best = std::nullopt);

}  // namespace llmlaunch::trainer
