#!/usr/bin/env bash
# On a machine with GPUs: builds the CUDA backend, runs what only a GPU can show, and measures it beside PyTorch.
#
#   scripts/gpu_check.sh [BUILD_DIR]       default build/cuda
#
#   LLMLAUNCH_PYTHON=…   a Python whose PyTorch has CUDA (default: python3, where it has one; else that of
#                        scripts/python_env.sh). Without one the peers are left out
#   LLMLAUNCH_STEPS=N    steps of each measurement (3000)
#
# Prints one table. Exit status: 0 all passed, 1 something failed, 77 this machine has no GPU or no CUDA Toolkit.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/cuda}

skip() {
  echo "gpu_check: skipped: $*" >&2
  exit 77
}

command -v nvidia-smi >/dev/null || skip "no NVIDIA driver here (nvidia-smi is not in PATH)"
gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>&1) || skip "nvidia-smi: ${gpus%%$'\n'*}"
count=$(wc -l <<<"$gpus")
[[ -n $gpus ]] || skip "nvidia-smi lists no GPU"
command -v nvcc >/dev/null || [[ -x ${CUDA_HOME:-/usr/local/cuda}/bin/nvcc ]] || skip "no CUDA Toolkit here (nvcc)"

cmake --preset cuda -B "$build" >/dev/null
cmake --build "$build" --target llmlaunch-train gpu_backend_test unit_trainer_libraries \
  llmlaunch llmlaunch-agent example_nccl_all_reduce nccl_all_reduce_bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

status=0
rows=()
row() { rows+=("$(printf '%-48s %-8s %s' "$1" "$2" "$3")"); }

# check NAME FILE COMMAND…: runs it, keeps its output, adds its row.
check() {
  local name=$1 file=$work/$2 code=0
  shift 2
  "$@" >"$file" 2>&1 || code=$?
  case $code in
    0) row "$name" passed "$(grep -E 'measured:|largest relative|test accuracy|the sum is' "$file" | tail -1)" ;;
    77) row "$name" skipped "$(tail -1 "$file")" ;;
    *)
      row "$name" FAILED "status $code"
      cat "$file" >&2
      status=1
      ;;
  esac
}

check "libraries open" libraries "$build/bin/unit_trainer_libraries"
check "CUDA backend against the CPU's" backend "$build/bin/gpu_backend_test"
check "one epoch on one GPU" train "$build/bin/llmlaunch-train" --device cuda --num_train_epochs 1
check "the same as a CUDA graph" train_graph "$build/bin/llmlaunch-train" --device cuda --num_train_epochs 1 --cuda_graph
# The graph's numbers are those of the ordinary steps, bit for bit.
hash_in() { grep -o 'parameter hash [0-9a-f]*' "$work/$1" || true; }
if [[ -n $(hash_in train) && $(hash_in train) == $(hash_in train_graph) ]]; then
  row "both ways end with the same weights" passed "$(hash_in train)"
else
  row "both ways end with the same weights" FAILED "$(hash_in train), as a graph $(hash_in train_graph)"
  status=1
fi
check "NCCL all-reduce example, $count rank(s)" nccl_example tests/gpu/nccl_example.sh "$build/bin"
check "NCCL all-reduce, world size 1" all_reduce "$build/bin/llmlaunch" run --num_processes 1 --log-dir "$work/runs" \
  "$build/bin/nccl_all_reduce_bench"
if [[ $count -ge 2 && -x $build/bin/llmlaunch ]]; then
  cat >"$work/two.yaml" <<'YAML'
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
num_processes: 2
llmlaunch:
  hosts:
    - {name: localhost, slots: 2}
YAML
  check "one epoch on two GPUs (NCCL)" two "$build/bin/llmlaunch" run --config "$work/two.yaml" train --device cuda
  check "the same as a CUDA graph" two_graph "$build/bin/llmlaunch" run --config "$work/two.yaml" train --device cuda \
    --cuda_graph
else
  row "two ranks over NCCL" skipped "$count GPU here, or llmlaunch is not built in $build"
fi

# The peers' Python: the first that can compute on a GPU.
python=
for candidate in "${LLMLAUNCH_PYTHON:-}" python3 "${XDG_CACHE_HOME:-$HOME/.cache}/llmlaunch-tests/python/bin/python"; do
  if [[ -n $candidate ]] && "$candidate" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[[ -n $python ]] || row "PyTorch on the same GPU" skipped "no Python with CUDA's PyTorch; LLMLAUNCH_PYTHON names one"
check "100 steps beside PyTorch's on the GPU" curves python3 tests/gpu/pytorch_curves.py --bin "$build/bin" \
  ${python:+--python "$python"}
if python3 tests/bench/bench_gpu.py --bin "$build/bin" ${python:+--python "$python"} --steps "${LLMLAUNCH_STEPS:-3000}" \
  >"$work/bench" 2>&1; then
  while IFS='|' read -r name value; do row "${name% }" "" "${value# }"; done <"$work/bench"
else
  row "speed beside PyTorch" FAILED "status $?"
  cat "$work/bench" >&2
  status=1
fi

echo
echo "GPUs: ${gpus//$'\n'/, }; driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1)"
printf '%-48s %-8s %s\n' check result detail
printf '%s\n' "${rows[@]}"
exit "$status"
