// NCCL, cuBLAS and cuDNN as the trainer opens them. Opening needs no GPU; neither does making a unique id.
#include "trainer/cuda/libraries.hpp"

#include <cstring>

#include "tests/support/catch.hpp"

namespace trainer_libraries_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer::cuda;

TEST_CASE("every function that the CUDA backend calls is in the libraries of this machine") {
  if (const auto loaded = load_nccl(); !loaded) FAIL(to_string(loaded.error()));
  if (const auto loaded = load_cublas(); !loaded) FAIL(to_string(loaded.error()));
  if (const auto loaded = load_cudnn(); !loaded) FAIL(to_string(loaded.error()));
  int version = 0;
  CHECK(nccl().ncclGetVersion(&version) == ncclSuccess);
  CHECK(version >= 21400);
}

TEST_CASE("NCCL makes a new unique id each time, also without a GPU") {
  REQUIRE(load_nccl());
  ncclUniqueId first{};
  ncclUniqueId second{};
  REQUIRE(nccl().ncclGetUniqueId(&first) == ncclSuccess);
  REQUIRE(nccl().ncclGetUniqueId(&second) == ncclSuccess);
  CHECK(std::memcmp(&first, &second, sizeof first) != 0);
}

}  // namespace trainer_libraries_test
