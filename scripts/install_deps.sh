#!/usr/bin/env bash
# Installs what llmlaunch needs on Debian 12, each package with its reason. Safe to run again: what is there stays.
#
#   scripts/install_deps.sh            build, test and quickstart packages
#   scripts/install_deps.sh --build    only what the build needs
#
# It asks for root through sudo when it is not root itself; with nothing missing it asks for nothing.
set -euo pipefail

build_packages=(
  g++                    # the compiler (GCC 12, C++20 coroutines)
  cmake                  # the build system, 3.25
  ninja-build            # the generator that the presets name
  ccache                 # makes the second build of a file free; used when found
  pkg-config             # finds libssh and friends
  libssh-dev             # ssh to the hosts
  libboost1.81-dev       # Asio: event loop, TCP, coroutines
  libcli11-dev           # command line
  libyaml-cpp-dev        # the accelerate YAML
  libfmt-dev             # text formatting
  nlohmann-json3-dev     # job.json, frames that carry a job
  libexpected-dev        # tl::expected, the body of Result<T> until C++23
  libssl-dev             # libcrypto: HMAC, SHA-256 (libssh uses it too); libssl: TLS between machines
  zlib1g-dev             # gzip: IDX files, the pushed agent
  libdnnl-dev            # oneDNN: the trainer's convolutions and matrix products on CPUs
  libgloo-dev            # Gloo: all-reduce between CPU ranks
)
test_packages=(
  catch2                 # unit test framework
  openssh-server         # the real sshd behind every test host
  openssh-client         # ssh-keygen, ssh-agent for tests and quickstart
  libopenmpi-dev         # MPI_Allreduce to compare Gloo's sums with
  openmpi-bin            # mpirun
  csh                    # login shells that the bootstrap line must get through: BSD csh,
  tcsh                   # ... tcsh
  fish                   # ... and fish
  zsh                    # reads its completion
  groff-base             # reads the manual pages
  mandoc                 # ... and so does mandoc, more strictly
  man-db                 # man -l
  cron                   # runs the crontab of scripts/, in namespaces of its own
  busybox                # sh and tools of small systems, for the same test
  clang                  # the tsan and fuzz presets
  libclang-rt-14-dev     # clang's sanitizer and fuzzer runtimes
  clang-format           # layout check
  clang-tidy             # lint preset
  iproute2               # network namespaces, ss
  nftables               # a NAT between a host and the head
  procps                 # ps, pkill in the scripts
  python3                # scripts/check_includes.py and the integration tests
  python3-yaml           # the integration tests read and write YAML
  python3-jsonschema     # checks the schema of configurations, and configs/ against it
  python3-pytest         # runs the integration tests
  python3-jsonschema     # job.json and events.jsonl against their schemas
  python3-tqdm           # progress bars as people have them, in a test of the console
  strace                 # which files and folders are on the disk before others are begun
  python3-numpy          # checks tensors in fixtures
)

packages=("${build_packages[@]}")
if [[ "${1:-}" == "--build" ]]; then
  shift
else
  packages+=("${test_packages[@]}")
fi
if [[ $# -gt 0 ]]; then
  echo "usage: scripts/install_deps.sh [--build]" >&2
  exit 64
fi

if ! command -v apt-get >/dev/null; then
  echo "install_deps: this is not a Debian system; install these packages by its own means: ${packages[*]}" >&2
  exit 69
fi

# Ubuntu 24.04 and Debian 13 have a newer Boost alone, under its plain name.
new_enough_boost() { dpkg --compare-versions "${1:-0}" ge 1.81; }

missing=()
for package in "${packages[@]}"; do
  if [[ $package == libboost1.81-dev ]] && new_enough_boost "$(dpkg-query -W -f='${Version}' libboost-dev 2>/dev/null)"; then
    continue
  fi
  if [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]]; then
    missing+=("$package")
  fi
done
if [[ ${#missing[@]} -eq 0 ]]; then
  echo "install_deps: all ${#packages[@]} packages are there"
  exit 0
fi

as_root=()
if [[ $EUID -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "install_deps: root is needed to install: ${missing[*]}" >&2
    echo "install_deps: run as root: apt-get install -y ${missing[*]}" >&2
    exit 77
  fi
  as_root=(sudo)
fi

echo "install_deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# An sshd that starts by itself is not wanted on a build machine: the tests start their own on loopback addresses.
if [[ ! -e /usr/sbin/policy-rc.d && ! -d /run/systemd/system ]]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
  "${as_root[@]}" chmod +x /usr/sbin/policy-rc.d
  trap '"${as_root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
fi
"${as_root[@]}" apt-get update -qq
for i in "${!missing[@]}"; do
  if [[ ${missing[i]} == libboost1.81-dev ]] && ! apt-cache show libboost1.81-dev >/dev/null 2>&1 &&
    new_enough_boost "$(apt-cache show libboost-dev 2>/dev/null | sed -n 's/^Version: //p' | head -1)"; then
    missing[i]=libboost-dev
  fi
done
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "install_deps: done"
