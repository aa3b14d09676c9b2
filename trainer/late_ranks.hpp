/// \file
/// Who did not come to a collective that takes longer than its limit. A communicator knows that of nobody, so each rank
/// that has waited long writes that down in the job's store, and shortly before the limit looks who has not.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "rendezvous/client.hpp"
#include "trainer/comm.hpp"

namespace llmlaunch::trainer {

/// `comm`, whose `Errc::timed_out` then names the ranks that had not come, by number and host, or says that all wait.
/// It names nobody where the store does not answer, or the launcher is too old for it. `limit` is that of `comm`'s
/// collectives; the client outlives the result. Collective: `host` of every rank is asked for.
Result<std::unique_ptr<Comm>> name_late_ranks(std::unique_ptr<Comm> comm, rendezvous::Client& client,
                                              const std::string& host, std::chrono::milliseconds limit);

}  // namespace llmlaunch::trainer
