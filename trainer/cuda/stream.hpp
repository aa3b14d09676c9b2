/// \file
/// A stream and an event that go with their owner.
#pragma once

#include <cuda_runtime_api.h>

#include "trainer/cuda/check.hpp"

namespace llmlaunch::trainer::cuda {

/// One that does not wait for the legacy stream, nor that for it. Throws `DeviceError`.
class Stream {
 public:
  Stream() { CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t handle() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// What is queued on `first` comes before what is queued on `second` from now on. May be captured.
  void order(cudaStream_t first, cudaStream_t second) const {
    CUDA_CHECK(cudaEventRecord(event_, first));
    CUDA_CHECK(cudaStreamWaitEvent(second, event_, 0));
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace llmlaunch::trainer::cuda
