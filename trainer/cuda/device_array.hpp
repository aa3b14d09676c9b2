/// \file
/// An array in the GPU's memory, owned.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <span>
#include <utility>

#include "trainer/cuda/check.hpp"

namespace llmlaunch::trainer::cuda {

/// Grows and never shrinks. Throws `DeviceError`.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(std::size_t size) { reserve(size); }
  ~DeviceArray() {
    if (data_ != nullptr) cudaFree(data_);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  /// Room for `size` values; what it held is lost when it has to grow.
  void reserve(std::size_t size) {
    if (size <= size_) return;
    if (data_ != nullptr) CUDA_CHECK(cudaFree(std::exchange(data_, nullptr)));
    size_ = 0;
    void* memory = nullptr;
    CUDA_CHECK(cudaMalloc(&memory, size * sizeof(T)));
    data_ = static_cast<T*>(memory);
    size_ = size;
  }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<T> span() const { return {data_, size_}; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace llmlaunch::trainer::cuda
