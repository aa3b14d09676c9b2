// Chooses between CPU and GPU and builds what belongs to each. Compiled with or without the CUDA backend.
#include "trainer/device.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/env.hpp"
#include "trainer/cpu_backend.hpp"
#include "trainer/flag_values.hpp"
#include "trainer/gloo_options.hpp"
#include "trainer/late_ranks.hpp"
#include "trainer/world.hpp"
#ifdef LLMLAUNCH_CUDA_BACKEND
#include "trainer/cuda/cuda_backend.hpp"
#endif

namespace llmlaunch::trainer {
namespace {

constexpr const char* kDeviceHint =
    "run with --use_cpu (use_cpu: true in the YAML), or see what nvidia-smi says on this host";

bool told_to_use_cpu() {
  const char* value = std::getenv("ACCELERATE_USE_CPU");
  const std::string_view text = value == nullptr ? "" : value;
  return text == "true" || text == "True" || text == "1" || text == "yes";
}

/// The GPUs that can be used, with NCCL's version; or why there is none.
Result<int> usable_nccl() {
#ifdef LLMLAUNCH_CUDA_BACKEND
  return cuda::probe();
#else
  return make_error(
      Errc::unsupported, "this llmlaunch-train was built without CUDA", {},
      "run with --use_cpu (use_cpu: true in the YAML), or build with -DLLMLAUNCH_CUDA=ON where CUDA, NCCL and "
      "cuDNN are");
#endif
}

std::chrono::milliseconds timeout_of(const TrainOptions& options) {
  return std::chrono::seconds(options.ddp_timeout);
}

Result<std::unique_ptr<Comm>> make_cpu_comm(const TrainOptions& options, World& world) {
  if (world.world_size == 1) return std::unique_ptr<Comm>(std::make_unique<LocalComm>());
  auto gloo = gloo_options_from_environment();
  if (!gloo) return gloo.error();
  gloo->connect_timeout = std::min(world.client->options().timeout, timeout_of(options));
  gloo->timeout = timeout_of(options);
  return make_gloo_comm(*world.client, *gloo);
}

#ifdef LLMLAUNCH_CUDA_BACKEND
/// What the environment says of them; nothing: those from the start.
Result<cuda::ConvolutionAlgorithms> algorithms_in_environment() {
  cuda::ConvolutionAlgorithms algorithms;
  const char* const value = std::getenv(env::kCudnnAlgorithms);
  const std::string_view text = value == nullptr ? "" : value;
  if (text.empty()) return algorithms;
  if (text.size() == 5 && text[1] == ',' && text[3] == ',') {
    algorithms = {.forward = text[0] - '0', .backward_data = text[2] - '0', .backward_filter = text[4] - '0'};
    if (cuda::is_repeatable(algorithms)) return algorithms;
  }
  return make_error(Errc::invalid_config,
                    fmt::format("environment variable {} is '{}', not the numbers of three algorithms of cuDNN's that "
                                "repeat bit for bit, as 1,1,1",
                                env::kCudnnAlgorithms, cut_text(text, kShownWord)));
}
#endif

/// Without the words for who is late.
Result<Engine> make_device(const TrainOptions& options, World& world, [[maybe_unused]] const DevicePlan& plan) {
  const AdamWOptions adamw{.weight_decay = options.weight_decay,
                           .beta1 = options.adam_beta1,
                           .beta2 = options.adam_beta2,
                           .epsilon = options.adam_epsilon};
  const DropoutOptions dropout{.on = options.dropout, .seed = options.seed};
  const Model* const model = find_model(options.model);
  if (model == nullptr) {
    return make_error(Errc::usage, fmt::format("--model {}: there is {}", options.model, model_names()));
  }
#ifdef LLMLAUNCH_CUDA_BACKEND
  if (plan.cuda) {
    const auto one_stream = switch_in_environment(env::kGraphOneStream);
    if (!one_stream) return one_stream.error();
    const auto algorithms = algorithms_in_environment();
    if (!algorithms) return algorithms.error();
    return cuda::make_engine(world, *model, adamw, dropout, options.precision,
                             *one_stream ? cuda::GraphStreams::one : cuda::GraphStreams::two, *algorithms,
                             timeout_of(options));
  }
#endif
  // Beside narrower numbers, too, where it would change none: a CPU has no TF32.
  const auto math = cpu_math(options.tf32 ? Precision::tf32 : options.precision);
  if (!math) return math.error();
  Engine engine;
  std::uint32_t threads = options.threads;
  if (threads == 0) {
    const auto fallback = default_threads(world.local_world_size);
    if (!fallback) return fallback.error();
    threads = *fallback;
  }
  auto backend = make_cpu_backend(*model, adamw, dropout, threads, *math);
  if (!backend) return backend.error();
  engine.backend = std::move(*backend);
  auto comm = make_cpu_comm(options, world);
  if (!comm) return comm.error();
  engine.comm = std::move(*comm);
  return engine;
}

}  // namespace

Result<DevicePlan> choose_device(DeviceChoice choice) {
  if (choice == DeviceChoice::cpu) return DevicePlan{.cuda = false, .nccl_version = 0, .why = "--use_cpu"};
  if (choice == DeviceChoice::automatic && told_to_use_cpu()) {
    return DevicePlan{.cuda = false, .nccl_version = 0, .why = "ACCELERATE_USE_CPU (use_cpu: true)"};
  }
  const auto nccl_version = usable_nccl();
  if (nccl_version) return DevicePlan{.cuda = true, .nccl_version = *nccl_version, .why = {}};
  Error error = nccl_version.error();
  error.what = "no GPU: " + error.what;
  if (choice == DeviceChoice::cuda) {
    if (error.hint.empty()) error.hint = kDeviceHint;
    return error;
  }
  return DevicePlan{.cuda = false, .nccl_version = 0, .why = error.what};
}

Result<Engine> make_engine(const TrainOptions& options, World& world, const DevicePlan& plan) {
  auto engine = make_device(options, world, plan);
  if (!engine || world.world_size == 1) return engine;
  auto comm = name_late_ranks(std::move(engine->comm), *world.client, world.host, timeout_of(options));
  if (!comm) return comm.error();
  engine->comm = std::move(*comm);
  return engine;
}

}  // namespace llmlaunch::trainer
