/// \file
/// The two files of a checkpoint that tell about the job. `trainer_state.json` is Hugging Face's TrainerState, with all
/// of its keys and no other, so that TrainerState.load_from_json takes it; `llmlaunch_state.json` has what this trainer
/// needs beyond that. Text to and from `TrainingState`; no files are touched here.
#pragma once

#include <string>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"
#include "trainer/checkpoint.hpp"

namespace llmlaunch::trainer {

inline constexpr const char* kTrainerState = "trainer_state.json";
inline constexpr const char* kOwnState = "llmlaunch_state.json";

std::string trainer_state_text(const TrainingState& state);
std::string own_state_text(const TrainingState& state);

/// Whether this trainer_state.json is from before version 2, when it held everything and there was no other file.
bool is_old_trainer_state(std::string_view text);

/// `path` stands in the error, `Errc::invalid_config`: no JSON, a value that lacks or is of another type, a version
/// that this program does not know. The trainer's state is taken first.
Result<void> take_trainer_state(std::string_view text, const std::string& path, TrainingState& state);
Result<void> take_own_state(std::string_view text, const std::string& path, TrainingState& state);
/// Both from one file of the old kind.
Result<void> take_old_state(std::string_view text, const std::string& path, TrainingState& state);

}  // namespace llmlaunch::trainer
