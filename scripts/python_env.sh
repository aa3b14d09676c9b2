#!/usr/bin/env bash
# Makes the virtual environments that tests compare llmlaunch with, once for all clones: below $XDG_CACHE_HOME or ~/.cache, or
# where LLMLAUNCH_PYTHON_ENV says.
#   python          accelerate and PyTorch. PyTorch from PyPI brings the CUDA libraries that it loads at import, also without
#                   a GPU: about 5.5 GB on disk, 2.5 GB to fetch.
#   python-readers  what reads the trainer's files: transformers (without PyTorch), TensorBoard, Matplotlib: 0.33 GB.
#
#   scripts/python_env.sh                    makes what is missing or of other versions
#   scripts/python_env.sh readers            the same for python-readers alone
#   scripts/python_env.sh --check [readers]  says whether the first is there, or python-readers; makes nothing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base="${LLMLAUNCH_PYTHON_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/llmlaunch-tests/python}"

describe() {  # NAME: what it holds
  case "$1" in
    python)
      directory="$base"
      packages=(accelerate==1.15.0 torch==2.15.0)
      imports='import accelerate, torch.distributed.run'
      program=accelerate needs='8 GB' ;;
    readers)
      directory="$base-readers"
      packages=(transformers==5.24.0 tensorboard==2.21.0 matplotlib==3.11.2)
      imports='import transformers.trainer_callback, tensorboard.backend.event_processing.event_accumulator, matplotlib'
      program=tensorboard needs='1 GB' ;;
    *) echo "python_env: no environment '$1'; there are python and readers" >&2; exit 64 ;;
  esac
  stamp="$directory/llmlaunch-packages"
}

is_there() { [[ -x "$directory/bin/$program" && -f "$stamp" && "$(<"$stamp")" == "${packages[*]}" ]]; }

run() {
  if ! "$@" >"$log" 2>&1; then
    echo "python_env: ${packages[*]} cannot be installed: $(grep -iE 'error|no space|could not' "$log" | tail -1 || true)" >&2
    echo "   hint: this needs PyPI (pip's own settings hold) and $needs below $directory; all that was said: $*" >&2
    exit 69
  fi
}

make() {
  describe "$1"
  if is_there; then
    echo "python_env: $directory has ${packages[*]}"
    return
  fi
  local python=/usr/bin/python3
  [[ -x "$python" ]] || python="$(command -v python3)" || { echo "python_env: no python3 here" >&2; exit 69; }
  # Two at once would write into one directory: the second waits, and then finds it made.
  mkdir -p "$(dirname "$directory")"
  exec 9>"$directory.lock"
  flock 9
  if ! is_there; then
    echo "python_env: installing ${packages[*]} into $directory"
    run "$python" -m venv "$directory"
    run "$directory/bin/pip" install --no-compile --no-cache-dir --disable-pip-version-check "${packages[@]}"
    run "$directory/bin/python" -c "$imports"
    echo "${packages[*]}" >"$stamp"
  fi
  exec 9>&-
  echo "python_env: $directory is ready"
}

if [[ "${1:-}" == --check ]]; then
  describe "${2:-python}"
  if is_there; then
    echo "python_env: $directory has ${packages[*]}"
    exit 0
  fi
  echo "python_env: $directory lacks ${packages[*]}: run scripts/python_env.sh" >&2
  exit 69
fi
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
if [[ $# -gt 0 ]]; then
  make "$1"
else
  make python
  make readers
fi
