// NCCL behind `Comm`. NCCL notices neither a slow peer nor, on one host, a dead one, and a blocking call would hang
// with it: the communicator is non-blocking, every wait here polls its error, a deadline and the rendezvous, and a
// communicator that failed is aborted, never destroyed. Collectives run on a stream of their own, which waits for the
// gradients by an event, so that they overlap with the rest of the backward pass.
#include "trainer/cuda/nccl_comm.hpp"

#include <fmt/format.h>

#include <cstring>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include "trainer/cuda/check.hpp"
#include "trainer/meeting.hpp"

namespace llmlaunch::trainer::cuda {
namespace {

using Clock = std::chrono::steady_clock;

static_assert(NCCL_UNIQUE_ID_BYTES == 128, "the rendezvous hands out ids of 128 bytes");
static_assert(sizeof(ncclUniqueId) == sizeof(rendezvous::UniqueId));

/// How long an abort may take. It can hang while it joins NCCL's threads; the process ends soon after anyway.
constexpr std::chrono::seconds kAbortTime{5};
/// From the end of the generation until a collective gives up: a stop ends the generation, too, and ranks that save
/// what they have still need each other. Whoever is not to save is ended by the news itself, long before.
constexpr std::chrono::seconds kStopWait{15};
/// Between two looks at an event or a communicator.
constexpr std::chrono::microseconds kPollInterval{20};

#define NCCL_CODE(function, ...)                                           \
  Call {                                                                   \
    nccl().function(__VA_ARGS__), #function "(" #__VA_ARGS__ ")", __LINE__ \
  }
struct Call {
  ncclResult_t code;
  const char* expression;
  int line;
};

class NcclComm final : public Comm {
 public:
  NcclComm(rendezvous::Client& client, cudaStream_t compute, const NcclOptions& options)
      : client_(client), compute_(compute), options_(options) {}

  ~NcclComm() override {
    if (comm_ != nullptr) abort();
    if (staging_ != nullptr) cudaFree(staging_);
    if (event_ != nullptr) cudaEventDestroy(event_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  /// The id, the communicator, and NCCL's own handshake among all ranks.
  Result<void> connect() {
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
    if (rank() == 0) {
      ncclUniqueId made;
      if (auto done = settled(NCCL_CODE(ncclGetUniqueId, &made), options_.connect_timeout); !done) return done;
      rendezvous::UniqueId id;
      std::memcpy(id.data(), &made, id.size());
      if (auto published = client_.publish_unique_id(0, id); !published) return published;
    }
    const auto id = client_.unique_id(0);
    if (!id) return id.error();
    ncclUniqueId given;
    std::memcpy(&given, id->data(), id->size());
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    return settled(NCCL_CODE(ncclCommInitRankConfig, &comm_, static_cast<int>(world_size()), given,
                             static_cast<int>(rank()), &config),
                   options_.connect_timeout);
  }

  std::uint32_t rank() const override { return number(client_.options().rank); }
  std::uint32_t world_size() const override { return client_.options().world_size; }
  std::string description() const override {
    int version = 0;
    nccl().ncclGetVersion(&version);
    return fmt::format("nccl {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
  }

  Result<void> start_all_reduce_mean(std::span<float> values) override {
    return tried([&]() -> Result<void> {
      after_compute();
      // Average on float is: each value × 1/n, then the sum.
      return settled(
          NCCL_CODE(ncclAllReduce, values.data(), values.data(), values.size(), ncclFloat32, ncclAvg, comm_, stream_),
          options_.timeout);
    });
  }

  Result<void> wait() override {
    return tried([&] { return complete(); });
  }

  Result<void> join() override {
    return tried([&]() -> Result<void> {
      CUDA_CHECK(cudaEventRecord(event_, stream_));
      CUDA_CHECK(cudaStreamWaitEvent(compute_, event_, 0));
      return ok;
    });
  }

  bool join_waits() const override { return false; }

  Result<void> drain() override {
    return tried([&] {
      after_compute();
      return complete();
    });
  }

  Result<void> broadcast(std::span<float> values) override {
    return tried([&]() -> Result<void> {
      after_compute();
      if (auto started = settled(
              NCCL_CODE(ncclBroadcast, values.data(), values.data(), values.size(), ncclFloat32, 0, comm_, stream_),
              options_.timeout);
          !started) {
        return started;
      }
      return complete();
    });
  }

  Result<std::vector<Bytes>> all_gather(ByteView mine) override {
    Bytes all(mine.size() * world_size());
    auto done = tried([&]() -> Result<void> {
      reserve_staging(all.size());
      char* own = staging_ + rank() * mine.size();
      CUDA_CHECK(cudaMemcpyAsync(own, mine.data(), mine.size(), cudaMemcpyHostToDevice, stream_));
      if (auto started =
              settled(NCCL_CODE(ncclAllGather, own, staging_, mine.size(), ncclInt8, comm_, stream_), options_.timeout);
          !started) {
        return started;
      }
      if (auto complete_ = complete(); !complete_) return complete_;
      CUDA_CHECK(cudaMemcpy(all.data(), staging_, all.size(), cudaMemcpyDeviceToHost));
      return ok;
    });
    if (!done) return done.error();
    std::vector<Bytes> result;
    for (std::size_t i = 0; i < world_size(); ++i) {
      const auto first = all.begin() + static_cast<std::ptrdiff_t>(i * mine.size());
      result.emplace_back(first, first + static_cast<std::ptrdiff_t>(mine.size()));
    }
    return result;
  }

  Result<void> barrier() override {
    auto gathered = all_gather(as_bytes("b"));
    if (!gathered) return gathered.error();
    return ok;
  }

  Result<void> finish() override {
    return tried([&]() -> Result<void> {
      if (auto done = complete(); !done) return done;
      if (auto all = meet_at_end(client_, "nccl/finish", options_.timeout); !all) return all;
      if (auto done = settled(NCCL_CODE(ncclCommFinalize, comm_), options_.timeout); !done) return done;
      nccl().ncclCommDestroy(std::exchange(comm_, nullptr));
      return ok;
    });
  }

 private:
  /// Runs one operation; its failure aborts the communicator and is the answer from then on. Not so a call of CUDA's
  /// that is refused in a capture: NCCL had no part in it and nothing has run, so that the ranks can agree to go
  /// without.
  template <class Function>
  Result<void> tried(Function&& function) {
    if (failure_) return *failure_;
    bool is_sound = false;
    Result<void> done = [&]() -> Result<void> {
      try {
        return function();
      } catch (const DeviceError& e) {
        is_sound = e.error().code == Errc::unsupported && is_capturing();
        return e.error();
      }
    }();
    if (!done && !is_sound) {
      failure_ = done.error();
      abort();
    }
    return done;
  }

  /// Also once the capture has failed, until it ends.
  bool is_capturing() const {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(compute_, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone;
  }

  /// What is queued on the compute stream comes before what is queued on ours from now on.
  void after_compute() {
    CUDA_CHECK(cudaEventRecord(event_, compute_));
    CUDA_CHECK(cudaStreamWaitEvent(stream_, event_, 0));
  }

  /// Until our stream is empty; the compute stream then sees its results, as the host has waited.
  Result<void> complete() {
    CUDA_CHECK(cudaEventRecord(event_, stream_));
    const auto deadline = Clock::now() + options_.timeout;
    for (;;) {
      const cudaError_t state = cudaEventQuery(event_);
      if (state == cudaSuccess) return ok;
      if (state != cudaErrorNotReady) fail_cuda(state, "cudaEventQuery(event_)", __FILE__, __LINE__);
      // Should that count as the last error, whoever asks for one next does not mean it.
      static_cast<void>(cudaGetLastError());
      ncclResult_t async = ncclSuccess;
      const ncclResult_t asked = nccl().ncclCommGetAsyncError(comm_, &async);
      if (asked != ncclSuccess) async = asked;
      if (async != ncclSuccess && async != ncclInProgress) {
        return nccl_error(async, comm_, "a collective", __FILE__, __LINE__);
      }
      if (auto more = may_wait(deadline, "a collective", options_.timeout); !more) return more;
    }
  }

  /// A call's end: success, failure, or in progress until the communicator says more.
  Result<void> settled(Call call, std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    while (call.code == ncclInProgress) {
      if (auto more = may_wait(deadline, call.expression, limit); !more) return more;
      ncclResult_t async = ncclInProgress;
      const ncclResult_t asked = nccl().ncclCommGetAsyncError(comm_, &async);
      call.code = asked == ncclSuccess ? async : asked;
    }
    if (call.code == ncclSuccess) return ok;
    return nccl_error(call.code, comm_, call.expression, __FILE__, call.line);
  }

  Result<void> may_wait(Clock::time_point deadline, const char* what, std::chrono::milliseconds limit) {
    if (client_.ended() && !ended_at_) ended_at_ = Clock::now();
    if (ended_at_ && Clock::now() >= *ended_at_ + kStopWait)
      return make_error(Errc::generation_ended, fmt::format("{}: the job has ended", what), identity_text());
    if (Clock::now() >= deadline) {
      return make_error(Errc::timed_out, fmt::format("{}: not complete within {} s", what, limit.count() / 1000),
                        identity_text(), "a rank hangs or its network is cut; --ddp_timeout sets the limit");
    }
    std::this_thread::sleep_for(kPollInterval);
    return ok;
  }

  /// An abort may hang while it joins NCCL's own threads, so it gets a thread and a limit. The process ends soon after.
  void abort() {
    if (comm_ == nullptr) return;
    auto done = std::make_shared<std::promise<void>>();
    auto ended = done->get_future();
    std::thread([comm = std::exchange(comm_, nullptr), done] {
      nccl().ncclCommAbort(comm);
      done->set_value();
    }).detach();
    ended.wait_for(kAbortTime);
  }

  void reserve_staging(std::size_t bytes) {
    if (bytes <= staging_bytes_) return;
    if (staging_ != nullptr) CUDA_CHECK(cudaFree(std::exchange(staging_, nullptr)));
    staging_bytes_ = 0;
    void* memory = nullptr;
    CUDA_CHECK(cudaMalloc(&memory, bytes));
    staging_ = static_cast<char*>(memory);
    staging_bytes_ = bytes;
  }

  rendezvous::Client& client_;
  cudaStream_t compute_;
  NcclOptions options_;
  std::optional<Clock::time_point> ended_at_;  // when the generation's end was seen
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t event_ = nullptr;
  char* staging_ = nullptr;
  std::size_t staging_bytes_ = 0;
  std::optional<Error> failure_;
};

}  // namespace

Result<std::unique_ptr<Comm>> make_nccl_comm(rendezvous::Client& client, cudaStream_t compute,
                                             const NcclOptions& options) {
  if (auto loaded = load_nccl(); !loaded) return loaded.error();
  auto comm = std::make_unique<NcclComm>(client, compute, options);
  try {
    if (auto connected = comm->connect(); !connected) return connected.error();
  } catch (const DeviceError& e) {
    return e.error();
  }
  return std::unique_ptr<Comm>(std::move(comm));
}

}  // namespace llmlaunch::trainer::cuda
