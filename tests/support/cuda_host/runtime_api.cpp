// The functions of the CUDA runtime that trainer/cuda/ calls, over schedule.hpp and memory.hpp.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/cuda_host/memory.hpp"
#include "tests/support/cuda_host/schedule.hpp"
#include "tests/support/cuda_host/settings.hpp"

namespace cuda_host {
namespace {

cudaError_t& last_error() {
  thread_local cudaError_t error = cudaSuccess;
  return error;
}

/// The answer of a call. Every error is the thread's last one, "not ready", too, so that who does not expect that sees
/// it.
cudaError_t answer(cudaError_t error) {
  if (error != cudaSuccess) last_error() = error;
  return error;
}

/// Runs a call, unless a test wants it to fail.
template <class Function>
cudaError_t call(const char* name, Function&& function) {
  if (const int code = injected_failure(name); code != 0) return answer(static_cast<cudaError_t>(code));
  return answer(function());
}

cudaError_t check_range(const void* device, std::size_t bytes) {
  return is_device_memory(device, bytes) ? cudaSuccess : cudaErrorInvalidValue;
}

/// Whether the addresses are what the kind of copy says. Host memory is all pageable here.
cudaError_t check_copy(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault || kind == cudaMemcpyHostToHost) return cudaErrorNotSupported;
  if (is_device_memory(to, bytes) != to_device || is_device_memory(from, bytes) != from_device) {
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

Work copy(void* to, const void* from, std::size_t bytes) {
  return {"cudaMemcpyAsync", [=]() -> std::function<bool()> {
            std::memcpy(to, from, bytes);
            return nullptr;
          }};
}

/// A transfer from pageable host memory may read it before the call returns or when its turn comes: both are allowed.
Work upload(CUstream_st& stream, void* to, const void* from, std::size_t bytes) {
  if (stream.capture != nullptr || draw(2) == 0) return copy(to, from, bytes);
  const auto* const first = static_cast<const std::byte*>(from);
  auto staged = std::make_shared<std::vector<std::byte>>(first, first + bytes);
  return {"cudaMemcpyAsync", [to, staged]() -> std::function<bool()> {
            std::memcpy(to, staged->data(), staged->size());
            return nullptr;
          }};
}

/// The stream of a call, or what to return.
struct Found {
  CUstream_st* stream;
  cudaError_t error;
};
Found usable(cudaStream_t handle) {
  CUstream_st* const stream = find_stream(handle);
  if (stream == nullptr) return {nullptr, cudaErrorInvalidResourceHandle};
  return {stream, device_failure(stream->device)};
}

cudaError_t check_device(int device) {
  return device >= 0 && device < settings().devices ? cudaSuccess : cudaErrorInvalidDevice;
}

}  // namespace

/// For launches: kernels have no return value, so the error waits for cudaGetLastError.
void note_error(cudaError_t error) {
  answer(error);
}

}  // namespace cuda_host

using namespace cuda_host;

extern "C" {

cudaError_t cudaGetLastError() {
  return std::exchange(last_error(), cudaSuccess);
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorECCUncorrectable: return "cudaErrorECCUncorrectable";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported: return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation: return "cudaErrorStreamCaptureIsolation";
    case cudaErrorStreamCaptureImplicit: return "cudaErrorStreamCaptureImplicit";
    case cudaErrorCapturedEvent: return "cudaErrorCapturedEvent";
    default: return "cudaError";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  thread_local char text[64];
  std::snprintf(text, sizeof text, "emulated error %d", static_cast<int>(error));
  return text;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  return call("cudaGetDeviceCount", [&] {
    *count = settings().devices;
    return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
  });
}

cudaError_t cudaSetDevice(int device) {
  return call("cudaSetDevice", [&] {
    if (const cudaError_t bad = check_device(device); bad != cudaSuccess) return bad;
    current_device() = device;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return call("cudaDeviceGetAttribute", [&] {
    if (attribute != cudaDevAttrComputeCapabilityMajor) return cudaErrorNotSupported;
    *value = settings().capability;
    return check_device(device);
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return call("cudaGetDeviceProperties", [&] {
    *properties = {};
    std::snprintf(properties->name, sizeof properties->name, "emulated on the host");
    properties->totalGlobalMem = device_memory_size();
    properties->major = settings().capability;
    return check_device(device);
  });
}

cudaError_t cudaMalloc(void** address, std::size_t bytes) {
  return call("cudaMalloc", [&] {
    const Lock lock(device_mutex());
    if (const cudaError_t bad = refuse_unsafe_call(); bad != cudaSuccess) return bad;
    if (const cudaError_t bad = device_failure(current_device()); bad != cudaSuccess) return bad;
    *address = bytes == 0 ? nullptr : allocate_device_memory(current_device(), bytes);
    return *address != nullptr || bytes == 0 ? cudaSuccess : cudaErrorMemoryAllocation;
  });
}

cudaError_t cudaFree(void* address) {
  return call("cudaFree", [&] {
    const Lock lock(device_mutex());
    if (address == nullptr) return cudaSuccess;
    if (const cudaError_t bad = refuse_unsafe_call(); bad != cudaSuccess) return bad;
    if (!free_device_memory(address)) return cudaErrorInvalidValue;
    return device_failure(current_device());
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
  return call("cudaMemcpyAsync", [&] {
    const Lock lock(device_mutex());
    const auto [stream, error] = usable(handle);
    if (error != cudaSuccess || bytes == 0) return error;
    if (const cudaError_t bad = check_copy(to, from, bytes, kind); bad != cudaSuccess) return bad;
    return queue(*stream, kind == cudaMemcpyHostToDevice ? upload(*stream, to, from, bytes) : copy(to, from, bytes));
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return call("cudaMemcpy", [&] {
    Lock lock(device_mutex());
    if (const cudaError_t bad = refuse_unsafe_call(); bad != cudaSuccess) return bad;
    const auto [stream, error] = usable(nullptr);
    if (error != cudaSuccess || bytes == 0) return error;
    if (const cudaError_t bad = check_copy(to, from, bytes, kind); bad != cudaSuccess) return bad;
    if (kind == cudaMemcpyHostToDevice) {
      // The stream is waited for and the source is read, but the bytes may be on their way still when the call returns.
      if (const cudaError_t bad = wait_for(stream->last, lock, stream->device); bad != cudaSuccess) return bad;
      const auto* const first = static_cast<const std::byte*>(from);
      auto staged = std::make_shared<std::vector<std::byte>>(first, first + bytes);
      return queue(*stream, {"cudaMemcpy", [to, staged]() -> std::function<bool()> {
                               std::memcpy(to, staged->data(), staged->size());
                               return nullptr;
                             }});
    }
    if (const cudaError_t bad = queue(*stream, copy(to, from, bytes)); bad != cudaSuccess) return bad;
    return kind == cudaMemcpyDeviceToHost ? wait_for(stream->last, lock, stream->device) : cudaSuccess;
  });
}

cudaError_t cudaMemsetAsync(void* address, int value, std::size_t bytes, cudaStream_t handle) {
  return call("cudaMemsetAsync", [&] {
    const Lock lock(device_mutex());
    const auto [stream, error] = usable(handle);
    if (error != cudaSuccess || bytes == 0) return error;
    if (const cudaError_t bad = check_range(address, bytes); bad != cudaSuccess) return bad;
    return queue(*stream, {"cudaMemsetAsync", [=]() -> std::function<bool()> {
                             std::memset(address, value, bytes);
                             return nullptr;
                           }});
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return call("cudaStreamCreateWithFlags", [&] {
    const Lock lock(device_mutex());
    if (const cudaError_t bad = device_failure(current_device()); bad != cudaSuccess) return bad;
    *stream = make_stream(flags != cudaStreamNonBlocking);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return call("cudaStreamDestroy", [&] {
    const Lock lock(device_mutex());
    return drop_stream(stream);
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return call("cudaStreamSynchronize", [&] {
    Lock lock(device_mutex());
    const auto [stream, error] = usable(handle);
    if (error != cudaSuccess) return error;
    if (stream->capture != nullptr) {
      invalidate(*stream);
      return cudaErrorStreamCaptureUnsupported;
    }
    if (const cudaError_t bad = refuse_unsafe_call(); bad != cudaSuccess) return bad;
    return wait_for(stream->last, lock, stream->device);
  });
}

cudaError_t cudaDeviceSynchronize() {
  return call("cudaDeviceSynchronize", [&] {
    Lock lock(device_mutex());
    if (const cudaError_t bad = refuse_unsafe_call(); bad != cudaSuccess) return bad;
    return wait_for_all(current_device(), lock);
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  return call("cudaStreamWaitEvent", [&] {
    const Lock lock(device_mutex());
    const auto [stream, error] = usable(handle);
    if (error != cudaSuccess) return error;
    return is_event(event) ? wait_event(*stream, *event) : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return call("cudaEventCreateWithFlags", [&] {
    const Lock lock(device_mutex());
    *event = make_event();
    return device_failure(current_device());
  });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return call("cudaEventDestroy", [&] {
    const Lock lock(device_mutex());
    return drop_event(event);
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  return call("cudaEventRecord", [&] {
    const Lock lock(device_mutex());
    const auto [stream, error] = usable(handle);
    if (error != cudaSuccess) return error;
    return is_event(event) ? record(*event, *stream) : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return call("cudaEventQuery", [&] {
    const Lock lock(device_mutex());
    if (!is_event(event)) return cudaErrorInvalidResourceHandle;
    if (const cudaError_t bad = refuse_unsafe_call(); bad != cudaSuccess) return bad;
    if (event->is_captured) return cudaErrorCapturedEvent;
    const bool is_done = look_at(event->recorded);
    if (const cudaError_t bad = device_failure(event->device); bad != cudaSuccess) return bad;
    return is_done ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return call("cudaStreamBeginCapture", [&] {
    const Lock lock(device_mutex());
    const auto [stream, error] = usable(handle);
    return error != cudaSuccess ? error : begin_capture(*stream, mode);
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return call("cudaStreamIsCapturing", [&] {
    const Lock lock(device_mutex());
    const auto [stream, error] = usable(handle);
    if (error != cudaSuccess) return error;
    *status = stream->capture == nullptr  ? cudaStreamCaptureStatusNone
              : stream->capture->is_valid ? cudaStreamCaptureStatusActive
                                          : cudaStreamCaptureStatusInvalidated;
    return cudaSuccess;
  });
}

/// The capture is over also when a test wants this to fail.
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const Lock lock(device_mutex());
  CUstream_st* const stream = find_stream(handle);
  if (const int code = injected_failure("cudaStreamEndCapture"); code != 0) {
    if (stream != nullptr && end_capture(*stream, graph) == cudaSuccess) delete *graph;
    *graph = nullptr;
    return answer(static_cast<cudaError_t>(code));
  }
  return answer(stream == nullptr ? cudaErrorInvalidResourceHandle : end_capture(*stream, graph));
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  return call("cudaGraphInstantiate", [&] {
    const Lock lock(device_mutex());
    *executable = new CUgraphExec_st{graph->nodes, nullptr};
    return device_failure(current_device());
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  return call("cudaGraphLaunch", [&] {
    const Lock lock(device_mutex());
    const auto [stream, error] = usable(handle);
    return error != cudaSuccess ? error : launch_graph(*executable, *stream);
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Lock lock(device_mutex());
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Lock lock(device_mutex());
  delete executable;
  return cudaSuccess;
}

}  // extern "C"
