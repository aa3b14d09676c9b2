/// \file
/// Who this process is: one of many under llmlaunch, or alone. Reads the environment that the launcher made and joins
/// the rendezvous.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "rendezvous/base/result.hpp"
#include "rendezvous/client.hpp"

namespace llmlaunch::trainer {

struct World {
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;
  std::uint32_t local_rank = 0;  ///< among the ranks of this host
  std::uint32_t local_world_size = 1;
  std::string host;
  std::unique_ptr<rendezvous::Client> client;  ///< null when alone
};

/// Without RANK in the environment: alone. With it, all that llmlaunch sets must be there; `Errc::invalid_config` names
/// what is missing or wrong, other errors are the rendezvous's.
Result<World> join_world(int nccl_version);

/// Before there is a connection to it: whether a launcher has started this rank, and ends it when another one fails.
bool is_launched();

/// A whole number in an environment variable; `fallback` when it is not set or empty. `Errc::invalid_config` otherwise.
Result<std::uint32_t> number_in_environment(const char* name, std::uint32_t fallback);

/// A switch in an environment variable, in the words that flags take; off when it is not set or empty.
/// `Errc::invalid_config` for other words.
Result<bool> switch_in_environment(const char* name);

/// How many compute threads a rank should use: OMP_NUM_THREADS when set, else the cores that this process may use
/// shared by the host's ranks, at least one.
Result<std::uint32_t> default_threads(std::uint32_t local_world_size);

}  // namespace llmlaunch::trainer
