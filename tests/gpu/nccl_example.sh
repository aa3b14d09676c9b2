#!/usr/bin/env bash
# The NCCL example as a job of llmlaunch, one rank for each GPU of this machine. Without a GPU the example says so: status 77.
#
#   tests/gpu/nccl_example.sh BIN_DIR
set -euo pipefail
bin=$1
gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU' || true)
[[ $gpus -gt 0 ]] || exec "$bin/example_nccl_all_reduce"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/job.yaml" <<YAML
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
num_processes: $gpus
llmlaunch:
  log_dir: $work/runs
  hosts:
    - {name: localhost, slots: $gpus}
YAML
"$bin/llmlaunch" run --config "$work/job.yaml" "$bin/example_nccl_all_reduce" | tee "$work/out"
# Every rank has the sum of 1 … $gpus.
[[ $(grep -c "the sum is $((gpus * (gpus + 1) / 2))\$" "$work/out") -eq $gpus ]]
