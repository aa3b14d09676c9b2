#!/usr/bin/env python3
"""The rendezvous: ranks that join, and the store of both dialects against PyTorch's own TCPStore server.

    scripts/bench_rendezvous.sh [--bin build/release/bin] [--repeat 5] [--worlds 64,1000,2000,5000,10000,19900]
                                [--clients 64] [--only join,store]

One process plays all clients, the same one for every server. The servers take turns, and each has a round that is not
counted. Printed are medians and all raw values. Without PyTorch (scripts/python_env.sh) its rows are left out, said so.
"""
import argparse
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTORCH_SERVER = """
import sys, torch
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False, use_libuv=sys.argv[1] == "libuv")
print(store.port, flush=True)
sys.stdin.read()
"""


class Served:
    """A server process that prints its port and ends with its stdin."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().strip()
        if not line.isdigit():
            self.process.kill()
            raise SystemExit(f"bench_rendezvous: {command[0]} did not start")
        self.port, self.pid = line, str(self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        if self.process.wait(timeout=60):
            raise SystemExit(f"bench_rendezvous: a server ended with {self.process.returncode}")


def clients(program, *arguments):
    """{name: number} of the line that the clients print."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"bench_rendezvous: {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr}")
    return {name: float(value) for name, value in (word.split("=") for word in done.stdout.split())}


def row(name, rounds, columns, raw=1):
    """A line of a table: the medians, and the raw values of the first columns, so many."""
    medians = [statistics.median(found[column] for found in rounds) for column in columns]
    values = [" ".join(f"{found[column]:g}" for found in rounds) for column in columns[:raw]]
    print(f"| {name} | " + " | ".join([f"{median:g}" for median in medians] + values) + " |", flush=True)
    return medians


def join(program, worlds, repeat):
    print("\n| ranks | last join to last id ms | join, id, barrier s | server's bytes per client | raw ms | raw s |\n"
          "|---|---|---|---|---|---|")
    for world in worlds:
        rounds = []
        for _ in range(repeat + 1):
            with Served([program, "serve", str(world)]) as server:  # a world is joined once
                rounds.append(clients(program, "join", server.port, world, server.pid))
        row(world, rounds[1:], ["last_id_ms", "total", "bytes_per_client"], raw=2)


def store(program, python, count, repeat):
    """Throughput of many clients, and the latency of one, which waits for each answer."""
    servers = {"llmlaunch, native": ([program, "serve"], "native"),
               "llmlaunch, TCPStore": ([program, "serve"], "tcpstore")}
    if python:
        for kind in ("libuv", "legacy"):
            servers[f"PyTorch TCPStore, {kind}"] = ([python, "-c", PYTORCH_SERVER, kind], "tcpstore")
    for title, number, pairs in (("throughput", count, 2000), ("latency", 1, 20000)):
        found = {name: [] for name in servers}
        for turn in range(repeat + 1):
            for name, (command, dialect) in servers.items():
                with Served(command + [str(number)] if command[0] == program else command) as server:
                    found[name].append(clients(program, "store", server.port, dialect, number, pairs))
        print(f"\n{title}: {number} {'client' if number == 1 else 'clients'}, each {pairs} times set and get of 128 bytes")
        print("| server | pairs per s | median µs | p99 µs | raw |\n|---|---|---|---|---|")
        medians = {name: row(name, rounds[1:], ["pairs_per_s", "median_us", "p99_us"]) for name, rounds in found.items()}
        peers = {name: values for name, values in medians.items() if name.startswith("PyTorch")}
        for peer, values in peers.items():
            for ours in ("llmlaunch, native", "llmlaunch, TCPStore"):
                print(f"{ours} / {peer}: {medians[ours][0] / values[0]:.2f} of its pairs per s, "
                      f"{medians[ours][1] / values[1]:.2f} of its median latency")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=str(ROOT / "build" / "release" / "bin"), type=pathlib.Path)
    parser.add_argument("--repeat", default=5, type=int)
    parser.add_argument("--worlds", default="64,1000,2000,5000,10000,19900")
    parser.add_argument("--clients", default=64, type=int)
    parser.add_argument("--only", default="join,store")
    parser.add_argument("--python", default="", help="an interpreter that has PyTorch")
    arguments = parser.parse_args()
    program = str(arguments.bin / "rendezvous_bench")
    if not pathlib.Path(program).exists():
        print(f"bench_rendezvous: {program} is not there: build it, or name its folder by --bin", file=sys.stderr)
        return 77
    if not arguments.python:
        print("# without PyTorch: scripts/python_env.sh makes its environment")
    if "join" in arguments.only:
        join(program, [int(world) for world in arguments.worlds.split(",")], arguments.repeat)
    if "store" in arguments.only:
        store(program, arguments.python, arguments.clients, arguments.repeat)
    return 0


if __name__ == "__main__":
    sys.exit(main())
