/* All ranks of a job add up a vector on their GPUs: NCCL, CUDA and llmlaunch's rendezvous, nothing else.
 *
 *   rdv=llmlaunch_rendezvous
 *   flags="$(pkg-config --cflags --libs $rdv) -Wl,-rpath,$(pkg-config --variable=libdir $rdv)"
 *   cc nccl_all_reduce.c -o nccl_all_reduce $flags -lnccl -lcudart
 *   llmlaunch run --config job.yaml ./nccl_all_reduce
 */
#include <cuda_runtime_api.h>
#include <llmlaunch_rendezvous.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT 1048576

static void fail(const char* what, const char* why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}
static void check_rendezvous(int status, const char* what) {
  if (status != LLMLAUNCH_RDV_OK) fail(what, llmlaunch_rdv_error_text());
}
static void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail(what, cudaGetErrorString(status));
}
static void check_nccl(ncclResult_t status, const char* what) {
  if (status != ncclSuccess) fail(what, ncclGetErrorString(status));
}

/* NCCL waits for ever for a rank that has gone; the rendezvous knows that it has. */
static void stop(void* unused, const char* reason) {
  (void)unused;
  fprintf(stderr, "stopped: %s\n", reason);
  _Exit(1);
}

int main(void) {
  const char* local = getenv("LOCAL_RANK");
  int gpus = 0, version = 0, i;
  llmlaunch_rdv* job;
  ncclUniqueId id;
  ncclComm_t comm;
  cudaStream_t stream;
  float *values, *host = malloc(COUNT * sizeof *host);
  if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) {
    fprintf(stderr, "skipped: no GPU here\n");
    return 77; /* skipped, as test drivers count it */
  }
  check_cuda(cudaSetDevice(local ? atoi(local) % gpus : 0), "cudaSetDevice");

  /* Ranks whose NCCL differs are told here, by name, before they meet in NCCL. */
  check_nccl(ncclGetVersion(&version), "ncclGetVersion");
  check_rendezvous(llmlaunch_rdv_join_environment(version, &job), "join");
  const int rank = (int)llmlaunch_rdv_rank(job), world = (int)llmlaunch_rdv_world_size(job);
  llmlaunch_rdv_on_end(job, stop, NULL);
  if (rank == 0) {
    check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    check_rendezvous(llmlaunch_rdv_publish_unique_id(job, 0, &id), "publish");
  }
  check_rendezvous(llmlaunch_rdv_unique_id(job, 0, -1, &id), "unique id");
  check_nccl(ncclCommInitRank(&comm, world, id, rank), "ncclCommInitRank");

  for (i = 0; i < COUNT; ++i) host[i] = (float)(rank + 1);
  check_cuda(cudaStreamCreate(&stream), "cudaStreamCreate");
  check_cuda(cudaMalloc((void**)&values, COUNT * sizeof *host), "cudaMalloc");
  check_cuda(cudaMemcpy(values, host, COUNT * sizeof *host, cudaMemcpyHostToDevice), "cudaMemcpy");
  check_nccl(ncclAllReduce(values, values, COUNT, ncclFloat, ncclSum, comm, stream), "ncclAllReduce");
  check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  check_cuda(cudaMemcpy(host, values, COUNT * sizeof *host, cudaMemcpyDeviceToHost), "cudaMemcpy");
  for (i = 0; i < COUNT; ++i) {
    if (host[i] == (float)(world * (world + 1) / 2)) continue;
    fprintf(stderr, "value %d is %f\n", i, host[i]);
    return 1;
  }
  printf("rank %d of %d: the sum is %.0f\n", rank, world, host[0]);

  llmlaunch_rdv_on_end(job, NULL, NULL);
  check_rendezvous(llmlaunch_rdv_barrier(job, "done", -1), "barrier"); /* rank 0 has served the id: it leaves last */
  check_nccl(ncclCommDestroy(comm), "ncclCommDestroy");
  llmlaunch_rdv_leave(job);
  free(host);
  return 0;
}
