/// \file
/// `ResidentSteps` by any backend's ordinary passes: what a job does that asks for steps without the host where no
/// device can take them. The same numbers as those of the ordinary loop.
#pragma once

#include <memory>

#include "trainer/backend.hpp"
#include "trainer/resident.hpp"

namespace llmlaunch::trainer {

/// The backend outlives the steps.
std::unique_ptr<ResidentSteps> make_host_steps(Backend& backend, ResidentPlan plan);

}  // namespace llmlaunch::trainer
