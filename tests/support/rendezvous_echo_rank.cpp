// The same as nccl_id_rank with random bytes for an id: for machines without NCCL.
#include <random>

#include "tests/support/id_rank.hpp"

int main() {
  const auto make_id = []() -> llmlaunch::Result<llmlaunch::rendezvous::UniqueId> {
    std::random_device random;
    llmlaunch::rendezvous::UniqueId id;
    for (std::byte& byte : id) byte = static_cast<std::byte>(random());
    return id;
  };
  return llmlaunch::rendezvous::run_id_rank(make_id, 0);
}
