// Hands out the bytes of a real ncclGetUniqueId, which needs NCCL's library and a network interface, but no GPU.
#include <fmt/format.h>
#include <nccl.h>

#include <cstring>

#include "tests/support/id_rank.hpp"

using namespace llmlaunch;

int main() {
  static_assert(sizeof(rendezvous::UniqueId) == NCCL_UNIQUE_ID_BYTES);
  int version = 0;
  if (const ncclResult_t code = ncclGetVersion(&version); code != ncclSuccess) {
    fmt::print(stderr, "error: ncclGetVersion: {}\n", ncclGetErrorString(code));
    return 1;
  }
  const auto make_id = []() -> Result<rendezvous::UniqueId> {
    ncclUniqueId id{};
    if (const ncclResult_t code = ncclGetUniqueId(&id); code != ncclSuccess) {
      return make_error(Errc::unsupported,
                        fmt::format("ncclGetUniqueId: {} ({})", ncclGetErrorString(code), ncclGetLastError(nullptr)),
                        {}, "NCCL_SOCKET_IFNAME chooses the network interface");
    }
    rendezvous::UniqueId bytes;
    std::memcpy(bytes.data(), &id, bytes.size());
    return bytes;
  };
  return rendezvous::run_id_rank(make_id, version);
}
