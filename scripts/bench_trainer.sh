#!/usr/bin/env bash
# The trainer beside PyTorch on this machine's CPUs: samples per second, start, memory, all-reduce, in one run. Needs a
# release build and scripts/python_env.sh. tests/bench/RESULTS.md keeps what was seen.
#
#   scripts/bench_trainer.sh [options of tests/bench/bench_trainer.py]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/python_env.sh --check >/dev/null
python="${LLMLAUNCH_PYTHON_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/llmlaunch-tests/python}/bin/python"
echo "# $(date -u +%Y-%m-%d), $(nproc) cores, $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "# PyTorch $("$python" -c 'import torch; print(torch.__version__)')"
exec python3 tests/bench/bench_trainer.py --python "$python" "$@"
