/// \file
/// A rank that does nothing but take part: joins from its environment, rank 0 publishes 128 bytes, every rank prints
/// the digest of the bytes it received, up to three ranks share ids of their own, all meet in a barrier. Body of
/// `nccl_id_rank` and `rendezvous_echo_rank`.
#pragma once

#include <functional>

#include "rendezvous/client.hpp"

namespace llmlaunch::rendezvous {

/// Runs as the program's main; gives its exit status. `make_id` is called on the ranks that publish one, whose
/// processes live until all ranks have received them.
int run_id_rank(const std::function<Result<UniqueId>()>& make_id, int nccl_version);

}  // namespace llmlaunch::rendezvous
