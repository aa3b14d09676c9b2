#!/usr/bin/env bash
# Fuzzes what peers and files can send us: builds the targets with libFuzzer, ASan and UBSan, runs each for a time, and
# prints a table. What was found lies in build/fuzz/found/<name>/ as crash-*, and the status is 1.
#
#   scripts/fuzz.sh [--seconds N] [--jobs N] [NAME…]
#
# NAME…     targets without "fuzz_", such as hostlist, frame; default: all
# --seconds how long each runs (60)
# --jobs    how many run at the same time (number of cores)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
fail() {
  echo "fuzz.sh: error: $*" >&2
  exit 64
}

seconds=60
jobs="$(nproc)"
names=()
while (($# > 0)); do
  case "$1" in
    -h | --help) usage && exit 0 ;;
    --seconds) seconds="${2:-}" && shift 2 || fail "--seconds needs a number" ;;
    --jobs) jobs="${2:-}" && shift 2 || fail "--jobs needs a number" ;;
    -*) fail "unknown option '$1'; scripts/fuzz.sh --help lists them" ;;
    *) names+=("$1") && shift ;;
  esac
done
[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || fail "--seconds '$seconds' is no positive number"
[[ "$jobs" =~ ^[1-9][0-9]*$ ]] || fail "--jobs '$jobs' is no positive number"
known=(tests/fuzz/corpus/*/)
known=("${known[@]%/}")
known=("${known[@]##*/}")
((${#names[@]} > 0)) || names=("${known[@]}")
for name in "${names[@]}"; do
  [[ " ${known[*]} " == *" $name "* ]] || fail "unknown target '$name'; there are: ${known[*]}"
done

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target "${names[@]/#/fuzz_}"

# One target: its findings and its log are its own, the corpus in the repository is only read.
run_one() {
  local name="$1" found="build/fuzz/found/$1"
  mkdir -p "$found/corpus"
  local status=0
  "build/fuzz/bin/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$found/" "$found/corpus" "tests/fuzz/corpus/$name" >"$found/log" 2>&1 || status=$?
  local runs
  runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$found/log")"
  printf '%-20s %12s runs in %5s s   %s\n' "$name" "${runs:--}" "$seconds" \
    "$( ((status == 0)) && echo 'nothing found' || echo "FOUND, status $status: $found/log")"
  return "$status"
}
export -f run_one
export seconds
printf '%s\n' "${names[@]}" | xargs -P "$jobs" -I{} bash -c 'run_one {}' ||
  { echo "fuzz.sh: a finding is reproduced by build/fuzz/bin/fuzz_NAME FILE; make it a file of tests/fuzz/corpus/NAME" >&2 && exit 1; }
