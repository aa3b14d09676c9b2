/// \file
/// Collectives of CPU ranks: Gloo over TCP, its ranks found through the rendezvous; the all-reduce of ranks that are
/// all on one machine through memory that they share.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "rendezvous/client.hpp"
#include "trainer/comm.hpp"

namespace llmlaunch::trainer {

struct GlooOptions {
  /// Network interface to bind to, as GLOO_SOCKET_IFNAME; empty: the one that reaches the rendezvous.
  std::string interface;
  bool share_memory = true;  ///< where all ranks can; where one cannot, rank 0 logs why
  /// Until every rank is connected with every other.
  std::chrono::milliseconds connect_timeout{300'000};
  /// For one collective; it is what notices a peer that hangs, or a cut cable. A peer that dies is noticed at once.
  std::chrono::milliseconds timeout{1'800'000};
};

/// Connects all ranks of the client's world. `client` must outlive the result. Errors name what is missing: a rank that
/// did not come, an interface that is not there.
Result<std::unique_ptr<Comm>> make_gloo_comm(rendezvous::Client& client, const GlooOptions& options);

}  // namespace llmlaunch::trainer
