// NCCL's functions that trainer/cuda/ calls, for non-blocking communicators: a call is often in progress still when it
// returns, and only when ncclCommGetAsyncError says that it is done its work has been queued.
#include <nccl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/cuda_host/exchange.hpp"
#include "tests/support/cuda_host/memory.hpp"
#include "tests/support/cuda_host/schedule.hpp"
#include "tests/support/cuda_host/settings.hpp"

namespace cuda_host {
namespace {

enum Kind : std::uint64_t { kAllReduce = 1, kAllGather, kBroadcast };

/// What the communicator's work on streams holds on to.
struct Shared {
  std::unique_ptr<Exchange> exchange;
  std::uint32_t rank = 0;
  int device = 0;
  bool is_aborted = false;
  ncclResult_t failure = ncclSuccess;
  std::string last_error;
};
using SharedPtr = std::shared_ptr<Shared>;

/// One collective in its turn on a stream.
struct Collective {
  Operation operation;
  const std::byte* from;
  std::byte* to;
  bool is_mean;
};

std::size_t bytes_of(ncclDataType_t type) {
  return type == ncclFloat32 ? sizeof(float) : type == ncclInt8 ? 1 : 0;
}

/// Each value times 1 / ranks, then the sum, in the order of the ranks.
void add_up(const Exchange& exchange, const Collective& collective) {
  const std::size_t count = collective.operation.bytes / sizeof(float);
  const float share = collective.is_mean ? 1.0F / static_cast<float>(exchange.ranks()) : 1.0F;
  auto* const to = reinterpret_cast<float*>(collective.to);
  std::fill_n(to, count, 0.0F);
  for (std::uint32_t rank = 0; rank < exchange.ranks(); ++rank) {
    const auto* const values = reinterpret_cast<const float*>(exchange.numbers_of(rank).data());
    for (std::size_t i = 0; i < count; ++i) to[i] += values[i] * share;
  }
}

void complete(const Exchange& exchange, const Collective& collective) {
  if (collective.operation.kind == kAllReduce) {
    add_up(exchange, collective);
  } else if (collective.operation.kind == kBroadcast) {
    const auto values = exchange.numbers_of(static_cast<std::uint32_t>(collective.operation.root));
    std::copy(values.begin(), values.end(), collective.to);
  } else {
    for (std::uint32_t rank = 0; rank < exchange.ranks(); ++rank) {
      const auto values = exchange.numbers_of(rank);
      std::copy(values.begin(), values.end(), collective.to + rank * values.size());
    }
  }
}

bool agree(Shared& shared, const Collective& collective) {
  for (std::uint32_t rank = 0; rank < shared.exchange->ranks(); ++rank) {
    if (shared.exchange->operation_of(rank) == collective.operation) continue;
    const Operation theirs = shared.exchange->operation_of(rank);
    char text[200];
    std::snprintf(text, sizeof text, "emulated NCCL: rank %u does collective %lu of %lu bytes, rank %u does %lu of %lu",
                  shared.rank, static_cast<unsigned long>(collective.operation.kind),
                  static_cast<unsigned long>(collective.operation.bytes), rank, static_cast<unsigned long>(theirs.kind),
                  static_cast<unsigned long>(theirs.bytes));
    shared.last_error = text;
    shared.failure = ncclInvalidUsage;
    return false;
  }
  return true;
}

Work work_of(const SharedPtr& shared, const Collective& collective) {
  return {"a collective of NCCL", [shared, collective]() -> std::function<bool()> {
            return [shared, collective, is_posted = false]() mutable {
              if (shared->is_aborted) return true;
              Exchange& exchange = *shared->exchange;
              if (!is_posted && exchange.may_post()) {
                const OpenMemory open;
                exchange.post(collective.operation, {collective.from, collective.operation.bytes});
                is_posted = true;
              }
              if (!is_posted || shared->failure != ncclSuccess || !exchange.all_posted()) return false;
              if (!agree(*shared, collective)) return false;  // and it hangs, as the real one
              const OpenMemory open;
              complete(exchange, collective);
              exchange.finish();
              return true;
            };
          }};
}

}  // namespace
}  // namespace cuda_host

using namespace cuda_host;

struct ncclComm {
  SharedPtr shared = std::make_shared<Shared>();
  std::function<ncclResult_t()> pending;  // a call that is in progress
  int looks = 0;                          // that it takes until then
};

namespace {

/// Now, or when somebody has asked a few times: both happen with a non-blocking communicator.
ncclResult_t sooner_or_later(ncclComm& comm, std::function<ncclResult_t()> call) {
  if (comm.pending) return ncclInvalidUsage;  // the call before is in progress still
  const std::size_t later = draw(4);
  if (later == 0) return call();
  comm.pending = std::move(call);
  comm.looks = static_cast<int>(later);
  return ncclInProgress;
}

ncclResult_t start(const char* name, ncclComm_t comm, Kind kind, const void* from, void* to, std::size_t count,
                   ncclDataType_t type, std::uint64_t root, bool is_mean, cudaStream_t stream) {
  if (const int code = injected_failure(name); code != 0) return static_cast<ncclResult_t>(code);
  const std::size_t bytes = count * bytes_of(type);
  if (comm == nullptr || bytes == 0 || bytes > Exchange::kMostBytes) return ncclInvalidArgument;
  const std::size_t all = kind == kAllGather ? bytes * comm->shared->exchange->ranks() : bytes;
  if (!is_device_memory(from, bytes) || !is_device_memory(to, all)) return ncclUnhandledCudaError;
  const Lock lock(device_mutex());
  if (comm->shared->failure != ncclSuccess) return comm->shared->failure;
  if (find_stream(stream) == nullptr) return ncclInvalidUsage;
  if (current_device() != comm->shared->device) return ncclInvalidUsage;
  const Collective collective = {
      .operation = {.kind = kind, .bytes = bytes, .type = static_cast<std::uint64_t>(type), .root = root},
      .from = static_cast<const std::byte*>(from),
      .to = static_cast<std::byte*>(to),
      .is_mean = is_mean};
  return sooner_or_later(*comm, [comm, collective, stream] {
    CUstream_st* const found = find_stream(stream);
    if (found == nullptr) return ncclUnhandledCudaError;
    // Ranks connect as an algorithm wants it, which a message's kind and size decide.
    const std::string what = "NCCL's collective " + std::to_string(collective.operation.kind) + " of " +
                             std::to_string(collective.operation.bytes) + " bytes";
    if (refuse_first_use(*found, what) != cudaSuccess) return ncclUnhandledCudaError;
    return queue(*found, work_of(comm->shared, collective)) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
  });
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const int code = injected_failure("ncclGetUniqueId"); code != 0) return static_cast<ncclResult_t>(code);
  std::memset(id, 0, sizeof *id);
  std::snprintf(id->internal, sizeof id->internal, "%s", Exchange::make_file().c_str());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (const int code = injected_failure("ncclCommInitRankConfig"); code != 0) return static_cast<ncclResult_t>(code);
  if (config == nullptr || config->blocking != 0 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  const Lock lock(device_mutex());
  *comm = new ncclComm;
  Shared& shared = *(*comm)->shared;
  shared.rank = static_cast<std::uint32_t>(rank);
  shared.device = current_device();
  shared.exchange = std::make_unique<Exchange>(id.internal, shared.rank, static_cast<std::uint32_t>(ranks));
  (*comm)->pending = [all = (*comm)->shared] { return all->exchange->all_here() ? ncclSuccess : ncclInProgress; };
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const Lock lock(device_mutex());
  if (const int code = injected_failure("async"); code != 0) {
    comm->shared->failure = static_cast<ncclResult_t>(code);
    comm->shared->last_error = "an error that a test asked for";
  }
  *error = comm->shared->failure;
  if (*error != ncclSuccess || !comm->pending) return ncclSuccess;
  *error = ncclInProgress;
  if (--comm->looks > 0) return ncclSuccess;
  *error = comm->pending();
  if (*error != ncclInProgress) comm->pending = nullptr;
  if (*error != ncclInProgress && *error != ncclSuccess) comm->shared->failure = *error;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const Lock lock(device_mutex());
  comm->shared->is_aborted = true;
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (const int code = injected_failure("ncclCommFinalize"); code != 0) return static_cast<ncclResult_t>(code);
  const Lock lock(device_mutex());
  // The real one waits until no graph has work of the communicator any more, and with nobody to destroy it for ever.
  comm->pending = [comm] { return comm->shared.use_count() == 1 ? ncclSuccess : ncclInProgress; };
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const Lock lock(device_mutex());
  if (comm->pending) return ncclInProgress;
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat32 || (operation != ncclAvg && operation != ncclSum)) return ncclInvalidArgument;
  return start("ncclAllReduce", comm, kAllReduce, from, to, count, type, 0, operation == ncclAvg, stream);
}

ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return start("ncclAllGather", comm, kAllGather, from, to, count, type, 0, false, stream);
}

ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return start("ncclBroadcast", comm, kBroadcast, from, to, count, type, static_cast<std::uint64_t>(root), false,
               stream);
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t comm) {
  thread_local std::string text;
  const Lock lock(device_mutex());
  text = comm == nullptr ? "" : comm->shared->last_error;
  return text.c_str();
}

}  // extern "C"
