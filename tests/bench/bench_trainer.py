"""llmlaunch-train beside PyTorch on CPUs, in one run: samples per second, start to first step, memory, all-reduce.

    bench_trainer.py --python PYTHON_WITH_TORCH [--bin build/release/bin] [--repeat 5] [--steps 150]

Both train BasicNet with dropout, batch 64 per rank, on the same drawn digits, with the same number of threads, in turn;
several ranks of both are started by llmlaunch run on this machine. The speed is that of the last third of the steps; the memory
that of the process, of several ranks their sum.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
CASES = [("1 rank x 1 thread", 1, 1), ("1 rank x 2 threads", 1, 2), ("2 ranks x 1 thread", 2, 1)]


class RankMemory(threading.Thread):
    """The largest resident size of each process that has a mark in its environment, looked at while it runs: the kernel keeps it,
    so that only what comes after the last look is missed."""
    def __init__(self, mark):
        super().__init__(daemon=True)
        self.mark, self.kib, self.over = mark.encode(), {}, threading.Event()

    def run(self):
        while not self.over.wait(0.1):
            for process in pathlib.Path("/proc").glob("[0-9]*"):
                try:
                    if self.mark in (process / "environ").read_bytes().split(b"\0"):
                        peak = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
                        if peak:
                            self.kib[process.name] = int(peak[1])
                except OSError:  # it has ended, or is somebody else's
                    pass

    def mib(self, ranks):
        self.over.set()
        self.join()
        if len(self.kib) < ranks:
            sys.exit(f"{ranks} ranks were {len(self.kib)} processes")
        return sum(sorted(self.kib.values())[-ranks:]) / 1024  # without what a rank was for a moment before its exec


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.data = folder / "digits"
        self.run([options.bin / "llmlaunch-train", "--export_dataset", self.data, "--train_samples", "12000", "--eval_samples", "10"], 1)

    def run(self, argv, threads, cwd=None):
        """(output, seconds to the first step, MiB of the process)"""
        env = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
        env |= {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
        begin = time.perf_counter()
        process = subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env=env, cwd=cwd)
        lines, first = [], None
        for line in process.stdout:
            lines.append(line)
            if first is None and "step 1/" in line:
                first = time.perf_counter() - begin
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"{' '.join(str(word) for word in argv)} ended with {status}:\n{''.join(lines)}")
        return "".join(lines), first, usage.ru_maxrss / 1024

    def ranks(self, argv, ranks, threads):
        if ranks == 1:
            return self.run(argv, threads)
        mark = f"BENCH_TRAINER={os.getpid()}"
        head = [self.options.bin / "llmlaunch", "run", "--num_processes", ranks, "--cpu", "--log-dir", self.folder / "logs",
                "--env", f"OMP_NUM_THREADS={threads}", "--env", mark]
        memory = RankMemory(mark)
        memory.start()
        output, first, _ = self.run(head + argv, threads, cwd=self.folder)
        return output, first, memory.mib(ranks)

    def train(self, who, ranks, threads):
        logging = max(1, self.options.steps // 3)
        steps = 3 * logging  # so that both print the same steps
        if who == "llmlaunch-train":
            program = ["train"] if ranks > 1 else [self.options.bin / "llmlaunch-train"]
            argv = program + ["--use_cpu", "--data_dir", self.data, "--max_steps", steps, "--logging_steps", logging,
                              "--logging_first_step"]
        else:
            argv = [self.options.python, HERE / "trainer_peer.py", "train", self.data, 64, steps, logging]
        output, first, mib = self.ranks(argv, ranks, threads)
        speeds = re.findall(r"\((\d+) samples/s\)", output)
        return int(speeds[-1]), first, mib

    def all_reduce(self, who):
        argv = ([self.options.bin / "trainer_all_reduce_bench"] if who == "llmlaunch-train"
                else [self.options.python, HERE / "trainer_peer.py", "all_reduce"])
        output, _, _ = self.ranks(argv, 2, 1)
        return float(re.search(r"all_reduce_ms ([0-9.]+)", output).group(1))


def shown(values, form):
    return f"{statistics.median(values):{form}} ({' '.join(f'{value:{form}}' for value in values)})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", required=True)
    parser.add_argument("--bin", type=lambda text: pathlib.Path(text).resolve(), default=pathlib.Path("build/release/bin").resolve())
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--all-reduce-only", action="store_true")
    options = parser.parse_args()
    names = ("llmlaunch-train", "PyTorch")
    with tempfile.TemporaryDirectory(prefix="llmlaunch-bench-") as folder:
        bench = Bench(options, pathlib.Path(folder))
        if not options.all_reduce_only:
            print("| case | program | samples/s | start to first step, s | MiB |\n|---|---|---|---|---|")
        for case, ranks, threads in [] if options.all_reduce_only else CASES:
            found = {name: [] for name in names}
            for _ in range(options.repeat):
                for name in names:
                    found[name].append(bench.train(name, ranks, threads))
            for name in names:
                speeds, firsts, sizes = zip(*found[name])
                print(f"| {case} | {name} | {shown(speeds, '.0f')} | {shown(firsts, '.2f')} | "
                      f"{statistics.median(sizes):.0f} |", flush=True)
            ours, theirs = (statistics.median(row[0] for row in found[name]) for name in names)
            print(f"| {case} | ratio | {ours / theirs:.2f} | | |", flush=True)
        times = {name: [] for name in names}
        for _ in range(options.repeat):
            for name in names:
                times[name].append(bench.all_reduce(name))
        for name in names:
            print(f"all-reduce of 4.8 MB over 2 ranks, {name}: {shown(times[name], '.2f')} ms", flush=True)


if __name__ == "__main__":
    main()
