// Errors to exit statuses; the table of exit_status.hpp, read the other way round.
#include "trainer/exit_status.hpp"

namespace llmlaunch::trainer {

int exit_status(const Error& error) {
  const std::error_code code = error.code;
  if (code == Errc::usage) return kUsage;
  if (code == std::errc::argument_out_of_domain) return kDiverged;
  if (code == Errc::not_found) return kNoInput;
  if (code == Errc::generation_ended || code == Errc::canceled || code == Errc::locked) return kEnded;
  if (code == Errc::invalid_config || code == Errc::invalid_argument) return kConfig;
  if (code == Errc::internal) return kInternal;
  if (code == Errc::out_of_resources) return kNoResources;
  for (const Errc away :
       {Errc::closed, Errc::unreachable, Errc::timed_out, Errc::refused, Errc::unauthenticated, Errc::duplicate_rank,
        Errc::stale_generation, Errc::wrong_world, Errc::version_mismatch, Errc::unsupported, Errc::protocol}) {
    if (code == away) return kUnavailable;
  }
  if (code == std::errc::no_such_device) return kUnavailable;  // a GPU that failed
  return kInputOutput;
}

}  // namespace llmlaunch::trainer
