// The script that asks a host for its facts. Plain sh, dash and busybox included: no arrays, no local, no pipefail.
// Every question may fail; each waits for nothing but nvidia-smi, which a driver in trouble can hold up, and for
// Python.
#include "launcher/survey.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr const char* kScript = R"sh(
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
LC_ALL=C
export PATH LC_ALL
tab=$(printf '\t')
say() { [ -z "$2" ] || printf '%s\t%s\n' "$1" "$2"; }
limited() { if command -v timeout >/dev/null 2>&1; then timeout 10 "$@"; else "$@"; fi; }
exec 2>/dev/null </dev/null
printf '\nllmlaunch-survey 1\n'

say hostname "$(uname -n)"
say kernel "$(uname -sr)"
say machine "$(uname -m)"
say os "$( . /etc/os-release; printf '%s' "$PRETTY_NAME")"
say cpu "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)"
say cores "$(getconf _NPROCESSORS_ONLN || grep -c '^processor' /proc/cpuinfo)"
set -- /sys/devices/system/node/node[0-9]*
[ -d "$1" ] && say numa_nodes "$#"
say memory_kib "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
say shm_kib "$(df -kP /dev/shm | sed -n '2s/^[^ ]*  *\([0-9]*\) .*/\1/p')"
say nofile "$(sed -n 's/^Max open files  *\([^ ]*\) .*/\1/p' /proc/self/limits)"
say memlock "$(sed -n 's/^Max locked memory  *\([^ ]*\) .*/\1/p' /proc/self/limits)"
say glibc "$(getconf GNU_LIBC_VERSION | sed 's/^glibc //')"

if command -v nvidia-smi >/dev/null; then
  limited nvidia-smi --query-gpu=index,name,memory.total,compute_cap,driver_version --format=csv,noheader,nounits |
    sed -n "s/ *, */$tab/gp" | sed "s/^/gpu$tab/"
  say cuda_driver "$(limited nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p' | head -n 1)"
else
  number=0
  for file in /proc/driver/nvidia/gpus/*/information; do
    [ -r "$file" ] || continue
    printf 'gpu\t%s\t%s\n' "$number" "$(sed -n 's/^Model:[[:space:]]*//p' "$file")"
    number=$((number + 1))
  done
fi
say driver "$(sed -n 's/^NVRM version:.*  \([0-9][0-9.]*\)  .*/\1/p' /proc/driver/nvidia/version)"
nvcc=$(command -v nvcc || ls -d /usr/local/cuda/bin/nvcc)
[ -n "$nvcc" ] && say cuda "$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')"

python=$(command -v python3)
nccl=$(ldconfig -p | sed -n 's/.*libnccl\.so\.2 .*=> //p' | head -n 1)
[ -n "$nccl" ] && nccl=$(readlink -f "$nccl" | sed -n 's/.*\.so\.\(2\.[0-9.]*\)$/\1/p')
if [ -n "$python" ]; then
  say python "$("$python" -V 2>&1 | sed -n 's/^Python //p') $python"
  [ -n "$nccl" ] || nccl=$(limited "$python" -c '
import importlib.metadata as m
for name in ("nvidia-nccl-cu13", "nvidia-nccl-cu12", "nvidia-nccl-cu11"):
    try:
        print(m.version(name) + " (" + name + ")")
        break
    except m.PackageNotFoundError:
        pass')
fi
say nccl "$nccl"

addresses=$(ip -o addr show | sed -n 's/^[0-9]*: *\([^ ]*\) *inet6\{0,1\} \([^ ]*\).*/\1 \2/p')
for path in /sys/class/net/*; do
  [ -d "$path" ] || continue
  name=${path##*/}
  read -r state <"$path/operstate" || state=unknown
  [ "$state" = unknown ] && [ "$(cat "$path/carrier")" = 1 ] && state=up
  speed=$(cat "$path/speed") || speed=0
  mtu=$(cat "$path/mtu")
  kind=device
  case $(readlink -f "$path") in */virtual/*) kind=virtual;; esac
  [ "$(cat "$path/type")" = 772 ] && kind=loopback
  [ -d "$path/bonding" ] && kind=device
  if [ "${speed:-0}" -le 0 ] && [ -d "$path/device/infiniband" ]; then
    rate=$(sed -n 's/^\([0-9]*\).*/\1/p' "$path"/device/infiniband/*/ports/1/rate | head -n 1)
    speed=$((${rate:-0} * 1000))
  fi
  own=$(printf '%s\n' "$addresses" | while read -r dev address; do [ "$dev" = "$name" ] && printf '%s ' "$address"; done)
  printf 'iface\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$state" "${speed:-0}" "${mtu:-0}" "$kind" "$own"
done

set -- $SSH_CONNECTION
if [ $# -eq 4 ]; then
  say head "$1"
  say route_address "$3"
  dev=$(printf '%s\n' "$addresses" | while read -r name address; do
    [ "${address%/*}" = "$3" ] && { printf '%s' "$name"; break; }; done)
  [ -n "$dev" ] || dev=$(ip -o route get "$1" | sed -n 's/.* dev \([^ ]*\).*/\1/p')
  say route_interface "$dev"
else
  say route_interface "$(ip -o route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)"
fi
echo end
)sh";

}  // namespace

std::vector<std::string> survey_command() {
  return {"/bin/sh", "-c", kScript};
}

}  // namespace llmlaunch::launcher
