/// \file
/// Names of the environment variables that a rank finds. Sources: torchrun, DeepSpeed, accelerate, Open MPI as their
/// workers read them. The launcher writes them (launcher/plan.cpp), the trainer and the rendezvous client read them.
#pragma once

namespace llmlaunch::env {

// The world, as torchrun names it.
inline constexpr const char* kRank = "RANK";  // 0 … WORLD_SIZE-1
inline constexpr const char* kWorldSize = "WORLD_SIZE";
inline constexpr const char* kLocalRank = "LOCAL_RANK";  // 0 … LOCAL_WORLD_SIZE-1 on this host
inline constexpr const char* kLocalWorldSize = "LOCAL_WORLD_SIZE";
inline constexpr const char* kGroupRank = "GROUP_RANK";             // index of the host
inline constexpr const char* kGroupWorldSize = "GROUP_WORLD_SIZE";  // number of hosts
inline constexpr const char* kMasterAddr = "MASTER_ADDR";
inline constexpr const char* kMasterPort = "MASTER_PORT";
// The same under the names of other launchers' workers.
inline constexpr const char* kNodeRank = "NODE_RANK";
inline constexpr const char* kLocalSize = "LOCAL_SIZE";
inline constexpr const char* kCrossRank = "CROSS_RANK";
inline constexpr const char* kCrossSize = "CROSS_SIZE";
inline constexpr const char* kRoleName =
    "ROLE_NAME";  // torchrun's roles; here there is one, so that ranks are the same
inline constexpr const char* kRoleRank = "ROLE_RANK";
inline constexpr const char* kRoleWorldSize = "ROLE_WORLD_SIZE";
inline constexpr const char* kElasticRunId = "TORCHELASTIC_RUN_ID";
inline constexpr const char* kElasticRestartCount = "TORCHELASTIC_RESTART_COUNT";
inline constexpr const char* kElasticMaxRestarts = "TORCHELASTIC_MAX_RESTARTS";
inline constexpr const char* kElasticUseAgentStore =
    "TORCHELASTIC_USE_AGENT_STORE";  // "True": a store of the launcher's
inline constexpr const char* kHorovodRank = "HOROVOD_RANK";
inline constexpr const char* kHorovodSize = "HOROVOD_SIZE";
inline constexpr const char* kHorovodLocalRank = "HOROVOD_LOCAL_RANK";
inline constexpr const char* kHorovodLocalSize = "HOROVOD_LOCAL_SIZE";
inline constexpr const char* kHorovodCrossRank = "HOROVOD_CROSS_RANK";
inline constexpr const char* kHorovodCrossSize = "HOROVOD_CROSS_SIZE";
inline constexpr const char* kHorovodHostname = "HOROVOD_HOSTNAME";
inline constexpr const char* kOmpiRank = "OMPI_COMM_WORLD_RANK";
inline constexpr const char* kOmpiSize = "OMPI_COMM_WORLD_SIZE";
inline constexpr const char* kOmpiLocalRank = "OMPI_COMM_WORLD_LOCAL_RANK";
inline constexpr const char* kOmpiLocalSize = "OMPI_COMM_WORLD_LOCAL_SIZE";
inline constexpr const char* kOmpiNodeRank = "OMPI_COMM_WORLD_NODE_RANK";  // Open MPI's word for a rank on its host

// llmlaunch's own.
inline constexpr const char* kJobId = "LLMLAUNCH_JOB_ID";
inline constexpr const char* kGeneration = "LLMLAUNCH_GENERATION";
inline constexpr const char* kRendezvous = "LLMLAUNCH_RENDEZVOUS";                 // address:port, or [v6 address]:port
inline constexpr const char* kRendezvousTimeout = "LLMLAUNCH_RENDEZVOUS_TIMEOUT";  // milliseconds to join it
inline constexpr const char* kToken = "LLMLAUNCH_TOKEN";                           // 64 hex digits; a secret
/// Not for ranks: the token of machines that are started one by one. The ranks' own token is another variable, as a
/// rank may be one that runs llmlaunch.
inline constexpr const char* kJoinToken = "LLMLAUNCH_JOIN_TOKEN";
inline constexpr const char* kHost = "LLMLAUNCH_HOST";  // the host's name in the configuration
/// Columns for a line of progress: somebody sees what ranks write on a terminal, where a line that they draw again
/// stays one. Not set where nobody does.
inline constexpr const char* kColumns = "LLMLAUNCH_COLUMNS";
/// In front of an option of llmlaunch-train, in capitals. Nobody sets them but the user.
inline constexpr const char* kTrainPrefix = "LLMLAUNCH_TRAIN_";
/// Nobody sets it but the user, as NCCL_SHM_DISABLE: with true, on any rank, the trainer's CPU ranks average over TCP.
inline constexpr const char* kShmDisable = "LLMLAUNCH_SHM_DISABLE";
/// The same for comparisons: with true a GPU's steps as a graph have one piece of work after another.
inline constexpr const char* kGraphOneStream = "LLMLAUNCH_GRAPH_ONE_STREAM";
/// And with "1,5,5" it convolves by these algorithms of cuDNN's.
inline constexpr const char* kCudnnAlgorithms = "LLMLAUNCH_CUDNN_ALGORITHMS";

inline constexpr const char* kCudaVisibleDevices = "CUDA_VISIBLE_DEVICES";
inline constexpr const char* kCudaDeviceOrder = "CUDA_DEVICE_ORDER";
inline constexpr const char* kNcclInterface = "NCCL_SOCKET_IFNAME";  // "=eth0": this one, and none whose name begins so
inline constexpr const char* kGlooInterface = "GLOO_SOCKET_IFNAME";
inline constexpr const char* kNcclAsyncErrors = "TORCH_NCCL_ASYNC_ERROR_HANDLING";
inline constexpr const char* kOmpNumThreads = "OMP_NUM_THREADS";
inline constexpr const char* kMixedPrecision = "ACCELERATE_MIXED_PRECISION";

}  // namespace llmlaunch::env
