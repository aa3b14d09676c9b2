#!/usr/bin/env bash
# Benchmarks of launching, streaming and stopping: llmlaunch against pdsh, clush and mpirun in one run, on real sshd's in
# network namespaces. Needs root and a release build. Says what it measured; tests/bench/RESULTS.md keeps what was seen.
#
#   scripts/bench_launch.sh [--install] [options of tests/bench/bench_launch.py]
#
# --install: first installs the other programs from Debian (pdsh, clustershell, openmpi-bin).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ "${1:-}" == --install ]]; then
  shift
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pdsh clustershell openmpi-bin openssh-client \
    openssh-server iproute2 >/dev/null
fi
echo "# $(date -u +%Y-%m-%d), $(nproc) cores, $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "# $(ssh -V 2>&1); pdsh $(dpkg-query -f '${Version}' -W pdsh 2>/dev/null || echo -); clush $(dpkg-query -f '${Version}' \
-W clustershell 2>/dev/null || echo -); mpirun $(dpkg-query -f '${Version}' -W openmpi-bin 2>/dev/null || echo -)"
exec python3 tests/bench/bench_launch.py "$@"
