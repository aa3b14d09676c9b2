// dlopen and dlsym for the three GPU libraries, and nothing else: no call into them happens here.
#include "trainer/cuda/libraries.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cassert>
#include <cstdlib>
#include <string>
#include <vector>

namespace llmlaunch::trainer::cuda {
namespace {

std::vector<std::string> candidates(const std::string& file, const char* build_directory) {
  std::vector<std::string> result = {file};
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const char* home = std::getenv(variable); home != nullptr && *home != '\0') {
      result.push_back(fmt::format("{}/lib64/{}", home, file));
    }
  }
  result.push_back("/usr/local/cuda/lib64/" + file);
  if (*build_directory != '\0') result.push_back(fmt::format("{}/{}", build_directory, file));
  return result;
}

Result<void*> open_library(const std::string& file, const char* build_directory, const std::string& hint) {
  std::string first_failure;
  for (const std::string& path : candidates(file, build_directory)) {
    // Never closed: NCCL's and cuDNN's threads and exit handlers live as long as the process.
    if (void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); handle != nullptr) return handle;
    const char* said = ::dlerror();
    if (first_failure.empty() && said != nullptr) first_failure = said;
  }
  return make_error(Errc::unsupported, fmt::format("training on a GPU needs {}: {}", file, first_failure), {}, hint);
}

template <class Function>
Result<void> find_function(void* handle, const std::string& file, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(handle, name));
  if (function != nullptr) return ok;
  return make_error(Errc::version_mismatch, fmt::format("{} has no function {}", file, name), {},
                    fmt::format("install the version that llmlaunch-train was built for, or a newer one"));
}

Result<Nccl> open_nccl() {
  // NCCL promises compatibility for one soname.
  const std::string file = "libnccl.so.2";
  auto handle =
      open_library(file, LLMLAUNCH_NCCL_DIRECTORY,
                   "install NCCL 2.14 or newer (package libnccl2, or the Python wheel nvidia-nccl) and add its "
                   "folder to LD_LIBRARY_PATH; without a GPU run with --use_cpu");
  if (!handle) return handle.error();
  Nccl table;
#define LLMLAUNCH_FIND(name) \
  if (auto found = find_function(*handle, file, #name, table.name); !found) return found.error();
  LLMLAUNCH_NCCL_FUNCTIONS(LLMLAUNCH_FIND)
  return table;
}

#define LLMLAUNCH_TEXT_OF(x) #x
#define LLMLAUNCH_TEXT(x) LLMLAUNCH_TEXT_OF(x)

Result<Cublas> open_cublas() {
  const std::string file = "libcublas.so." LLMLAUNCH_TEXT(CUBLAS_VER_MAJOR);
  auto handle =
      open_library(file, LLMLAUNCH_CUDA_DIRECTORY,
                   "install cuBLAS of the CUDA Toolkit and add its folder to LD_LIBRARY_PATH; without a GPU run "
                   "with --use_cpu");
  if (!handle) return handle.error();
  Cublas table;
  LLMLAUNCH_CUBLAS_FUNCTIONS(LLMLAUNCH_FIND)
  LLMLAUNCH_FIND(cublasGemmEx)
  return table;
}

Result<Cudnn> open_cudnn() {
  const std::string file = "libcudnn.so." LLMLAUNCH_TEXT(CUDNN_MAJOR);
  auto handle = open_library(file, LLMLAUNCH_CUDNN_DIRECTORY,
                             "install cuDNN (package libcudnn, or the Python wheel nvidia-cudnn) and add its folder to "
                             "LD_LIBRARY_PATH; without a GPU run with --use_cpu");
  if (!handle) return handle.error();
  Cudnn table;
  LLMLAUNCH_CUDNN_FUNCTIONS(LLMLAUNCH_FIND)
  return table;
}

template <class Table>
Result<const Table*> pointer(const Result<Table>& table) {
  if (!table) return table.error();
  return &*table;
}

}  // namespace

Result<const Nccl*> load_nccl() {
  static const Result<Nccl> kTable = open_nccl();
  return pointer(kTable);
}

Result<const Cublas*> load_cublas() {
  static const Result<Cublas> kTable = open_cublas();
  return pointer(kTable);
}

Result<const Cudnn*> load_cudnn() {
  static const Result<Cudnn> kTable = open_cudnn();
  return pointer(kTable);
}

const Nccl& nccl() {
  const auto table = load_nccl();
  assert(table);
  return **table;
}

const Cublas& cublas() {
  const auto table = load_cublas();
  assert(table);
  return **table;
}

const Cudnn& cudnn() {
  const auto table = load_cudnn();
  assert(table);
  return **table;
}

}  // namespace llmlaunch::trainer::cuda
