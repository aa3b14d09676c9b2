// The launcher's environment as a `World`. Called once, by main.
#include "trainer/world.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/env.hpp"
#include "rendezvous/base/whole_number.hpp"
#include "trainer/flag_values.hpp"
#include "trainer/options.hpp"

namespace llmlaunch::trainer {
namespace {

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "localhost";
  return name;
}

std::uint32_t usable_cores() {
  cpu_set_t cores;
  if (::sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
  return static_cast<std::uint32_t>(CPU_COUNT(&cores));
}

/// `text` is what counts of the variable's `value`.
Result<std::uint32_t> number_in_text(const char* name, std::string_view value, std::string_view text) {
  if (const auto number = parse_whole<std::uint32_t>(text)) return *number;
  return make_error(Errc::invalid_config, fmt::format("environment variable {} is '{}', not a number", name, value));
}

/// OpenMP's list has a number for each level of nesting, and here is one level. 0 where nothing is said.
Result<std::uint32_t> threads_in_environment() {
  const char* const value = std::getenv(env::kOmpNumThreads);
  if (value == nullptr || *value == '\0') return 0;
  const std::string_view list(value);
  std::string_view rest = list;
  const auto threads = number_in_text(env::kOmpNumThreads, list, rest.substr(0, rest.find(',')));
  while (threads && rest.find(',') != std::string_view::npos) {
    rest.remove_prefix(rest.find(',') + 1);
    if (auto deeper = number_in_text(env::kOmpNumThreads, list, rest.substr(0, rest.find(','))); !deeper) return deeper;
  }
  return threads;
}

}  // namespace

bool is_launched() {
  const char* const rendezvous = std::getenv(env::kRendezvous);
  return rendezvous != nullptr && *rendezvous != '\0';
}

Result<std::uint32_t> number_in_environment(const char* name, std::uint32_t fallback) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return fallback;
  return number_in_text(name, value, value);
}

Result<bool> switch_in_environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return false;
  const auto truth = truth_in(value);
  if (truth) return *truth;
  return make_error(Errc::invalid_config, fmt::format("environment variable {} is '{}', not {}", name,
                                                      cut_text(value, kShownWord), kTakesTruth));
}

Result<std::uint32_t> default_threads(std::uint32_t local_world_size) {
  const auto chosen = threads_in_environment();
  if (chosen && *chosen > kMostThreads) {
    return make_error(Errc::invalid_config,
                      fmt::format("environment variable {} is {}, and a rank takes {} threads at most",
                                  env::kOmpNumThreads, *chosen, kMostThreads));
  }
  if (!chosen || *chosen > 0) return chosen;
  return std::max<std::uint32_t>(1, usable_cores() / std::max<std::uint32_t>(1, local_world_size));
}

Result<World> join_world(int nccl_version) {
  World world;
  const char* rank = std::getenv(env::kRank);
  if (rank == nullptr || *rank == '\0') {
    world.host = host_name();
    return world;
  }
  auto options = rendezvous::client_options_from_environment();
  if (!options) {
    Error error = options.error();
    error.code = make_error_code(Errc::invalid_config);
    error.hint = fmt::format("'llmlaunch run' sets it for every rank; to train in one process, unset {}", env::kRank);
    return error;
  }
  const auto local_rank = number_in_environment(env::kLocalRank, 0);
  if (!local_rank) return local_rank.error();
  const auto local_world_size = number_in_environment(env::kLocalWorldSize, 1);
  if (!local_world_size) return local_world_size.error();
  options->nccl_version = nccl_version;
  world.rank = number(options->rank);
  world.world_size = options->world_size;
  world.local_rank = *local_rank;
  world.local_world_size = *local_world_size;
  world.host = options->host;
  auto client = rendezvous::Client::join(*options);
  if (!client) return client.error();
  world.client = std::move(*client);
  return world;
}

}  // namespace llmlaunch::trainer
