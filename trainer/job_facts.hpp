/// \file
/// The flags of a job as names and values: what the ranks compare before the first step, and what a checkpoint keeps
/// for the run that goes on from it.
#pragma once

#include <string>

#include "trainer/agreement.hpp"
#include "trainer/checkpoint.hpp"
#include "trainer/course.hpp"
#include "trainer/data_source.hpp"
#include "trainer/options.hpp"

namespace llmlaunch::trainer {

/// What must be the same everywhere for the ranks to be one job: whatever decides the numbers, when ranks meet, and
/// what is told or kept of the job. job_facts.cpp says which options are left out, and why.
JobFacts job_facts(const TrainOptions& options, const DataSource& data);
/// The same of what is in the files of images, once their checksums are known. Drawn digits follow from their number.
JobFacts content_facts(const DataSource& data);

/// What changes a job's numbers, or what is told and kept of it, and is no part of the optimizer's state.
FlagValues flags_to_keep(const TrainOptions& options, const DataSource& data, std::uint64_t steps,
                         std::uint32_t world_size);
OptimizerNumbers optimizer_numbers(const TrainOptions& options);

/// What a run that goes on from a checkpoint with other flags does, as one line to warn by; empty: nothing differs.
/// As Hugging Face's Trainer: the numbers in the optimizer's state are the checkpoint's, all other flags the new run's.
std::string changed_flags(const TrainingState& then, const OptimizerNumbers& optimizer, const FlagValues& now);

}  // namespace llmlaunch::trainer
