#!/usr/bin/env bash
# On a machine with GPUs: builds the CUDA backend, runs what only a GPU can show, and measures it beside PyTorch.
#
#   scripts/gpu_check.sh [--repeat N] [BUILD_DIR]       default: 3 times, in build/cuda
#
#   --repeat N           each speed is the median of N programs; more say more, and take longer
#   LLMLAUNCH_PYTHON=…   a Python whose PyTorch has CUDA (default: python3, where it has one; else that of
#                        scripts/python_env.sh). Without one the peers are left out
#   LLMLAUNCH_STEPS=N    steps of each measurement (3000)
#
# Time: the build, 4 minutes on 16 cores; then some minutes of checks; then 15 programs of 5 to 60 s for each of N, most of
# it PyTorch's own start and torch.compile: half an hour for 3. It is an estimate: no GPU has been at hand.
#
# Prints one table. Exit status: 0 all passed, 1 something failed, 64 a wrong argument, 69 the build needs what is not here,
# 77 this machine has no GPU or no CUDA Toolkit.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "gpu_check: $1; usage: scripts/gpu_check.sh [--repeat N] [BUILD_DIR]" >&2
  exit 64
}
build=
repeat=3
while [[ $# -gt 0 ]]; do
  case $1 in
    --repeat)
      [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || usage "--repeat wants a number from 1 to 9999, not '${2:-}'"
      repeat=$2
      shift 2
      ;;
    -*) usage "there is no $1" ;;
    *)
      [[ -z $build ]] || usage "one BUILD_DIR, not '$build' and '$1'"
      build=$1
      shift
      ;;
  esac
done
build=${build:-build/cuda}

skip() {
  echo "gpu_check: skipped: $*" >&2
  exit 77
}

command -v nvidia-smi >/dev/null || skip "no NVIDIA driver here (nvidia-smi is not in PATH)"
gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>&1) || skip "nvidia-smi: ${gpus%%$'\n'*}"
[[ -n $gpus ]] || skip "nvidia-smi lists no GPU"
count=$(wc -l <<<"$gpus")
# CMake looks for nvcc in PATH and in CUDACXX alone.
wanted=${CUDACXX:-$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")}
CUDACXX=$(command -v "$wanted") || skip "no CUDA Toolkit here (no $wanted)"
export CUDACXX PATH=$PATH:${CUDACXX%/*}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# missing: one line for each need of the build that is not here.
missing() {
  local version tools=
  command -v ninja >/dev/null || tools+=$'ninja\n'
  command -v "${CXX:-c++}" >/dev/null || tools+=$'a C++ compiler (GCC 12)\n'
  version=$(cmake --version 2>/dev/null | sed -n '1s/.* //p') || true
  [[ $(printf '3.25\n%s\n' "$version" | sort -V | head -1) == 3.25 ]] || tools+="CMake 3.25 (here: ${version:-none})"$'\n'
  if [[ -n $tools ]]; then
    printf '%s' "$tools"
    echo "perhaps libraries, which are looked for when these are here"
    return
  fi
  rm -rf "$work/needs"
  cmake -G Ninja -S scripts/needs -B "$work/needs" -DMISSING_FILE="$work/missing" \
    ${NCCL_ROOT:+-DNCCL_ROOT="$NCCL_ROOT"} ${CUDNN_ROOT:+-DCUDNN_ROOT="$CUDNN_ROOT"} >"$work/needs.log" 2>&1 ||
    { cat "$work/needs.log" >&2; echo "a CMake that can configure (its words are above)"; return; }
  cat "$work/missing"
}

needs=$(missing)
if [[ -n $needs ]] && command -v apt-get >/dev/null && [[ $EUID -eq 0 ]]; then
  scripts/install_deps.sh
  needs=$(missing)
fi
if [[ -n $needs ]]; then
  echo "gpu_check: error: the build needs what is not here: ${needs//$'\n'/, }" >&2
  echo "   hint: scripts/install_deps.sh installs all but CUDA's on Debian; NCCL_ROOT and CUDNN_ROOT name folders of" \
    "these two, or that of their Python wheels (nvidia-nccl-cu13, nvidia-cudnn-cu13)" >&2
  exit 69
fi

cmake --preset cuda -B "$build" ${NCCL_ROOT:+-DNCCL_ROOT="$NCCL_ROOT"} ${CUDNN_ROOT:+-DCUDNN_ROOT="$CUDNN_ROOT"} >/dev/null
cmake --build "$build" --target llmlaunch-train gpu_backend_test unit_trainer_libraries \
  llmlaunch llmlaunch-agent example_nccl_all_reduce nccl_all_reduce_bench

status=0
rows=()
row() { rows+=("$(printf '%-48s %-8s %s' "$1" "$2" "$3")"); }
fail() {
  row "$1" FAILED "$2"
  status=1
}

# A graph that the device refuses is said and not an error: the job goes on as without one.
readonly refusal='every step is started by the host'

# check NAME FILE COMMAND…: runs it, keeps its output, adds its row.
check() {
  local name=$1 file=$work/$2 code=0
  shift 2
  "$@" >"$file" 2>&1 || code=$?
  if [[ $code -eq 0 ]] && grep -q "$refusal" "$file"; then
    fail "$name" "$(grep -h -- '--cuda_graph: ' "$file" | head -1)"
    return
  fi
  case $code in
    0) row "$name" passed "$(grep -E 'measured:|largest relative|test accuracy|the sum is' "$file" | tail -1)" ;;
    77) row "$name" skipped "$(tail -1 "$file")" ;;
    *)
      fail "$name" "status $code"
      cat "$file" >&2
      ;;
  esac
}

check "libraries open" libraries "$build/bin/unit_trainer_libraries"
check "CUDA backend against the CPU's" backend "$build/bin/gpu_backend_test"
check "one epoch on one GPU" train "$build/bin/llmlaunch-train" --device cuda --num_train_epochs 1
check "the same as a CUDA graph" train_graph "$build/bin/llmlaunch-train" --device cuda --num_train_epochs 1 --cuda_graph
# The graph's numbers are those of the ordinary steps, bit for bit.
hash_in() { grep -o 'parameter hash [0-9a-f]*' "$work/$1" || true; }
if grep -q "$refusal" "$work/train_graph"; then
  fail "both ways end with the same weights" "there was no graph"
elif [[ -n $(hash_in train) && $(hash_in train) == $(hash_in train_graph) ]]; then
  row "both ways end with the same weights" passed "$(hash_in train)"
else
  fail "both ways end with the same weights" "$(hash_in train), as a graph $(hash_in train_graph)"
fi
check "NCCL all-reduce example, $count rank(s)" nccl_example tests/gpu/nccl_example.sh "$build/bin"
check "NCCL all-reduce, world size 1" all_reduce "$build/bin/llmlaunch" run --num_processes 1 --log-dir "$work/runs" \
  "$build/bin/nccl_all_reduce_bench"
# job FILE GPUS: two ranks of this machine on these.
job() {
  cat >"$work/$1" <<YAML
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
num_processes: 2
llmlaunch:
  log_dir: $work/runs
  hosts:
    - {name: localhost, slots: 2, gpu_ids: [$2]}
YAML
}
if [[ $count -ge 2 ]]; then
  job two.yaml "0, 1"
  check "one epoch on two GPUs (NCCL)" two "$build/bin/llmlaunch" run --config "$work/two.yaml" train --device cuda
  check "the same as a CUDA graph" two_graph "$build/bin/llmlaunch" run --config "$work/two.yaml" train --device cuda \
    --cuda_graph
else
  row "two GPUs (NCCL)" skipped "$count GPU here"
fi

# NCCL 2.30.3 and newer can be told to let ranks share a GPU. It is new there and wants room for the kernels of both at
# once, so that its failure says little of the trainer: a row, and never an error.
nccl_version() {
  local built
  built=$(sed -n 's/^NCCL_LIBRARY:[^=]*=//p' "$build/CMakeCache.txt")
  python3 - "$built" 2>/dev/null <<'PYTHON' || echo 0
import ctypes, sys
version = ctypes.c_int()
for name in ("libnccl.so.2", sys.argv[1]):
    try:
        ctypes.CDLL(name).ncclGetVersion(ctypes.byref(version))
        break
    except OSError:
        pass
print(version.value)
PYTHON
}
version=$(nccl_version)
shown="NCCL $((version / 10000)).$((version / 100 % 100)).$((version % 100))"
if [[ $version -lt 23003 ]]; then
  row "two ranks on one GPU (NCCL)" skipped "not tried: $shown; it can from 2.30.3 on"
else
  job one.yaml 0
  code=0
  NCCL_MULTI_RANK_GPU_ENABLE=1 NCCL_NVLS_ENABLE=0 NCCL_MAX_CTAS=4 timeout 300 \
    "$build/bin/llmlaunch" run --config "$work/one.yaml" train --device cuda --num_train_epochs 1 --ddp_timeout 60 \
    >"$work/one" 2>&1 || code=$?
  if [[ $code -eq 0 ]]; then
    row "two ranks on one GPU (NCCL)" passed "$shown: $(grep 'test accuracy' "$work/one" | tail -1)"
  else
    row "two ranks on one GPU (NCCL)" "-" "$shown, status $code: $(grep 'error: ' "$work/one" | head -1)"
  fi
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
code=0
python3 tests/bench/bench_gpu.py --bin "$build/bin" ${python:+--python "$python"} --steps "${LLMLAUNCH_STEPS:-3000}" \
  --repeat "$repeat" >"$work/bench" 2>&1 || code=$?
if [[ $code -eq 0 ]]; then
  while IFS='|' read -r name value; do row "${name% }" "" "${value# }"; done <"$work/bench"
else
  fail "speed beside PyTorch" "status $code"
  cat "$work/bench" >&2
fi

echo
echo "GPUs: ${gpus//$'\n'/, }; driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1)"
printf '%-48s %-8s %s\n' check result detail
printf '%s\n' "${rows[@]}"
exit "$status"
