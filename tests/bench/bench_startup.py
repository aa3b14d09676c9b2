#!/usr/bin/env python3
"""How long a person waits for llmlaunch itself: its help, and the plan of a large job, beside the other launchers.

    tests/bench/bench_startup.py --bin build/release/bin [--hosts 1000] [--repeat 15] [--strict]

No host is contacted. The programs take turns; medians of the repeats after one that is not counted, and the raw values.
`accelerate launch --help` and `torchrun --help` are measured when they are in PATH, and said to be missing when not.
--strict: status 1 when llmlaunch is above its aims, 10 ms for --help and 50 ms for the plan (1,000 hosts).
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
HELP_MS, PLAN_MS = 10, 50


def milliseconds(command, cwd):
    began = time.perf_counter()
    subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000


def main():
    parser = argparse.ArgumentParser(description="the time to a help text and to a plan")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "release" / "bin")
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--strict", action="store_true")
    arguments = parser.parse_args()
    program = str((arguments.bin / "llmlaunch").resolve())
    if not os.access(program, os.X_OK):
        parser.error(f"{program} is not built")
    tasks = {"llmlaunch --help": [program, "--help"],
             "llmlaunch run --help": [program, "run", "--help"],
             f"llmlaunch run --dry-run, {arguments.hosts} hosts": [program, "run", "--config", "cfg.yaml", "--dry-run", "true"]}
    for words in (["accelerate", "launch", "--help"], ["torchrun", "--help"]):
        if shutil.which(words[0]):
            tasks[" ".join(words)] = words
        else:
            print(f"# {' '.join(words)}: not measured, no {words[0]} in PATH")
    limits = dict(zip(tasks, (HELP_MS, HELP_MS, PLAN_MS)))
    raw = {name: [] for name in tasks}
    with tempfile.TemporaryDirectory(prefix="llmlaunch-bench-") as top:
        (pathlib.Path(top) / "cfg.yaml").write_text(
            f"num_machines: {arguments.hosts}\nnum_processes: {8 * arguments.hosts}\n"
            f"llmlaunch:\n  hosts: ['n[1-{arguments.hosts}]']\n  env: {{NCCL_DEBUG: WARN}}\n")
        for turn in range(arguments.repeat + 1):
            for name, command in tasks.items():
                took = milliseconds(command, top)
                if turn > 0:
                    raw[name].append(took)
    print(f"# load {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    print("| task | median ms | aim ms | raw |\n|---|---|---|---|")
    missed = False
    for name, values in raw.items():
        median = statistics.median(values)
        limit = limits.get(name)
        missed = missed or (limit is not None and median > limit)
        print(f"| {name} | {median:.1f} | {limit or ''} | {' '.join(f'{value:.1f}' for value in values)} |")
    return 1 if missed and arguments.strict else 0


if __name__ == "__main__":
    sys.exit(main())
