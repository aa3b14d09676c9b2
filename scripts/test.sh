#!/usr/bin/env bash
# Everything that must hold before a commit: packages, rules of the source, and all tests in three builds.
#
#   scripts/test.sh            release, asan (address + undefined) and tsan (thread)
#   scripts/test.sh --quick    release only
#
# A stage that fails does not stop the later ones, so one run shows all failures; a suite whose build failed is not run.
# The exit status is 0 only when every stage passed. At the end: a table, and "N passed, N failed, N skipped", which sums
# the programs of ctest and, in place of their ctest entries, the single tests inside the Python files. A failed stage that
# is no test (a build, a format check) counts as one failure. Needs no terminal and no input; leaves build/ and no process.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 70
exec </dev/null

presets=(release asan tsan)
while [[ $# -gt 0 ]]; do
  case "$1" in
    --quick) presets=(release); shift ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
  esac
done

jobs="$(nproc)"
names=() results=() times=()
stage_failures=0  # of stages that are no test runner; those count their own

stage() {  # stage NAME COMMAND…
  local name="$1" started=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  local result=ok
  "$@" || result="FAILED ($?)"
  names+=("$name") results+=("$result") times+=($((SECONDS - started)))
  [[ "$result" == ok ]]
}
not_run() { names+=("$1") results+=("not run") times+=(0); }
check() { stage "$@" || { stage_failures=$((stage_failures + 1)); return 1; }; }

check_format() {
  local clang_format
  clang_format="$(command -v clang-format-14 || command -v clang-format)" || { echo "no clang-format here" >&2; return 1; }
  { git ls-files -co --exclude-standard 2>/dev/null || find cli launcher rendezvous trainer tests -type f; } |
    grep -E '^(cli|launcher|rendezvous|trainer|tests)/.*\.(cpp|hpp|cu|cuh)$' | sort -u |
    while read -r file; do [[ -e "$file" ]] && echo "$file"; done |
    xargs "$clang_format" --dry-run --Werror
}

build() { cmake --preset "$1" && cmake --build --preset "$1" --parallel "$jobs"; }

suite() {
  rm -rf "build/$1/test-results"
  mkdir -p "build/$1/test-results"
  # The sanitizers' answer to a finding is a status that no test takes for its own.
  ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1}" UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}" \
    TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1}" \
    ctest --preset "$1" -L 'unit|fuzz|integration' --parallel "$((3 * jobs))" \
    --output-junit "$PWD/build/$1/test-results/ctest.xml"
}

check "packages" scripts/install_deps.sh
check "accelerate and PyTorch" scripts/python_env.sh
export LLMLAUNCH_PYTHON_REQUIRED=1  # without them their tests fail, and do not skip
check "includes" python3 scripts/check_includes.py
check "layout (clang-format)" check_format
for preset in "${presets[@]}"; do
  if check "build $preset" build "$preset"; then
    stage "tests $preset" suite "$preset"
  else
    rm -rf "build/$preset/test-results"
    not_run "tests $preset"
  fi
done

printf '\n%-26s %-14s %s\n' stage result seconds
status=0
for i in "${!names[@]}"; do
  printf '%-26s %-14s %7d\n' "${names[i]}" "${results[i]}" "${times[i]}"
  [[ "${results[i]}" == ok ]] || status=1
done
printf '%-26s %-14s %7d\n\n' "all" "$([[ $status -eq 0 ]] && echo ok || echo FAILED)" "$SECONDS"

directories=()
for preset in "${presets[@]}"; do directories+=("build/$preset/test-results"); done
python3 tests/support/sum_results.py --add-failed "$stage_failures" "${directories[@]}" || status=1
exit "$status"
