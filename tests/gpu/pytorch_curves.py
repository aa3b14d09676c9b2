#!/usr/bin/env python3
"""llmlaunch-train's losses of 100 steps on a GPU beside PyTorch's on the same one: the same weights, images and order, without
dropout, for each model, in fp32, TF32 and bfloat16 with steps started by the host and as a CUDA graph, and with --fp16 beside torch.autocast
and GradScaler.

    pytorch_curves.py --bin BIN_DIR [--python PYTHON_WITH_TORCH] [--steps 100] [--device cuda] [--precisions fp32 tf32 bf16 fp16]

Exit status: 0 as near as they should be, 1 not, 77 there is no GPU, or no PyTorch for it. --device cpu tries the script itself,
and --device emulated the trainer's CUDA code on the device that the processor plays, beside PyTorch on the CPU.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "integration" / "pytorch" / "basic_net.py"
SKIPPED = 77
FIRST = 20  # steps in which rounding has not grown yet
IMAGES = 1003  # no number of batches
# cuDNN and PyTorch's choice of its algorithms add up in other orders than one another, and AdamW makes a whole step of the
# rounding error of a gradient near 0. On a CPU 1e-7 to 7e-6 is seen and 1e-5 asked for; on a GPU nothing has been seen yet. There
# PyTorch is asked for the algorithms that --device cuda has. Should it take Winograd's all the same, whose results are 1e-6 away,
# losses differ by 1.2e-4, as noise of that size in PyTorch shows; TF32 instead of fp32 makes 2.8e-3 of it.
BOUND = 1e-3
LIKE_OURS = {"TORCH_CUDNN_V8_API_DISABLED": "1"}  # cuDNN's numbered algorithms, of which basic_net.py takes those that repeat
# Half precision rounds a sum that was added up in another order to the neighbour here and there, 2^-11 away. On a CPU up to 1.6e-3
# is seen; cuDNN's result is rounded before and after its bias is added, too, so much more is allowed.
FP16_BOUND = 16 * 2 ** -11
# Numbers of as many digits; but tensor cores may cut the others off, 2^-10 and always towards 0, where a library's kernel does not
# round before, and only PyTorch's first convolution is in TF32. Played in PyTorch on a CPU, both ways of rounding on both sides, 2e-3 to
# 7.6e-3 is seen where both do it alike, and 2.4e-2 where one cuts off; sums over 100 steps differ by up to 1e-2.
TF32_BOUND = 64 * 2 ** -11
# torch.autocast rounds what a layer gives to bfloat16, 2^-8 away, and multiplies it in convolutions, too; --bf16 rounds what cuBLAS
# multiplies, and cuDNN's convolutions are of TF32. On the emulated device 8.7e-3 (mlp) and 2.4e-2 (basicnet) is seen.
BF16_BOUND = 16 * 2 ** -8
# What a run is: its flags, --cuda_graph's values, the bound of a step's difference and that of all steps' sums.
PRECISIONS = {"fp32": ([], ("false", "true"), BOUND, 0.01), "tf32": (["--tf32"], ("false", "true"), TF32_BOUND, 0.03),
              "bf16": (["--bf16"], ("false", "true"), BF16_BOUND, 0.03), "fp16": (["--fp16"], ("false",), FP16_BOUND, 0.01)}
REFUSED = "every step is started by the host"  # what llmlaunch-train says when a device refuses the graph


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def run(argv, **environment):
    ended = subprocess.run([str(word) for word in argv], env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(str(word) for word in argv)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    if REFUSED in ended.stdout:
        sys.exit(f"{' '.join(str(word) for word in argv)} had no graph:\n{ended.stdout}{ended.stderr}")


def curve(file):
    return [json.loads(line)["loss"] for line in file.read_text().splitlines()]


def usable_python(named, device):
    """One whose PyTorch can compute on the device."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    test = "import sys, torch; sys.exit(not torch.cuda.is_available())" if device == "cuda" else "import torch"
    for python in [named] if named else ["python3", cache / "llmlaunch-tests/python/bin/python"]:
        try:
            if subprocess.run([python, "-c", test], capture_output=True, check=False).returncode == 0:
                return python
        except OSError:
            pass
    return None


def compare(name, ours, theirs, steps, bound, sum_bound):
    """Whether the curves are equal at first, lie on one another as a whole, and go down."""
    errors = [abs(a - b) / b for a, b in zip(ours, theirs)]
    print(f"{name}: largest relative difference: {max(errors[:FIRST]):.1e} in {FIRST} steps, {max(errors):.1e} in {steps}")
    if (len(ours) == len(theirs) == steps and max(errors[:FIRST]) <= bound and abs(sum(ours) - sum(theirs)) <= sum_bound * sum(theirs)
            and min(ours) < 0.6 * ours[0]):
        return True
    print(f"FAILED: ours {ours}\ntheirs {theirs}")
    return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("--python")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", choices=("cuda", "cpu", "emulated"), default="cuda")
    parser.add_argument("--models", nargs="+", default=["basicnet", "mlp"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS)
    options = parser.parse_args()
    emulated = options.device == "emulated"
    torch_device = "cpu" if emulated else options.device
    train = [options.bin / ("llmlaunch-train-emulated" if emulated else "llmlaunch-train"), "--device",
             "cuda" if emulated else options.device]
    alone = {"RANK": "", "WORLD_SIZE": "", "LLMLAUNCH_RENDEZVOUS": ""}
    tried = subprocess.run([*train, "--train_samples", "8", "--eval_samples", "8"], env={**os.environ, **alone}, capture_output=True,
                           text=True, check=False)
    if tried.returncode == 69:
        skip(tried.stderr.strip().splitlines()[0])
    if tried.returncode != 0:
        sys.exit(f"llmlaunch-train ended with {tried.returncode}:\n{tried.stderr}")
    python = usable_python(options.python, torch_device)
    if python is None:
        skip(f"no Python whose PyTorch has {torch_device}; --python names one")
    # A CPU has no TF32, and the emulated device is dear: what differs by precision is looked at elsewhere there.
    precisions = options.precisions or (list(PRECISIONS) if options.device == "cuda" else ["fp32", "fp16"])
    good = True
    with tempfile.TemporaryDirectory(prefix="llmlaunch-curves-") as name:
        folder = pathlib.Path(name)
        run([train[0], "--export_dataset", folder / "digits", "--train_samples", IMAGES, "--eval_samples", 20])
        for model in options.models:
            for precision in precisions:
                flags, graphs, *bounds = PRECISIONS[precision]
                run([python, SCRIPT, "--data", folder / "digits", "--batch", 16, "--steps", options.steps, "--model", model, "--device",
                     torch_device, *flags, "--losses", folder / "theirs"], RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1",
                    MASTER_PORT="0", **LIKE_OURS)
                theirs = curve(folder / "theirs")
                for graph in graphs:
                    run([*train, "--data_dir", folder / "digits", "--per_device_train_batch_size", 16, "--max_steps", options.steps,
                         "--dropout", "off", "--model", model, *flags, "--cuda_graph", graph, "--loss_file", folder / "ours"], **alone)
                    name = f"{model}, {precision}, CUDA graph {graph}"
                    good = compare(name, curve(folder / "ours"), theirs, options.steps, *bounds) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
