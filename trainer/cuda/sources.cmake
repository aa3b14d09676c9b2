# Sources of the CUDA backend. Where it is not built, too, they are sources of the program: ranks of a build with it and of
# one without it may be one job, on CPUs.
set(llmlaunch_cuda_sources
  check.cpp
  convolution.cpp
  cuda_backend.cpp
  kernels.cu
  layers.cpp
  libraries.cpp
  nccl_comm.cpp
  network.cpp
  step_graph.cpp
)
