#!/usr/bin/env bash
# Real PyTorch, several releases, against the store that the head serves: makes a virtual environment for each, once,
# below $XDG_CACHE_HOME or ~/.cache (about 5 GB each, with the CUDA libraries that PyPI's wheels load at import), and runs
# tests/integration/test_pytorch_store.py with it. Then accelerate and a Hugging Face Trainer with the newest one, and
# Debian's python3-torch, of before the store's handshake, with rank 0 serving the store.
#
#   scripts/interop_pytorch.sh [BIN_DIR]      programs under test, by default build/release/bin
#   scripts/interop_pytorch.sh --newest …     the newest release alone, which CI's ctest runs as well
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Oldest first. 2.2 has no PING after the handshake and no queues; 2.6 has PING and no queues.
releases=("torch==2.2.2 numpy<2" "torch==2.6.0 numpy")
newest_only=false
if [[ "${1:-}" == --newest ]]; then
  newest_only=true
  shift
fi
bin_dir="$(realpath "${1:-build/release/bin}")"
[[ -x "$bin_dir/llmlaunch" ]] || { echo "interop_pytorch: no llmlaunch in $bin_dir: build it, or name its folder" >&2; exit 64; }
cache="${XDG_CACHE_HOME:-$HOME/.cache}/llmlaunch-tests"
python=/usr/bin/python3
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

run() {
  if ! "$@" >"$log" 2>&1; then
    echo "interop_pytorch: $(tail -1 "$log")" >&2
    echo "   hint: this needs PyPI and 6 GB below $cache for each release; it was: $*" >&2
    exit 69
  fi
}

# environment DIRECTORY PACKAGE…: makes it where it is missing or of other versions.
environment() {
  local directory="$1" stamp="$1/llmlaunch-packages"
  shift
  [[ -f "$stamp" && "$(<"$stamp")" == "$*" ]] && return
  echo "interop_pytorch: installing $* into $directory"
  run "$python" -m venv "$directory"
  run "$directory/bin/pip" install --no-compile --no-cache-dir --disable-pip-version-check "$@"
  run "$directory/bin/python" -c 'import torch.distributed'
  echo "$*" >"$stamp"
}

# debian_torch DIRECTORY: python3-torch and what it needs, unpacked there and installed nowhere, with a `python` for it.
debian_torch() {
  local directory="$1" packages
  [[ -x "$directory/python" ]] && return
  echo "interop_pytorch: unpacking Debian's python3-torch into $directory"
  mkdir -p "$directory/debs" "$directory/root"
  packages="$(apt-get install -s --no-install-recommends python3-torch | sed -n 's/^Inst \([^ ]*\) .*/\1/p')"
  # shellcheck disable=SC2086 # one word each
  (cd "$directory/debs" && run apt-get download $packages)
  for package in "$directory"/debs/*.deb; do run dpkg -x "$package" "$directory/root"; done
  rm -r "$directory/debs"
  cat >"$directory/python.new" <<'END'
#!/bin/sh
# Debian's python3-torch and what it loads, unpacked beside this file and installed nowhere.
root="$(dirname "$(readlink -f "$0")")/root"
lib="$root/usr/lib/x86_64-linux-gnu"
PYTHONPATH="$root/usr/lib/python3/dist-packages" \
  LD_LIBRARY_PATH="$root/usr/lib:$lib:$lib/blas:$lib/lapack" exec /usr/bin/python3 "$@"
END
  chmod +x "$directory/python.new"
  run "$directory/python.new" -c 'import torch.distributed'
  mv "$directory/python.new" "$directory/python"
}

failed=()
# check NAME [VARIABLE=VALUE…] [pytest's arguments…]
check() {
  local name="$1"
  shift
  printf '\n== %s\n' "$name"
  env LLMLAUNCH_BIN_DIR="$bin_dir" LLMLAUNCH_PYTHON_REQUIRED=1 PYTHONDONTWRITEBYTECODE=1 "$@" || failed+=("$name")
}
pytest=("$python" -m pytest -q -ra -p no:cacheprovider)

scripts/python_env.sh
newest="$cache/python"
check "newest PyTorch" "${pytest[@]}" tests/integration/test_pytorch_store.py
if ! $newest_only; then
  for release in "${releases[@]}"; do
    read -ra packages <<<"$release"
    directory="$cache/torch/${packages[0]#torch==}"
    environment "$directory" "${packages[@]}"
    check "${packages[0]}" LLMLAUNCH_TEST_TORCH="$directory/bin/python" "${pytest[@]}" tests/integration/test_pytorch_store.py
  done
  check "accelerate and transformers" "${pytest[@]}" tests/integration/test_pytorch_trainers.py
  debian="$cache/torch/debian"
  debian_torch "$debian"
  check "Debian's python3-torch" LLMLAUNCH_TEST_TORCH="$debian/python" "${pytest[@]}" tests/integration/test_pytorch_store.py -k rank_0_serves
fi

if [[ ${#failed[@]} -gt 0 ]]; then
  printf 'interop_pytorch: FAILED: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "interop_pytorch: all passed"
