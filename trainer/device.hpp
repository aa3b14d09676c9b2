/// \file
/// CPU or GPU: what this rank computes on, and the backend and communicator that go with it. The one door to
/// trainer/cuda/, which is there or not.
#pragma once

#include <memory>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/backend.hpp"
#include "trainer/comm.hpp"
#include "trainer/options.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer {

struct DevicePlan {
  bool cuda = false;
  int nccl_version = 0;  ///< ncclGetVersion's number, 0 on a CPU
  std::string why;       ///< why it is this device, for the first line: "no GPU: …"
};

/// `automatic` takes a GPU where there is one that can be used. Asked for a GPU that cannot: `Errc::unsupported` says
/// what is missing and what to do. ACCELERATE_USE_CPU, as accelerate sets it for use_cpu in its YAML, keeps
/// `automatic` on the CPU; what was typed wins over it.
Result<DevicePlan> choose_device(DeviceChoice choice);

/// A backend and the communicator of its memory. The communicator is to be destroyed first.
struct Engine {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Comm> comm;
};
Result<Engine> make_engine(const TrainOptions& options, World& world, const DevicePlan& plan);

}  // namespace llmlaunch::trainer
