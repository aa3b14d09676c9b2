#!/usr/bin/env bash
# Makes the virtual environment with accelerate and PyTorch that tests compare llmlaunch with, once for all clones: below
# $XDG_CACHE_HOME or ~/.cache, or what LLMLAUNCH_PYTHON_ENV names. PyTorch from PyPI brings the CUDA libraries that it
# loads at import, also without a GPU: about 5.5 GB on disk, 2.5 GB to fetch.
#
#   scripts/python_env.sh            makes it where it is missing or of other versions
#   scripts/python_env.sh --check    says whether it is there; makes nothing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(accelerate==1.15.0 torch==2.15.0)
directory="${LLMLAUNCH_PYTHON_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/llmlaunch-tests/python}"
stamp="$directory/llmlaunch-packages"

is_there() { [[ -x "$directory/bin/accelerate" && -f "$stamp" && "$(<"$stamp")" == "${packages[*]}" ]]; }

if is_there; then
  echo "python_env: $directory has ${packages[*]}"
  exit 0
fi
if [[ "${1:-}" == --check ]]; then
  echo "python_env: $directory lacks ${packages[*]}: run scripts/python_env.sh" >&2
  exit 69
fi

python=/usr/bin/python3
[[ -x "$python" ]] || python="$(command -v python3)" || { echo "python_env: no python3 here" >&2; exit 69; }
# Two at once would write into one directory: the second waits, and then finds it made.
mkdir -p "$(dirname "$directory")"
exec 9>"$directory.lock"
flock 9
if is_there; then
  echo "python_env: $directory has ${packages[*]}"
  exit 0
fi
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
run() {
  if ! "$@" >"$log" 2>&1; then
    echo "python_env: ${packages[*]} cannot be installed: $(grep -iE 'error|no space|could not' "$log" | tail -1 || true)" >&2
    echo "   hint: this needs PyPI (pip's own settings hold) and 8 GB below $directory; all that was said: $*" >&2
    exit 69
  fi
}
echo "python_env: installing ${packages[*]} into $directory"
run "$python" -m venv "$directory"
run "$directory/bin/pip" install --no-compile --no-cache-dir --disable-pip-version-check "${packages[@]}"
run "$directory/bin/python" -c 'import accelerate, torch.distributed.run'
echo "${packages[*]}" >"$stamp"
echo "python_env: $directory is ready"
