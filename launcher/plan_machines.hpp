/// \file
/// The place of machine 0, and which machine this is where each is started by itself. Private to plan*.cpp; pure.
#pragma once

#include <string>
#include <vector>

#include "launcher/plan.hpp"

namespace llmlaunch::launcher {

/// Which machine of a job whose machines are started one by one this is: as machine_rank says; else machine 0 where
/// main_process_ip leads to, or is_host says so, and elsewhere one that machine 0 gives a place. What else may be meant
/// is noted.
Result<PerMachine> per_machine_of(const Config& config, const HeadFacts& head, std::vector<std::string>& notes);

/// Whether ranks can come by way of ssh, when they are to; what has no effect then is noted in the plan.
Result<void> check_via_ssh(const Config& config, LaunchPlan& plan);

/// main_process_port: 0, where nobody could learn the free port.
void note_port_of_machines(const Config& config, const LaunchPlan& plan, std::vector<std::string>& notes);

/// The rendezvous is served here, wherever main_process_ip points. A name is not looked up: that may block.
void note_foreign_address(const Config& config, const HeadFacts& head, std::vector<std::string>& notes);

}  // namespace llmlaunch::launcher
