#!/usr/bin/env python3
"""Launching and log streaming against pdsh with the ssh program, on the same real sshd's.

    tests/bench/launch_bench.py --bin build/release/bin [--hosts 4] [--repeat 7] [--lines 1000000]

Two tasks: `true` on every host (launch), and LINES lines from all hosts together into a file (lines). The two programs
take turns, so that a change in the machine's mood meets both; medians are printed, and the ratio pdsh / llmlaunch (above
1: llmlaunch is faster). Each program does its usual work: llmlaunch also keeps per-rank files, a merged log and a
rendezvous, which pdsh has not. Status 77 when pdsh or sshd is not there.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNT = ("import os, sys\nwrite = sys.stdout.write\nfor n in range({lines}):\n"
         "  write(f'{{n}}:the quick brown fox jumps over the lazy dog\\n')\n")


def timed(command, env, out):
    started = time.monotonic()
    with open(out, "wb") as stream:
        subprocess.run(command, env=env, stdout=stream, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def compare(task, ours, theirs, env, out, repeat, check):
    for command in (ours, theirs):  # once unmeasured: the agent is pushed, files are in the page cache
        timed(command, env, out)
        check(out)
    seconds = {"llmlaunch": [], "pdsh": []}
    for _ in range(repeat):
        for name, command in (("llmlaunch", ours), ("pdsh", theirs)):
            seconds[name].append(timed(command, env, out))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        raw = " ".join(f"{value:.3f}" for value in values)
        print(f"{task:<24} {name:<10} median {medians[name]:7.3f} s   raw {raw}")
    print(f"{task:<24} ratio pdsh / llmlaunch {medians['pdsh'] / medians['llmlaunch']:.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="launch and log streaming against pdsh")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "release" / "bin")
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--lines", type=int, default=1_000_000)
    arguments = parser.parse_args()
    for program in ("pdsh", "ssh"):
        if not shutil.which(program):
            print(f"launch_bench: skipped: no {program} here", file=sys.stderr)
            return 77
    top = pathlib.Path(tempfile.mkdtemp(prefix="llmlaunch-bench-"))
    hosts = top / "hosts"
    script = ["bash", str(ROOT / "scripts" / "test_hosts.sh")]
    try:
        up = subprocess.run([*script, "up", str(arguments.hosts), "--dir", str(hosts)], stdout=subprocess.DEVNULL)
        if up.returncode:
            return up.returncode
        # pdsh has no notion of a port or a key per host: an ssh configuration file gives them to its ssh.
        names, lines = [], []
        for line in (hosts / "hosts.tsv").read_text().splitlines():
            name, address, port, _ = line.split()
            names.append(name)
            lines.append(f"Host {name}\n  HostName {address}\n  Port {port}\n")
        lines.append(f"Host *\n  IdentityFile {hosts}/user_key\n  IdentitiesOnly yes\n  BatchMode yes\n"
                     f"  UserKnownHostsFile {hosts}/known_hosts\n")
        (top / "ssh_config").write_text("".join(lines))
        env = dict(os.environ, PDSH_SSH_ARGS_APPEND=f"-F {top / 'ssh_config'}", PDSH_RCMD_TYPE="ssh")
        env.pop("SSH_AUTH_SOCK", None)
        ours = [str(arguments.bin / "llmlaunch"), "run", "--config", str(hosts / "config.yaml")]
        theirs = ["pdsh", "-S", "-w", ",".join(names)]
        out = top / "out"

        compare(f"launch {arguments.hosts} hosts", ours + ["true"], theirs + ["true"], env, out, arguments.repeat,
                lambda _: None)

        per_host = arguments.lines // arguments.hosts
        program = top / "count.py"
        program.write_text(COUNT.format(lines=per_host))

        def complete(file):
            with open(file, "rb") as stream:
                found = sum(1 for _ in stream)
            if found != per_host * arguments.hosts:
                raise SystemExit(f"launch_bench: {found} lines of {per_host * arguments.hosts} arrived")

        command = ["/usr/bin/python3", str(program)]
        compare(f"{arguments.lines} lines", ours + command, theirs + [" ".join(command)], env, out, arguments.repeat,
                complete)
    finally:
        subprocess.run([*script, "down", "--dir", str(hosts)], stdout=subprocess.DEVNULL)
        shutil.rmtree(top, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
