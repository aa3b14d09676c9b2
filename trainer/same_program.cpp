// One write by rank 0 and one read by each other rank, over the rendezvous, which has a version of its own.
#include "trainer/same_program.hpp"

#include <fmt/format.h>

#include "trainer/source_digest.hpp"

namespace llmlaunch::trainer {
namespace {

constexpr const char* kProgramKey = "trainer/program";

}  // namespace

std::string this_program() {
  return fmt::format("llmlaunch-train {} of sources {}", LLMLAUNCH_VERSION, source_digest());
}

Result<void> check_same_program(const World& world, std::chrono::milliseconds limit) {
  if (world.rank == 0) return world.client->set(kProgramKey, as_bytes(this_program() + "\n" + world.host));
  const auto value = world.client->get(kProgramKey, limit);
  if (!value) {
    Error error = value.error();
    if (error.code == Errc::timed_out)
      error.hint = "rank 0 has joined the job, and then stopped or hangs: see its host";
    return error;
  }
  const std::string_view text = as_text(*value);
  const std::string_view program = text.substr(0, text.find('\n'));
  if (program == this_program()) return ok;
  const std::string_view host = program.size() < text.size() ? text.substr(program.size() + 1) : "unknown host";
  return make_error(Errc::invalid_argument,
                    fmt::format("the ranks are not of one job: the program is {} on rank {} ({}) and {} on rank 0 ({})",
                                this_program(), world.rank, world.host, program, host),
                    {}, "start all ranks with the same program");
}

}  // namespace llmlaunch::trainer
