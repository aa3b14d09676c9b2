// Each rank says whether a signal came to it. Called by the training loop when it ends early.
#include "trainer/stop_story.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "rendezvous/base/counted.hpp"
#include "trainer/agreement.hpp"
#include "trainer/stop.hpp"

namespace llmlaunch::trainer {
namespace {

const char* name_of_stop() {
  if (is_launcher_lost()) return "the lost connection to the launcher";
  switch (noted_stop()) {
    case SIGINT: return "Ctrl-C";
    case SIGHUP: return "SIGHUP";
    default: return "SIGTERM";
  }
}

/// Empty: nobody told this rank.
std::string told_here(const World& world) {
  if (!is_stop_noted()) return {};
  return fmt::format("{} {} rank {} on {}", name_of_stop(), is_launcher_lost() ? "of" : "to", world.rank, world.host);
}

/// As a launcher stops a job, which also tells of the end, and a scheduler.
bool is_stop_of_all(const World& world, const std::vector<std::string>& told) {
  const bool has_ended = world.client != nullptr && world.client->ended();
  return has_ended || std::find(told.begin(), told.end(), std::string()) == told.end();
}

std::string first_and_number(const std::vector<std::string>& told) {
  const auto was_told = [](const std::string& text) { return !text.empty(); };
  const auto first = std::find_if(told.begin(), told.end(), was_told);
  if (first == told.end()) return name_of_stop();
  const auto others = std::count_if(first + 1, told.end(), was_told);
  return others == 0 ? *first : fmt::format("{} and {}", *first, counted(others, "other"));
}

}  // namespace

Result<ToldToStop> who_was_told_to_stop(const World& world, Comm& comm) {
  const std::string mine = told_here(world);
  const auto told = gather_texts(comm, mine);
  if (!told) return told.error();
  if (is_stop_of_all(world, *told)) return ToldToStop{name_of_stop(), {}};
  return ToldToStop{first_and_number(*told), mine};
}

}  // namespace llmlaunch::trainer
