/// \file
/// Streams, events and graphs of the emulated devices. Work that is queued runs when somebody waits, and not before: in
/// an order that keeps to streams and events and is otherwise drawn from the seed. Seed 0 runs no more than the wait
/// needs; others also run, now and then, what nobody waits for, and some of it as soon as it is queued.
///
/// The handle types of the CUDA headers are defined here. One mutex guards all of it.
#pragma once

#include <cuda_runtime_api.h>

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace cuda_host {

/// What a stream is given. `start` does it, and returns nothing; or, when it goes on without the device (a collective
/// that waits for other ranks), a function that says whether it is done.
struct Work {
  const char* what;
  std::function<std::function<bool()>()> start;
};

/// One piece of work in its place.
struct Queued {
  Work work;
  int device = 0;
  std::size_t missing = 0;                      // of what comes before it
  std::vector<std::shared_ptr<Queued>> before;  // those, while they are not done
  std::vector<std::shared_ptr<Queued>> followers;
  std::function<bool()> is_done_elsewhere;
  std::uint64_t wanted_by = 0;  // the last wait that needs it
  bool is_done = false;
};
using QueuedPtr = std::shared_ptr<Queued>;

/// Work of a graph, by places in its list.
struct Node {
  Work work;
  int device;
  std::vector<std::size_t> after;
};

struct Capture {
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  cudaStream_t origin;
  std::vector<Node> nodes;
  std::vector<cudaStream_t> streams;
  bool is_valid = true;
};

}  // namespace cuda_host

struct CUstream_st {
  int device = 0;
  bool is_legacy = false;
  bool waits_for_legacy = false;
  cuda_host::QueuedPtr last;
  std::shared_ptr<cuda_host::Capture> capture;
  std::vector<std::size_t> captured;  // the nodes that come before the next one
};

struct CUevent_st {
  int device = 0;
  cuda_host::QueuedPtr recorded;
  std::weak_ptr<cuda_host::Capture> capture;
  bool is_captured = false;
  std::vector<std::size_t> nodes;
};

struct CUgraph_st {
  std::vector<cuda_host::Node> nodes;
};

struct CUgraphExec_st {
  std::vector<cuda_host::Node> nodes;
  cuda_host::QueuedPtr last;
};

namespace cuda_host {

using Lock = std::unique_lock<std::mutex>;
std::mutex& device_mutex();

/// The device that this thread has chosen; 0 in a new thread.
int& current_device();

/// Null when the handle is none that lives. The null handle is the current device's legacy stream.
CUstream_st* find_stream(cudaStream_t stream);
bool is_event(cudaEvent_t event);

cudaStream_t make_stream(bool waits_for_legacy);
cudaError_t drop_stream(cudaStream_t stream);
cudaEvent_t make_event();
cudaError_t drop_event(cudaEvent_t event);

/// Takes the lock itself. Gives what the call that asked for the work is to return.
cudaError_t queue(cudaStream_t stream, Work work);
/// The same for who has the lock.
cudaError_t queue(CUstream_st& stream, Work work);

cudaError_t record(CUevent_st& event, CUstream_st& stream);
cudaError_t wait_event(CUstream_st& stream, CUevent_st& event);

cudaError_t begin_capture(CUstream_st& stream, cudaStreamCaptureMode mode);
cudaError_t end_capture(CUstream_st& stream, cudaGraph_t* graph);
cudaError_t launch_graph(CUgraphExec_st& graph, CUstream_st& stream);

/// The error of a call that a capture forbids, which ends that capture; else success.
cudaError_t refuse_unsafe_call();
/// The same for work of a kind, a kernel or a library's call of certain sizes, that nobody has queued outside of a
/// capture before: its code may have to be loaded, and memory allocated for it, which a driver may refuse in a capture.
/// Not for work without a name.
cudaError_t refuse_first_use(CUstream_st& stream, const std::string& kind);
void invalidate(CUstream_st& stream);

/// Until this is done (null: it is), or the device has failed. Releases the lock while others must come first.
cudaError_t wait_for(const QueuedPtr& target, Lock& lock, int device);
/// Until all of the device's work is done.
cudaError_t wait_for_all(int device, Lock& lock);
/// Some work on the way to it, as time would bring. Whether it is done.
bool look_at(const QueuedPtr& target);
/// The error that a device has failed with: from then on every call gives it.
cudaError_t device_failure(int device);
void fail_device(int device, cudaError_t error);

/// From 0 to `below` - 1, from the seed.
std::size_t draw(std::size_t below);

}  // namespace cuda_host
