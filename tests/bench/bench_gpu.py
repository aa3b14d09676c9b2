"""llmlaunch-train beside PyTorch on one GPU, in one run: BasicNet's samples per second at batch 64, with and
without --cuda_graph, against eager PyTorch, torch.compile, PyTorch's CUDA graph, and one of compiled kernels, each in fp32, TF32 and
bfloat16 and compared with its own kind, and the time until 99 % of the drawn test digits are right.

    bench_gpu.py --bin BIN_DIR --python PYTHON_WITH_TORCH [--repeat 5] [--steps 3000] [--precisions fp32 tf32 bf16] [--device cuda]

Where other algorithms of cuDNN's that repeat bit for bit are faster than the trainer's (tests/gpu/convolution_bench.cpp), the graph is
measured with them, too. Prints rows "name | value" as scripts/gpu_check.sh shows them, and each program's speed on stderr as soon as it is known; the speed is
that of the last third of the steps. Without --python the peers are left out, and one that ends with an error is a row. --device cpu tries the script itself, with few steps; a CPU has no TF32.
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
VARIANTS = {"eager": "PyTorch eager", "compile": "PyTorch, torch.compile", "graph": "PyTorch, CUDA graph",
            "compiled_graph": "PyTorch, compiled, CUDA graph"}
OURS = "llmlaunch-train"
OUR_GRAPH = "llmlaunch-train, CUDA graph"
OUR_STREAM = "llmlaunch-train, CUDA graph, one stream"  # without gradients of weights beside those of inputs
OURS_ALL = (OURS, OUR_GRAPH, OUR_STREAM)
OUR_FASTEST = "llmlaunch-train, CUDA graph, cuDNN's fastest"  # of its algorithms that repeat bit for bit
BATCH = 64
IMAGES = 187 * BATCH  # full batches alone: the peers take no others
LIMIT = 240  # seconds of one program: most take 5 to 60, and a machine may be lent for minutes
REFUSED = "every step is started by the host"  # what llmlaunch-train says when a device refuses the graph


class Failed(Exception):
    """A program that did not end well: its command, its status and what it said."""


def lines_of(argv, **environment):
    """(seconds since the start, line) of a program that must end well."""
    begin = time.perf_counter()
    alone = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    process = subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**alone, **environment})
    killer = threading.Timer(LIMIT, process.kill)
    killer.start()
    lines = [(time.perf_counter() - begin, line) for line in process.stdout]
    status = process.wait()
    is_late = time.perf_counter() - begin >= LIMIT
    killer.cancel()
    if status != 0:
        how = f"had no end within {LIMIT} s" if is_late else f"ended with {status}"
        raise Failed(f"{' '.join(str(word) for word in argv)} {how}:\n{''.join(line for _, line in lines)}")
    return lines


class Bench:
    def __init__(self, options, folder):
        self.options, self.data, self.errors = options, pathlib.Path(folder) / "digits", 0
        lines_of([options.bin / "llmlaunch-train", "--export_dataset", self.data, "--train_samples", IMAGES])

    def failed(self, name, failure, is_error):
        print(failure, file=sys.stderr)
        print(f"{name} | failed: {str(failure).strip().splitlines()[-1]}", flush=True)
        self.errors += is_error

    def argv(self, who, precision, steps, logging):
        if who in (*OURS_ALL, OUR_FASTEST):
            return [self.options.bin / "llmlaunch-train", "--device", self.options.device, "--data_dir", self.data,
                    "--max_steps", steps, "--logging_steps", logging, "--logging_first_step", "--cuda_graph",
                    "false" if who == OURS else "true", *([] if precision == "fp32" else ["--" + precision])]
        return [self.options.python, HERE / "gpu_peer.py", who, self.data, BATCH, steps, logging, precision, self.options.device]

    def fastest_algorithms(self, precision):
        """The numbers of cuDNN's fastest algorithms that repeat bit for bit, after the rows of all of them; nothing where these are
        the trainer's own."""
        program = self.options.bin / "convolution_bench"
        if self.options.device == "cpu" or not program.exists():
            return None
        try:
            rows = "".join(line for _, line in lines_of([program, "fp32" if precision == "fp32" else "tf32"]))
        except Failed as failure:
            self.failed(f"{precision}: cuDNN's algorithms", failure, is_error=True)
            return None
        print(rows, end="", flush=True)
        numbers = re.search(r"LLMLAUNCH_CUDNN_ALGORITHMS=(\S+)", rows).group(1)
        return None if numbers == "1,1,1" else numbers

    def speed(self, who, precision, algorithms=None):
        logging = max(1, self.options.steps // 3)
        said = "".join(line for _, line in lines_of(self.argv(who, precision, 3 * logging, logging),
                                                    LLMLAUNCH_GRAPH_ONE_STREAM="true" if who == OUR_STREAM else "false",
                                                    LLMLAUNCH_CUDNN_ALGORITHMS=algorithms if who == OUR_FASTEST else ""))
        if REFUSED in said:
            raise Failed(f"{who}, {precision}: there was no graph to measure:\n{said}")
        found = int(re.findall(r"\((\d+) samples/s\)", said)[-1])
        print(f"{precision}: {who}: {found} samples/s", file=sys.stderr, flush=True)
        return found

    def seconds_to_99(self):
        """From the start of the program, its test passes included."""
        argv = [self.options.bin / "llmlaunch-train", "--device", self.options.device, "--data_dir", self.data,
                "--num_train_epochs", self.options.epochs, "--eval_strategy", "steps", "--eval_steps", 25, "--logging_steps", 10_000]
        for seconds, line in lines_of(argv):
            right = re.search(r"test accuracy ([\d.]+) %", line)
            if right and float(right.group(1)) >= 99:
                return seconds
        return None


def compare(bench, options, precision, peers):
    """The rows of one precision: speeds, ours as the time of a step, and its ratios to the peers of the same precision."""
    algorithms = bench.fastest_algorithms(precision)
    ours = [*OURS_ALL, *([OUR_FASTEST] if algorithms else [])]
    found = {who: [] for who in [*ours, *peers]}
    for _ in range(options.repeat):
        for who in list(found):
            try:
                found[who].append(bench.speed(who, precision, algorithms))
            except Failed as failure:
                # One that fails says nothing of the others. A peer that this PyTorch cannot is no error.
                bench.failed(f"{precision}: {VARIANTS.get(who, who)}, samples/s", failure, is_error=who in OURS_ALL)
                del found[who]
    ours = [who for who in ours if who in found]
    peers = [who for who in peers if who in found]
    medians = {who: statistics.median(speeds) for who, speeds in found.items()}
    for who, speeds in found.items():
        print(f"{precision}: {VARIANTS.get(who, who)}, samples/s | {medians[who]:.0f} ({' '.join(map(str, speeds))})")
    for who in ours:
        print(f"{precision}: {who}, step | {1e6 * BATCH / medians[who]:.1f} us at batch {BATCH}", flush=True)
    best = max(peers, key=medians.get, default=None)
    for who in ours if peers else ():
        eager = f"eager {medians[who] / medians['eager']:.2f}, " if "eager" in peers else ""
        print(f"{precision}: {who} / PyTorch | {eager}the best ({best}) {medians[who] / medians[best]:.2f}", flush=True)


def main():  # the exit status
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("--python")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    precisions = options.precisions or (["fp32", "tf32", "bf16"] if options.device == "cuda" else ["fp32"])
    peers = [variant for variant in VARIANTS if options.python and not ("graph" in variant and options.device == "cpu")]
    with tempfile.TemporaryDirectory(prefix="llmlaunch-bench-") as folder:
        bench = Bench(options, folder)
        for precision in precisions:
            compare(bench, options, precision, peers)
        try:
            times = [bench.seconds_to_99() for _ in range(options.repeat)]
        except Failed as failure:
            bench.failed("start to 99 % of the drawn digits", failure, is_error=True)
            return 1
        if None in times:
            print(f"start to 99 % of the drawn digits | not reached in {options.epochs} epochs")
        else:
            print(f"start to 99 % of the drawn digits | {statistics.median(times):.2f} s ({' '.join(f'{t:.2f}' for t in times)})")
        return 1 if bench.errors else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(str(failure))
