#!/usr/bin/env python3
"""llmlaunch against pdsh, clush and mpirun on real sshd's, each in a network namespace of its own.

    scripts/bench_launch.sh [--bin build/release/bin] [--hosts 16,64,128] [--repeat 5] [--only echo,run,lines,stop,simulated]

The programs take turns within a task, so that a change in the machine's mood meets all of them; before it each runs once
unmeasured (the agent is pushed, files are in the page cache). Printed are medians, all raw values, and the ratio
llmlaunch / peer: below 1 llmlaunch is faster. Needs root for the namespaces. Status 77: something is not there.
"""
import argparse
import os
import pathlib
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FANOUT = 64
LIMIT_S = 120  # a program that takes longer hangs


def machine_cpu():
    """Seconds that all cores together have worked since the machine started, rounded to 10 ms."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Measured:
    """Wall seconds, CPU seconds of the program and its children, its own peak memory in KiB; and the CPU seconds of all
    else, which on a quiet machine are the hosts': sshd's, shells, agents, what they run."""

    def __init__(self, command, env, out):
        busy = machine_cpu()
        started = time.monotonic()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(out, "wb") as stream:
            process = subprocess.Popen(command, env=env, stdout=stream, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                       start_new_session=True)
            limit = threading.Timer(LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
            limit.start()
            errors = process.stderr.read().decode(errors="replace")
            _, status, usage = os.wait4(process.pid, 0)
            limit.cancel()
        self.wall = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.hosts_cpu = max(0.0, machine_cpu() - busy - self.cpu)
        self.rss_kib = usage.ru_maxrss
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"bench_launch: {' '.join(command)} ended with {process.returncode}\n{errors[-2000:]}")


class Hosts:
    """N sshd's and what each program needs to reach them."""

    def __init__(self, count, binaries):
        self.count, self.binaries = count, binaries
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="llmlaunch-bench-"))
        self.script = ["bash", str(ROOT / "scripts" / "test_hosts.sh")]
        self.directory = self.top / "hosts"
        up = subprocess.run([*self.script, "up", str(count), "--netns", "--dir", str(self.directory)],
                            stdout=subprocess.DEVNULL)
        if up.returncode:
            shutil.rmtree(self.top)
            raise SystemExit(up.returncode)
        self.names, self.addresses, stanzas = [], [], []
        for line in (self.directory / "hosts.tsv").read_text().splitlines():
            name, address, port, _ = line.split()
            self.names.append(name)
            self.addresses.append(address)
            stanzas.append(f"Host {name} {address}\n  HostName {address}\n  Port {port}\n")
        # pdsh, clush and mpirun have no notion of a port or a key per host: their ssh gets them from a file.
        common = (f"Host *\n  IdentityFile {self.directory}/user_key\n  IdentitiesOnly yes\n  BatchMode yes\n"
                  f"  UserKnownHostsFile {self.directory}/known_hosts\n")
        (self.top / "ssh_config").write_text("".join(stanzas) + common)
        (self.top / "ssh_config.fast").write_text("".join(stanzas) + common + "  KexAlgorithms curve25519-sha256\n")
        self.out = self.top / "out"
        self.env = {key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"}

    def close(self):
        subprocess.run([*self.script, "down", "--dir", str(self.directory)], stdout=subprocess.DEVNULL)
        shutil.rmtree(self.top, ignore_errors=True)

    @property
    def config(self):
        return str(self.directory / "config.yaml")

    def exec(self, *command):
        return [str(self.binaries / "llmlaunch"), "exec", "--config", self.config, "-q", "--", *command], self.env

    def run(self, *command):
        return [str(self.binaries / "llmlaunch"), "run", "--config", self.config, "-q", *command], self.env

    def pdsh(self, *command, ssh_config="ssh_config"):
        env = dict(self.env, PDSH_RCMD_TYPE="ssh", PDSH_SSH_ARGS_APPEND=f"-F {self.top / ssh_config}")
        return ["pdsh", "-S", "-f", str(FANOUT), "-w", ",".join(self.names), " ".join(command)], env

    def clush(self, *command):
        return ["clush", "-q", "-f", str(FANOUT), "-o", f"-F {self.top / 'ssh_config'}", "-w", ",".join(self.names),
                " ".join(command)], self.env

    def mpirun(self, *command, tree=False):
        """By address: it asks the name server for each host, one after the other, and these names are known to ssh alone."""
        env = dict(self.env, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        return ["mpirun", "-n", str(self.count), "--host", ",".join(self.addresses), "--mca", "plm_rsh_agent",
                f"ssh -F {self.top / 'ssh_config'}", "--mca", "plm_rsh_num_concurrent", str(FANOUT), "--mca",
                "plm_rsh_no_tree_spawn", str(int(not tree)), "--mca", "orte_tmpdir_base", str(self.top), *command], env


def take_turns(task, programs, out, repeat, check=lambda file: None):
    """{name: [Measured…]} of programs {name: (command, env)}."""
    found = {name: [] for name in programs}
    for name, (command, env) in programs.items():
        Measured(command, env, out)
        check(out)
    for _ in range(repeat):
        for name, (command, env) in programs.items():
            found[name].append(Measured(command, env, out))
            check(out)
    first = statistics.median(one.wall for one in next(iter(found.values())))
    for name, values in found.items():
        wall = statistics.median(one.wall for one in values)
        cpu = statistics.median(one.cpu for one in values)
        hosts = statistics.median(one.hosts_cpu for one in values)
        rss = statistics.median(one.rss_kib for one in values)
        raw = " ".join(f"{one.wall:.3f}" for one in values)
        print(f"{task:<22} {name:<18} {wall:8.3f} s   cpu {cpu:7.3f} s   hosts' cpu {hosts:6.2f} s   rss {rss / 1024:6.1f} MiB   "
              f"llmlaunch/this {first / wall:5.2f}   raw {raw}", flush=True)
    return found


def per_host_cpu(task, values, hosts):
    cpu = statistics.median(one.cpu for one in values)
    print(f"{task:<22} head CPU per host {1000 * cpu / hosts:.2f} ms", flush=True)


def lines_of(count):
    def check(file):
        with open(file, "rb") as stream:
            found = sum(1 for _ in stream)
        if found != count:
            raise SystemExit(f"bench_launch: {found} lines of {count} arrived")
    return check


def bench_echo(hosts, repeat, peers):
    task = f"echo, {hosts.count} hosts"
    programs = {"llmlaunch exec -L": (hosts.exec("echo", "hello")[0][:4] + ["-L", "-q", "--", "echo", "hello"], hosts.env),
                "pdsh": hosts.pdsh("echo", "hello"),
                "pdsh, curve25519": hosts.pdsh("echo", "hello", ssh_config="ssh_config.fast"),
                "clush": hosts.clush("echo", "hello"),
                "mpirun": hosts.mpirun("echo", "hello"),
                "mpirun, hosts start hosts": hosts.mpirun("echo", "hello", tree=True)}
    programs = {name: one for name, one in programs.items() if name.split()[0].strip(",") in ["llmlaunch", *peers]}
    found = take_turns(task, programs, hosts.out, repeat, lines_of(hosts.count))
    per_host_cpu(task, found["llmlaunch exec -L"], hosts.count)


def bench_run(hosts, repeat):
    task = f"run, {hosts.count} hosts"
    rank = hosts.binaries / "bench_rank"
    programs = {"llmlaunch run": hosts.run(str(rank)),
                "llmlaunch exec": hosts.exec("echo", "joined")}
    found = take_turns(task, programs, hosts.out, repeat)
    walls = {name: statistics.median(one.wall for one in values) for name, values in found.items()}
    rss = statistics.median(one.rss_kib for one in found["llmlaunch run"])
    print(f"{task:<22} run / exec {walls['llmlaunch run'] / walls['llmlaunch exec']:.2f}; head RSS "
          f"{rss * 1.024 / 1000:.1f} MB, allowed {16 + 0.1 * hosts.count:.1f} MB", flush=True)


def bench_lines(hosts, repeat):
    per_host = 200_000
    program = hosts.top / "lines.py"
    program.write_text(f"import sys\nsys.stdout.write(''.join('%07d ' % n + 'x' * 95 + '\\n' for n in range({per_host})))\n")
    command = ["/usr/bin/python3", str(program)]
    programs = {"llmlaunch exec -L": (hosts.exec(*command)[0][:4] + ["-L", "-q", "--", *command], hosts.env),
                "llmlaunch run": hosts.run(*command),
                "pdsh": hosts.pdsh(*command)}
    take_turns(f"{hosts.count} x {per_host} lines", programs, hosts.out, repeat, lines_of(per_host * hosts.count))


def bench_stop(hosts, repeat):
    """From Ctrl-C to the end of llmlaunch and of every process on all hosts."""
    task = f"Ctrl-C, {hosts.count} hosts"
    seconds = []
    for _ in range(repeat):
        mark = f"LLMLAUNCH_BENCH_MARK={os.urandom(8).hex()}"
        command, env = hosts.run("sh", "-c", "echo up; exec sleep 1000")
        command = command[:2] + ["--env", mark] + command[2:]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   stdin=subprocess.DEVNULL)
        for _ in range(hosts.count):
            if not process.stdout.readline():
                raise SystemExit(f"bench_launch: {' '.join(command)} ended with {process.wait()}")
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        process.wait()
        left = [pid for pid in os.listdir("/proc") if pid.isdigit() and marked(pid, mark)]
        seconds.append(time.monotonic() - pressed)
        if left or process.returncode != -signal.SIGINT:
            raise SystemExit(f"bench_launch: status {process.returncode}, left {left}")
    raw = " ".join(f"{value:.3f}" for value in seconds)
    print(f"{task:<22} everything gone after {statistics.median(seconds):.3f} s   raw {raw}", flush=True)


def marked(pid, mark):
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            return mark.encode() in stream.read().split(b"\0")
    except OSError:
        return False


def bench_simulated(binaries, repeat):
    """Agents over socket pairs instead of ssh: what the head's own work is."""
    program = str(binaries / "bench_simulated_hosts")
    for count in (128, 512, 1024):
        walls, rss = [], []
        for _ in range(repeat):
            one = Measured([program, str(binaries / "llmlaunch-agent"), str(binaries / "bench_rank"), str(count)],
                           dict(os.environ), "/dev/null")
            walls.append(one.wall)
            rss.append(one.rss_kib)
        raw = " ".join(f"{value:.3f}" for value in walls)
        print(f"simulated, {count:<11} {'llmlaunch run':<18} {statistics.median(walls):8.3f} s   rss "
              f"{statistics.median(rss) / 1024:6.1f} MiB   raw {raw}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="llmlaunch against pdsh, clush and mpirun")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "release" / "bin")
    parser.add_argument("--hosts", default="16,64,128")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", default="echo,run,lines,stop,simulated")
    parser.add_argument("--peers", default="pdsh,clush,mpirun", help="for echo")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the hosts go with us
    binaries = arguments.bin.resolve()
    tasks = arguments.only.split(",")
    missing = [name for name in ("pdsh", "clush", "mpirun", "ssh") if not shutil.which(name)]
    if missing:
        print(f"bench_launch: skipped: no {', '.join(missing)} here; apt-get install pdsh clustershell openmpi-bin "
              "openssh-client", file=sys.stderr)
        return 77
    sizes = [int(size) for size in arguments.hosts.split(",")]
    for size in sizes if {"echo", "run", "stop"} & set(tasks) else []:
        hosts = Hosts(size, binaries)
        try:
            if "run" in tasks:
                bench_run(hosts, arguments.repeat)
            if "stop" in tasks:
                bench_stop(hosts, arguments.repeat)
            if "echo" in tasks:
                bench_echo(hosts, arguments.repeat, arguments.peers.split(","))
        finally:
            hosts.close()
    if "lines" in tasks:
        hosts = Hosts(8, binaries)
        try:
            bench_lines(hosts, arguments.repeat)
        finally:
            hosts.close()
    if "simulated" in tasks:
        bench_simulated(binaries, arguments.repeat)
    return 0


if __name__ == "__main__":
    sys.exit(main())
