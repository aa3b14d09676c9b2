#!/usr/bin/env bash
# On a machine with GPUs: builds the CUDA backend, runs what only a GPU can show, and measures it beside PyTorch.
#
#   scripts/gpu_check.sh [--repeat N] [--only PARTS] [BUILD_DIR]       default: 3 times, all parts, in build/cuda
#   scripts/gpu_check.sh --pack FILE [BUILD_DIR]                       default: in build/pack; needs no GPU
#
#   --repeat N           each speed is the median of N programs; more say more, and take longer
#   --only PARTS         some of these, with commas between: checks, curves (100 steps beside PyTorch's), speed
#   --pack FILE          builds where CUDA's toolkit and all libraries are, and packs the programs, with the libraries that
#                        another machine may lack, as a .tar.gz. What is unpacked there is a BUILD_DIR of which nothing is
#                        built: it needs the driver, cuBLAS, cuDNN and NCCL, as PyTorch's wheels bring them, and no nvcc
#   LLMLAUNCH_PYTHON=…   a Python whose PyTorch has CUDA (default: python3, where it has one; else that of
#                        scripts/python_env.sh). Without one the peers are left out
#   LLMLAUNCH_STEPS=N    steps of each measurement (3000)
#   LLMLAUNCH_PRECISIONS="tf32 bf16"    what is measured (default: fp32 tf32 bf16)
#   LLMLAUNCH_CHECK_SECONDS=N           a check that has not ended by then has failed (600)
#
# Time: the build, 4 minutes on 16 cores; then some minutes of checks; then 21 to 24 programs of 5 to 60 s for each of N, most
# of it PyTorch's own start and torch.compile: half an hour for 3. It is an estimate: no GPU has been at hand. Where a machine
# is lent for minutes, three calls have all of it once: --only checks; --only curves; --only speed --repeat 1, which
# LLMLAUNCH_PRECISIONS takes apart further.
#
# Prints a table, each row when it is known. Exit status: 0 all passed, 1 something failed, 64 a wrong argument, 69 the build
# needs what is not here, 77 this machine has no GPU or no CUDA Toolkit.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "gpu_check: $1; usage: scripts/gpu_check.sh [--repeat N] [--only PARTS] [--pack FILE] [BUILD_DIR]" >&2
  exit 64
}
build=
repeat=3
parts=checks,curves,speed
pack=
while [[ $# -gt 0 ]]; do
  case $1 in
    --repeat)
      [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || usage "--repeat wants a number from 1 to 9999, not '${2:-}'"
      repeat=$2
      shift 2
      ;;
    --only)
      [[ ${2:-} =~ ^(checks|curves|speed)(,(checks|curves|speed))*$ ]] ||
        usage "--only wants checks, curves, speed or some of them with commas between, not '${2:-}'"
      parts=$2
      shift 2
      ;;
    --pack)
      [[ -n ${2:-} && $2 != -* ]] || usage "--pack wants the name of the file to write, not '${2:-}'"
      pack=$2
      [[ $pack == /* ]] || pack=$OLDPWD/$pack
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
build=${build:-build/$([[ -n $pack ]] && echo pack || echo cuda)}
bin=$build/bin
wants() { [[ ,$parts, == *,$1,* ]]; }

skip() {
  echo "gpu_check: skipped: $*" >&2
  exit 77
}

if [[ -z $pack ]]; then
  command -v nvidia-smi >/dev/null || skip "no NVIDIA driver here (nvidia-smi is not in PATH)"
  gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>&1) || skip "nvidia-smi: ${gpus%%$'\n'*}"
  [[ -n $gpus ]] || skip "nvidia-smi lists no GPU"
  count=$(wc -l <<<"$gpus")
fi
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

readonly programs=(llmlaunch-train gpu_backend_test unit_trainer_libraries llmlaunch llmlaunch-agent example_nccl_all_reduce
  nccl_all_reduce_bench convolution_bench)

# build_programs [FLAG…]: of CMake's.
build_programs() {
  local wanted needs
  # CMake looks for nvcc in PATH and in CUDACXX alone.
  wanted=${CUDACXX:-$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")}
  CUDACXX=$(command -v "$wanted") || skip "no CUDA Toolkit here (no $wanted)"
  export CUDACXX PATH=$PATH:${CUDACXX%/*}
  needs=$(missing)
  if [[ -n $needs ]] && command -v apt-get >/dev/null && [[ $EUID -eq 0 ]]; then
    # Where it cannot, what is missing is said below.
    scripts/install_deps.sh || echo "gpu_check: scripts/install_deps.sh ended with $?" >&2
    needs=$(missing)
  fi
  if [[ -n $needs ]]; then
    echo "gpu_check: error: the build needs what is not here: ${needs//$'\n'/, }" >&2
    echo "   hint: scripts/install_deps.sh installs all but CUDA's on Debian; NCCL_ROOT and CUDNN_ROOT name folders of" \
      "these two, or that of their Python wheels (nvidia-nccl-cu13, nvidia-cudnn-cu13); --pack, on a machine that has all" \
      "of it, makes what needs no build here" >&2
    exit 69
  fi
  cmake --preset cuda -B "$build" ${NCCL_ROOT:+-DNCCL_ROOT="$NCCL_ROOT"} ${CUDNN_ROOT:+-DCUDNN_ROOT="$CUDNN_ROOT"} "$@" >/dev/null
  cmake --build "$build" --target "${programs[@]}"
}

# pack_programs: into the file $pack, the programs and the libraries beside them but for the C library's, GCC's and NVIDIA's.
pack_programs() {
  local kept='^(linux-vdso|ld-linux.*|lib(c|m|dl|rt|pthread|resolv|stdc\+\+|gcc_s|nccl|cuda|cublas.*|cudnn.*))\.so'
  mkdir -p "$work/pack/bin" "$work/pack/lib"
  touch "$work/pack/packed"
  for name in "${programs[@]}"; do cp "$bin/$name" "$work/pack/bin/"; done
  ! command -v strip >/dev/null || strip "$work/pack/bin"/*
  for name in "${programs[@]}"; do ldd "$bin/$name" 2>/dev/null || true; done |  # the agent is static
    awk '$3 ~ /^\// {print $1, $3}' | sort -u >"$work/libraries"
  while read -r name file; do
    [[ $name =~ $kept ]] || cp -L "$file" "$work/pack/lib/$name"
  done <"$work/libraries"
  tar -czf "$pack" -C "$work/pack" .
  echo "gpu_check: $pack: $(wc -c <"$pack") bytes; unpack it into a folder DIR beside these sources there: scripts/gpu_check.sh DIR"
}

if [[ -n $pack ]]; then
  # Found beside the programs, also by libraries of libraries, which a new kind of tag would not do.
  build_programs "-DCMAKE_BUILD_RPATH=\$ORIGIN/../lib" -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags
  pack_programs
  exit 0
fi
[[ -e $build/packed ]] || build_programs

# The folders of NVIDIA's libraries among those of a Python's packages.
wheel_folders() {
  "${LLMLAUNCH_PYTHON:-python3}" - 2>/dev/null <<'PYTHON' || true
import glob, os, site, sysconfig
roots = [sysconfig.get_paths()["purelib"], *site.getsitepackages(), site.getusersitepackages()]
files = [f for root in roots for name in ("cublas", "cudnn", "nccl") for f in glob.glob(f"{root}/nvidia/*/lib/lib{name}.so.*")]
print(":".join(dict.fromkeys(os.path.dirname(f) for f in files)))
PYTHON
}
loads() { [[ $(ldd "$bin/example_nccl_all_reduce" 2>&1) != *'not found'* ]] && "$bin/unit_trainer_libraries" >/dev/null 2>&1; }
if ! loads; then
  folders=$(wheel_folders)
  [[ -z $folders ]] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folders"
fi

status=0
row() { printf '%-48s %-8s %s\n' "$1" "$2" "$3"; }
fail() {
  row "$1" FAILED "$2"
  status=1
}

# A graph that the device refuses is said and not an error: the job goes on as without one.
readonly refusal='every step is started by the host'

readonly limit=${LLMLAUNCH_CHECK_SECONDS:-600}

# check NAME FILE COMMAND…: runs it, keeps its output, prints its row.
check() {
  local name=$1 file=$work/$2 code=0
  shift 2
  local began=$SECONDS
  timeout -k 10 "$limit" "$@" >"$file" 2>&1 </dev/null || code=$?
  if [[ $code -eq 0 ]] && grep -q "$refusal" "$file"; then
    fail "$name" "$(grep -h -- '--cuda_graph: ' "$file" | head -1)"
    return
  fi
  case $code in
    0) row "$name" passed "$(grep -E 'measured:|largest relative|test accuracy|the sum is' "$file" | tail -1)" ;;
    77) row "$name" skipped "$(tail -1 "$file")" ;;
    *)
      fail "$name" "$([[ ($code -eq 124 || $code -eq 137) && $((SECONDS - began)) -ge $limit ]] && echo "no end within $limit s" || echo "status $code")"
      cat "$file" >&2
      ;;
  esac
}

hash_in() { grep -o 'parameter hash [0-9a-f]*' "$work/$1" || true; }
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
nccl_version() {
  local built
  built=$(sed -n 's/^NCCL_LIBRARY:[^=]*=//p' "$build/CMakeCache.txt" 2>/dev/null) || true
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

run_checks() {
  check "libraries open" libraries "$bin/unit_trainer_libraries"
  check "CUDA backend against the CPU's" backend "$bin/gpu_backend_test"
  check "one epoch on one GPU" train "$bin/llmlaunch-train" --device cuda --num_train_epochs 1
  check "the same as a CUDA graph" train_graph "$bin/llmlaunch-train" --device cuda --num_train_epochs 1 --cuda_graph
  # The graph's numbers are those of the ordinary steps, bit for bit.
  if grep -q "$refusal" "$work/train_graph"; then
    fail "both ways end with the same weights" "there was no graph"
  elif [[ -n $(hash_in train) && $(hash_in train) == $(hash_in train_graph) ]]; then
    row "both ways end with the same weights" passed "$(hash_in train)"
  else
    fail "both ways end with the same weights" "$(hash_in train), as a graph $(hash_in train_graph)"
  fi
  check "NCCL all-reduce example, $count rank(s)" nccl_example tests/gpu/nccl_example.sh "$bin"
  check "NCCL all-reduce, world size 1" all_reduce "$bin/llmlaunch" run --num_processes 1 --log-dir "$work/runs" \
    "$bin/nccl_all_reduce_bench"
  if [[ $count -ge 2 ]]; then
    job two.yaml "0, 1"
    check "one epoch on two GPUs (NCCL)" two "$bin/llmlaunch" run --config "$work/two.yaml" train --device cuda
    check "the same as a CUDA graph" two_graph "$bin/llmlaunch" run --config "$work/two.yaml" train --device cuda \
      --cuda_graph
  else
    row "two GPUs (NCCL)" skipped "$count GPU here"
  fi

  # NCCL 2.30.3 and newer can be told to let ranks share a GPU. It is new there and wants room for the kernels of both at
  # once, so that its failure says little of the trainer: a row, and never an error.
  local version shown code=0
  version=$(nccl_version)
  shown="NCCL $((version / 10000)).$((version / 100 % 100)).$((version % 100))"
  if [[ $version -lt 23003 ]]; then
    row "two ranks on one GPU (NCCL)" skipped "not tried: $shown; it can from 2.30.3 on"
  else
    job one.yaml 0
    NCCL_MULTI_RANK_GPU_ENABLE=1 NCCL_NVLS_ENABLE=0 NCCL_MAX_CTAS=4 timeout -k 10 "$limit" \
      "$bin/llmlaunch" run --config "$work/one.yaml" train --device cuda --num_train_epochs 1 --ddp_timeout 60 \
      >"$work/one" 2>&1 </dev/null || code=$?
    if [[ $code -eq 0 ]]; then
      row "two ranks on one GPU (NCCL)" passed "$shown: $(grep 'test accuracy' "$work/one" | tail -1)"
    else
      row "two ranks on one GPU (NCCL)" "-" "$shown, status $code: $(grep 'error: ' "$work/one" | head -1)"
    fi
  fi
}

# The peers' Python: the first that can compute on a GPU.
python=
for candidate in "${LLMLAUNCH_PYTHON:-}" python3 "${XDG_CACHE_HOME:-$HOME/.cache}/llmlaunch-tests/python/bin/python"; do
  if [[ -n $candidate ]] && "$candidate" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    python=$candidate
    break
  fi
done

run_curves() {
  check "100 steps beside PyTorch's on the GPU" curves python3 tests/gpu/pytorch_curves.py --bin "$bin" \
    ${python:+--python "$python"}
}

run_speed() {
  local precisions code
  read -ra precisions <<<"${LLMLAUNCH_PRECISIONS:-}"
  set +e
  python3 -u tests/bench/bench_gpu.py --bin "$bin" ${python:+--python "$python"} --steps "${LLMLAUNCH_STEPS:-3000}" \
    --repeat "$repeat" ${precisions[0]:+--precisions "${precisions[@]}"} |
    while IFS='|' read -r name value; do row "${name% }" "" "${value# }"; done
  code=${PIPESTATUS[0]}
  set -e
  [[ $code -eq 0 ]] || fail "speed beside PyTorch" "status $code"
}

echo
echo "GPUs: ${gpus//$'\n'/, }; driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1)"
row check result detail
[[ -n $python ]] || row "PyTorch on the same GPU" skipped "no Python with CUDA's PyTorch; LLMLAUNCH_PYTHON names one"
for part in checks curves speed; do
  ! wants "$part" || "run_$part"
done
exit "$status"
