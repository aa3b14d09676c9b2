#!/usr/bin/env bash
# From a fresh clone to a trained model on two ssh hosts, in one command, on one machine:
#
#   scripts/quickstart.sh              install what is missing, build, start two hosts, train, stop, clean up
#   scripts/quickstart.sh --bin DIR    the same with programs that are built already
#
#      llmlaunch ──ssh──► test01  127.0.0.2  agent ── rank 0  llmlaunch-train ─┐ gradients, averaged
#          └──────ssh──► test02  127.0.0.3  agent ── rank 1  llmlaunch-train ─┘ after every batch
#
# The hosts are real sshd's of the current user (scripts/test_hosts.sh), so nothing but the packages needs root. It leaves
# build/ and nothing else: hosts, keys, logs and the run directory live in one temporary directory that is removed.
# Exit status: that of the training run; 1 when the accuracy is below 97 %.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly kWantedAccuracy=97

bin=
while [[ $# -gt 0 ]]; do
  case "$1" in
    --bin) [[ -d "${2:-}" ]] || { echo "quickstart: no directory: ${2:-}" >&2; exit 64; }; bin="$(realpath "$2")"; shift 2 ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
  esac
done

step_started=$SECONDS
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; step_started=$SECONDS; }
took() { echo "   ($((SECONDS - step_started)) s)"; }
[[ -t 1 ]] || step() { printf '\n== %s\n' "$*"; step_started=$SECONDS; }

work="$(mktemp -d "${TMPDIR:-/tmp}/llmlaunch-quickstart-XXXXXX")"
cleanup() {
  [[ ! -e "$work/hosts" ]] || scripts/test_hosts.sh down --dir "$work/hosts" >/dev/null
  rm -rf -- "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -z "$bin" ]]; then
  step "packages"
  scripts/install_deps.sh
  took
  step "build (release)"
  cmake --preset release >"$work/configure" 2>&1 || { cat "$work/configure" >&2; exit 70; }
  cmake --build --preset release --target llmlaunch llmlaunch-agent llmlaunch-train
  bin="$PWD/build/release/bin"
  took
fi

step "two ssh hosts on loopback addresses"
scripts/test_hosts.sh up 2 --dir "$work/hosts" | sed -n 1p  # not head, whose early end would be an error of the script
took

command=("$bin/llmlaunch" run --config "$work/hosts/config.yaml" train)
step "llmlaunch run --config config.yaml train"
status=0
started="$(date +%s.%N)"
"${command[@]}" 2>&1 | tee -i "$work/output" || status=$?
ended="$(date +%s.%N)"
seconds="$(awk -v a="$started" -v b="$ended" 'BEGIN {printf "%.1f", b - a}')"

accuracy="$(grep -io 'accuracy[^0-9]*[0-9.]*' "$work/output" | tail -n 1 | grep -o '[0-9.]*$' || true)"
if [[ $status -eq 0 ]] && ! awk -v a="${accuracy:-0}" -v w=$kWantedAccuracy 'BEGIN {exit !(a >= w)}'; then
  echo "quickstart: the run ended well but its test accuracy is '${accuracy:-not printed}', below $kWantedAccuracy %" >&2
  status=1
fi

step "stop the hosts and remove what they had"
scripts/test_hosts.sh down --dir "$work/hosts" | tail -n 1
took

echo
echo "test accuracy ${accuracy:-unknown} % after one epoch on 2 hosts, status $status, training run $seconds s"
if [[ $status -eq 0 ]]; then
  shown="${bin#"$PWD"/}"
  run="$shown/llmlaunch run --config test-hosts/config.yaml"
  width=$((${#run} + 13))  # of the longest of these, and two blanks
  printf '\nWhat next:\n'
  printf "  %-${width}s  %s\n" "scripts/test_hosts.sh up 2" "two hosts that stay, in ./test-hosts" \
    "$run hostname" "any program, on every rank" "$run train --help" "the trainer's own flags" \
    "scripts/test_hosts.sh down" "stops them"
  cat <<NEXT
Your own machines: put their names below llmlaunch.hosts in a copy of that file; README.md lists the keys.
NEXT
fi
exit "$status"
