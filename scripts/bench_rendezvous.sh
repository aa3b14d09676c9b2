#!/usr/bin/env bash
# Benchmarks of the rendezvous: thousands of ranks that join, and the store against PyTorch's TCPStore in one run. Needs a
# release build; worlds beyond half the limit of open files need root. tests/bench/RESULTS.md keeps what was seen.
#
#   scripts/bench_rendezvous.sh [options of tests/bench/bench_rendezvous.py]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=()
if scripts/python_env.sh --check >/dev/null 2>&1; then
  python=(--python "${LLMLAUNCH_PYTHON_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/llmlaunch-tests/python}/bin/python")
fi
echo "# $(date -u +%Y-%m-%d), $(nproc) cores, $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"
if ((${#python[@]})); then echo "# PyTorch $("${python[1]}" -c 'import torch; print(torch.__version__)')"; fi
exec python3 tests/bench/bench_rendezvous.py "${python[@]}" "$@"
