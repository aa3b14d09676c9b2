#!/usr/bin/env bash
# Pretend hosts for tests and for trying llmlaunch on one machine: N real sshd's, each with its own host key, home
# directory and address, and the YAML that names them.
#
#   scripts/test_hosts.sh up N [--dir DIR] [--port BASE] [--slots K] [--netns]
#   scripts/test_hosts.sh down   [--dir DIR]      stops exactly these sshd's and what they started, removes DIR
#   scripts/test_hosts.sh status [--dir DIR]      one line per host; 0 when all of them answer, 1 when not
#
# Without --netns: no root, no change to the machine. The sshd's run as the current user on loopback addresses.
#
#      this machine (head)                         DIR/config.yaml        what llmlaunch reads
#      ┌───────────────────────────────┐           DIR/known_hosts        the host keys, made here
#      │ llmlaunch                     │           DIR/user_key           the only key that is let in
#      │   ├─ssh─► 127.0.0.2:P  test01 │           DIR/test01/home        $HOME of what runs on test01
#      │   ├─ssh─► 127.0.0.3:P  test02 │           DIR/test01/sshd.{conf,log,pid}
#      │   └─ssh─► 127.0.0.4:P  test03 │
#      └───────────────────────────────┘
#
# With --netns (root): each host has a network of its own and a hostname of its own, so that links can be cut.
#
#      head ── bridge lhPIDb 10.x.y.254 ──┬── veth ── [ namespace lhPID-test01  10.x.y.1:22 ]
#                                         ├── veth ── [ namespace lhPID-test02  10.x.y.2:22 ]
#                                         └── veth ── [ namespace lhPID-test03  10.x.y.3:22 ]
#
# Exit status: 0 done, 1 failed, 64 usage, 77 this needs rights or programs that are not there (tests count it as skipped).
set -euo pipefail

readonly kMarker=.llmlaunch-test-hosts  # a DIR without this file is not ours and is not removed

usage() { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64; }
say() { echo "test_hosts: $*"; }
fail() { echo "test_hosts: error: $*" >&2; exit 1; }
missing() { echo "test_hosts: skipped: $*" >&2; exit 77; }

# --- what was asked -----------------------------------------------------------------------------------------------
command_word="${1:-}"
[[ -n "$command_word" ]] && shift
count=0
dir=./test-hosts
base_port=
slots=1
netns=no
case "$command_word" in
  up) [[ "${1:-}" =~ ^[1-9][0-9]{0,2}$ ]] || usage; count="$1"; shift ;;
  down | status) ;;
  *) usage ;;
esac
while [[ $# -gt 0 ]]; do
  case "$1" in
    --dir) [[ -n "${2:-}" ]] || usage; dir="$2"; shift 2 ;;
    --port) [[ "${2:-}" =~ ^[0-9]+$ ]] || usage; base_port="$2"; shift 2 ;;
    --slots) [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || usage; slots="$2"; shift 2 ;;
    --netns) netns=yes; shift ;;
    *) usage ;;
  esac
done

host_name() { printf 'test%02d' "$1"; }

# DIR/hosts.tsv: name, address, port, pid of the sshd — one line per host that was started.
each_host() { [[ -f "$dir/hosts.tsv" ]] && cat "$dir/hosts.tsv" || true; }

# True when the process is our sshd and not a later one that was given the same number.
is_our_sshd() { tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF -- "$dir/"; }

# Pids of all descendants, children after parents.
descendants() {
  local child
  for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
    echo "$child"
    descendants "$child"
  done
}

# Pids whose environment says that they were started on one of these hosts.
marked() {
  local file
  for file in /proc/[0-9]*/environ; do
    if tr '\0' '\n' 2>/dev/null <"$file" | grep -qxF -- "LLMLAUNCH_TEST_HOSTS=$dir"; then
      file="${file#/proc/}"
      echo "${file%/environ}"
    fi
  done 2>/dev/null
}

# Waits until none of the processes is there (a zombie is not), at most 5 s.
wait_gone() {
  local deadline=$((SECONDS + 5)) pid
  for pid in "$@"; do
    while [[ -d "/proc/$pid" ]] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do
      ((SECONDS < deadline)) || return 1
      read -rt 0.02 <> <(:) || true
    done
  done
}

# --- down ---------------------------------------------------------------------------------------------------------
stop_all() {
  local name address port pid pids=() rest=()
  while read -r name address port pid; do
    is_our_sshd "$pid" || continue
    # The tree is read before its root goes: a session's parent is the listening sshd only while that one lives.
    mapfile -t rest < <(descendants "$pid")
    pids+=("$pid" "${rest[@]}")
  done < <(each_host)
  [[ ${#pids[@]} -eq 0 ]] || kill -TERM "${pids[@]}" 2>/dev/null || true
  wait_gone "${pids[@]}" || kill -KILL "${pids[@]}" 2>/dev/null || true

  # Whoever left the tree (an orphan) still has the mark. It is ended too, and named: nobody should be here.
  mapfile -t rest < <(marked)
  if [[ ${#rest[@]} -gt 0 ]]; then
    for pid in "${rest[@]}"; do
      say "left over on a host: pid $pid $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || true)"
    done
    kill -KILL "${rest[@]}" 2>/dev/null || true
    wait_gone "${rest[@]}" || true
  fi
  if [[ -f "$dir/netns" ]]; then
    local prefix
    prefix="$(<"$dir/netns")"
    # The kernel takes a dead namespace's links away some time later; taken away from this end, they are gone now.
    for name in $(ip -o link show master "${prefix}b" 2>/dev/null | cut -d' ' -f2 | cut -d@ -f1); do
      ip link del "$name"
    done
    ip link del "${prefix}b" 2>/dev/null || true
    for name in $(ip netns list | awk -v p="$prefix-" 'index($1, p) == 1 {print $1}'); do
      ip netns del "$name"
    done
  fi
}

down() {
  if [[ ! -e "$dir" ]]; then
    say "nothing to stop: $dir is not there"
    return
  fi
  [[ -f "$dir/$kMarker" ]] || fail "$dir was not made by this script; it is left as it is"
  local hosts
  hosts="$(each_host | wc -l)"
  stop_all
  rm -rf -- "$dir"
  say "$hosts hosts stopped, $dir removed"
}

# --- status -------------------------------------------------------------------------------------------------------
banner_of() (
  exec 3<>"/dev/tcp/$1/$2" && IFS= read -rt 5 line <&3 && [[ "$line" == SSH-2.0-* ]] && echo "${line%$'\r'}"
) 2>/dev/null

status() {
  [[ -f "$dir/$kMarker" ]] || fail "no test hosts in $dir; start some: scripts/test_hosts.sh up 2 --dir $dir"
  local name address port pid state failed=0
  while read -r name address port pid; do
    if is_our_sshd "$pid" && banner_of "$address" "$port" >/dev/null; then
      state="up, pid $pid, $(descendants "$pid" | wc -l) session processes"
    else
      state="DOWN (see $dir/$name/sshd.log)"
      failed=1
    fi
    printf '%s  %s:%s  %s\n' "$name" "$address" "$port" "$state"
  done < <(each_host)
  return $failed
}

# --- up -----------------------------------------------------------------------------------------------------------
# Everything one sshd needs, below DIR/NAME. HOME, XDG_RUNTIME_DIR and TMPDIR are the host's own: what a run leaves
# there is seen and removed, and the user's real home stays untouched.
write_sshd_config() {
  local name="$1" address="$2" port="$3" here="$dir/$1" pam=no
  mkdir -p "$here/home" "$here/run" "$here/tmp"
  chmod 700 "$here/home" "$here/run" "$here/tmp"
  [[ -f "$here/host_key" ]] || ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$here/host_key"
  # Without PAM, sshd refuses an account whose password is locked by "!", as images of root often have it.
  if [[ $EUID -eq 0 ]] && getent shadow "$(id -un)" | grep -q '^[^:]*:!'; then pam=yes; fi
  cat >"$here/sshd.conf" <<CONF
ListenAddress $address:$port
HostKey $here/host_key
PidFile $here/sshd.pid
AuthorizedKeysFile $dir/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM $pam
StrictModes no
UseDNS no
PrintMotd no
PermitUserEnvironment no
MaxStartups 1000
MaxSessions 100
LogLevel INFO
SetEnv HOME=$here/home XDG_RUNTIME_DIR=$here/run TMPDIR=$here/tmp LLMLAUNCH_TEST_HOSTS=$dir LLMLAUNCH_TEST_HOST=$name
CONF
}

# Starts one sshd and waits for its banner. Returns 1 when the port is taken.
start_sshd() {
  local name="$1" address="$2" port="$3" here="$dir/$1" pid
  local inside=()
  if [[ "$netns" == yes ]]; then
    # shellcheck disable=SC2016  # $0 and $@ belong to the inner shell
    inside=(ip netns exec "$prefix-$name" unshare --uts sh -c 'hostname "$0" && exec "$@"' "$name")
  fi
  : >"$here/sshd.log"
  # A session of its own: a Ctrl-C at the terminal is for llmlaunch, not for the hosts.
  setsid "${inside[@]}" "$sshd" -D -E "$here/sshd.log" -f "$here/sshd.conf" </dev/null >/dev/null 2>&1 &
  pid=$!
  local deadline=$((SECONDS + 10))
  until [[ -s "$here/sshd.pid" ]] && banner_of "$address" "$port" >/dev/null; do
    if ! kill -0 "$pid" 2>/dev/null; then
      grep -q 'Address already in use' "$here/sshd.log" && return 1
      fail "sshd of $name ended at once: $(tail -n 3 "$here/sshd.log")"
    fi
    ((SECONDS < deadline)) || fail "sshd of $name did not answer on $address:$port within 10 s, see $here/sshd.log"
    read -rt 0.02 <> <(:) || true
  done
  disown "$pid"
  pid="$(<"$here/sshd.pid")"
  printf '%s\t%s\t%s\t%s\n' "$name" "$address" "$port" "$pid" >>"$dir/hosts.tsv"
  local names="[$name]:$port,[$address]:$port"
  [[ "$port" != 22 ]] || names="$name,$address"
  echo "$names $(cut -d' ' -f1,2 "$here/host_key.pub")" >>"$dir/known_hosts"
}

# A bridge on the head, and for each host a namespace on a cable to it.
make_networks() {
  local i name net third
  # A 10.x.y.0/24 that no route of this machine covers yet; x and y start from our pid.
  net=
  for ((i = 0; i < 200 && ${#net} == 0; i++)); do
    third="10.$((($$ / 250 + i) % 200 + 20)).$(($$ % 250))"
    ip -4 route show | grep -q "^${third//./\\.}\." || net="$third"
  done
  [[ -n "$net" ]] || fail "no free 10.x.y.0/24 network was found"
  echo "$prefix" >"$dir/netns"
  ip link add "${prefix}b" type bridge
  ip addr add "$net.254/24" dev "${prefix}b"
  ip link set "${prefix}b" up
  for ((i = 1; i <= count; i++)); do
    name="$(host_name "$i")"
    ip netns add "$prefix-$name"
    ip link add "${prefix}v$i" type veth peer name eth0 netns "$prefix-$name"
    ip link set "${prefix}v$i" master "${prefix}b" up
    ip -n "$prefix-$name" addr add "$net.$i/24" dev eth0
    ip -n "$prefix-$name" link set eth0 up
    ip -n "$prefix-$name" link set lo up
    ip -n "$prefix-$name" route add default via "$net.254"
  done
  network="$net"
}

write_yaml() {
  local name address port pid
  cat >"$dir/config.yaml" <<YAML
# Written by scripts/test_hosts.sh. accelerate reads the first part; llmlaunch reads all of it.
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
use_cpu: true
mixed_precision: 'no'
num_machines: $count
num_processes: $((count * slots))
machine_rank: 0

llmlaunch:
  hosts:
YAML
  while read -r name address port pid; do
    printf '    - {name: %s, address: %s, port: %s, user: %s, slots: %s}\n' \
      "$name" "$address" "$port" "$(id -un)" "$slots"
  done < <(each_host) >>"$dir/config.yaml"
  cat >>"$dir/config.yaml" <<YAML
  ssh:
    identity_file: "$dir/user_key"
    known_hosts_file: "$dir/known_hosts"
    config_file: none
  log_dir: "$dir/logs"
YAML
}

up() {
  local i name address port tries
  sshd="$(command -v sshd || echo /usr/sbin/sshd)"
  [[ -x "$sshd" ]] || missing "no sshd here; install it: apt-get install openssh-server"
  command -v ssh-keygen >/dev/null || missing "no ssh-keygen here; install it: apt-get install openssh-client"
  if [[ "$netns" == yes ]]; then
    [[ $EUID -eq 0 ]] || missing "--netns makes network namespaces, which needs root"
    command -v ip >/dev/null || missing "no ip program here; install it: apt-get install iproute2"
    ((count <= 250)) || fail "--netns has addresses for 250 hosts, not $count"
    ip netns add "lh$$-try" 2>/dev/null || missing "this machine lets nobody make network namespaces (a container?)"
    ip netns del "lh$$-try"
  fi
  [[ ! -e "$dir" ]] || fail "$dir is there already; stop those hosts first: scripts/test_hosts.sh down --dir $dir"
  case "$dir" in *[[:space:]\"\'\\]*) fail "sshd cannot take a directory name with blanks or quotes: $dir" ;; esac
  mkdir -p -- "$(dirname -- "$dir")"
  mkdir -m 700 -- "$dir"
  : >"$dir/$kMarker"
  trap 'stop_all; rm -rf -- "$dir"' EXIT  # up to the last line, a failure leaves nothing
  [[ $EUID -ne 0 || -d /run/sshd ]] || mkdir -m 755 /run/sshd  # sshd's own rule for root; Debian's service makes it so

  prefix="lh$$"
  [[ "$netns" == no ]] || make_networks
  ssh-keygen -q -t ed25519 -N '' -C llmlaunch-test -f "$dir/user_key"
  cp "$dir/user_key.pub" "$dir/authorized_keys"

  # Below the kernel's range for outgoing connections, so that those cannot take a port from us.
  port="${base_port:-$((20000 + $$ % 10000))}"
  for ((i = 1; i <= count; i++)); do
    name="$(host_name "$i")"
    if [[ "$netns" == yes ]]; then
      address="$network.$i"
      port="${base_port:-22}"
    else
      address="127.0.$(((i + 1) / 256)).$(((i + 1) % 256))"
    fi
    for ((tries = 0; ; tries++)); do
      ((port > 0 && port < 65536 && tries < 200)) || fail "no free port for $name near ${base_port:-20000}"
      write_sshd_config "$name" "$address" "$port"
      start_sshd "$name" "$address" "$port" && break
      port=$((port + 1))
    done
  done
  write_yaml
  trap - EXIT
  say "$count hosts answer: $(host_name 1)$([[ $count -eq 1 ]] || echo " … $(host_name "$count")"), see $dir/config.yaml"
  say "try:  llmlaunch run --config $dir/config.yaml hostname"
  say "stop: scripts/test_hosts.sh down --dir $dir"
}

dir="$(realpath -m -- "$dir")"
"$command_word"
