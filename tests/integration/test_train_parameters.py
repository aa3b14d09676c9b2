"""The trainer's parameters against the programs whose names they bear: AdamW's numbers, the order of the images and the caps of
the gradient buckets against PyTorch's DDP; lines, checkpoints and what a resumed job keeps against Hugging Face's Trainer.
And that one seed is one course, to the last bit, whatever comes in between."""
import json
import os
import pathlib
import signal
import subprocess

import pytest

from conftest import MARK, processes_with, wait_until
from test_pytorch_store import SCRIPTS, config, python  # noqa: F401, the fixture
from test_train_pytorch import curve, images  # noqa: F401, the fixture
from test_train_reports import alone, metrics
from test_train_reports import python as readers  # noqa: F401

HOSTS = 2


def on(hosts, ranks):
    return config(hosts, slots=1, only=["test01"] if ranks == 1 else None)


def losses_of(hosts, ranks, name, steps, *words):
    """Of a program on so many ranks; the file of its losses comes last."""
    file = hosts.head / f"losses-{name}"
    run = hosts.run(*map(str, words), str(file), config=on(hosts, ranks), timeout=300)
    assert run.status == 0, str(run)
    hosts.nothing_left(run)
    return curve(file, steps)


def ours(images, steps, *words, model="mlp"):  # noqa: F811
    return ["train", "--use_cpu", "--data_dir", images, "--per_device_train_batch_size", "16", "--max_steps", steps, "--dropout", "off",
            "--model", model, *words, "--loss_file"]


def theirs(python, images, steps, *words, model="mlp"):  # noqa: F811
    return [python, SCRIPTS / "basic_net.py", "--data", images, "--batch", "16", "--steps", steps, "--model", model, *words, "--losses"]


def largest_error(one, other):
    return max(abs(a - b) / b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("model, ranks", [("mlp", 2), ("basicnet", 1)])
def test_adamw_s_numbers_are_those_of_pytorch(hosts, python, images, model, ranks):  # noqa: F811
    """Each of them moves the curve by far more than the bound, so that one that is not heard is found."""
    steps, bound = 30, 1e-5
    numbers = {"beta1": "0.6", "beta2": "0.9", "epsilon": "0.01", "weight_decay": "3"}
    flags = {name: name if name == "weight_decay" else f"adam_{name}" for name in numbers}

    def our_curve(*left_out):
        words = [word for name, value in numbers.items() if name not in left_out for word in (f"--{flags[name]}", value)]
        return losses_of(hosts, ranks, "-".join(["ours", *left_out]), steps,
                         *ours(images, steps, "--learning_rate", "0.002", *words, model=model))

    reference = losses_of(hosts, ranks, "theirs", steps, *theirs(python, images, steps, "--lr", "0.002", *[
        word for name, value in numbers.items() for word in (f"--{name}", value)], model=model))
    error = largest_error(our_curve(), reference)
    print(f"{model}: {error:.1e}")
    assert error <= bound
    for left_out in numbers:
        assert largest_error(our_curve(left_out), reference) > 100 * bound, left_out


IMAGE_LOSSES = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
import torch
import torch.nn.functional as F
from torch.utils.data import DistributedSampler
from basic_net import MODELS, idx
folder, seed, data_seed, ranks, epochs = pathlib.Path(sys.argv[2]), *map(int, sys.argv[3:])
pictures = idx(folder / "train-images-idx3-ubyte", 16).view(-1, 1, 28, 28).to(torch.float32).div(255).sub_(0.1307).div_(0.3081)
labels = idx(folder / "train-labels-idx1-ubyte", 8).to(torch.int64)
torch.manual_seed(seed)
with torch.no_grad():
    losses = F.cross_entropy(MODELS["mlp"]().logits(pictures), labels, reduction="none").tolist()
orders = []
for rank in range(ranks):
    sampler = DistributedSampler(labels, ranks, rank, seed=data_seed)
    orders.append([])
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        orders[-1] += list(sampler)
print(json.dumps([losses, orders]))
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_data_seed_alone_decides_which_images_each_step_takes(hosts, python, tmp_path, ranks):  # noqa: F811
    """With a learning rate of 0 and batches of one, a step's loss tells its image: no two of them have the same."""
    folder, count, epochs = tmp_path / "images", 60, 2
    alone("--export_dataset", folder, "--train_samples", count, "--eval_samples", "10")
    done = subprocess.run([python, "-c", IMAGE_LOSSES, SCRIPTS, folder, "5", "9", str(ranks), str(epochs)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses, orders = json.loads(done.stdout)
    in_order = sorted(losses)
    assert min(b - a for a, b in zip(in_order, in_order[1:])) > 4e-6, "two images could not be told apart"
    steps = count * epochs // ranks
    taken = losses_of(hosts, ranks, f"data-seed-{ranks}", steps, "train", "--use_cpu", "--data_dir", folder, "--dropout", "off", "--model",
                      "mlp", "--per_device_train_batch_size", "1", "--num_train_epochs", epochs, "--learning_rate", "0", "--seed", "5",
                      "--data_seed", "9", "--loss_file")
    if ranks == 1:
        found = [min(range(count), key=lambda image: abs(losses[image] - loss)) for loss in taken]
        assert found == orders[0]
    expected = [sum(losses[order[step]] for order in orders) / ranks for step in range(steps)]
    assert taken == pytest.approx(expected, abs=1e-6)


def test_caps_of_gradient_buckets_change_no_number_and_pytorch_s_are_the_same(hosts, python, images):  # noqa: F811
    """From one bucket for each parameter to one for all; the layouts themselves are in unit_trainer_distributed."""
    steps, caps = 12, ("0.00001", "0.01", "1", "5", None)
    curves = {}
    for cap in caps:
        words = ("--ddp_bucket_cap_mb", cap) if cap else ()
        curves[cap] = losses_of(hosts, 2, f"ours-{cap}", steps, *ours(images, steps, *words, model="basicnet"))
    for cap in ("0.01", "5"):
        reference = losses_of(hosts, 2, f"theirs-{cap}", steps,
                              *theirs(python, images, steps, "--bucket_cap", cap, model="basicnet"))
        assert largest_error(curves[cap], reference) <= 1e-5
    # The mean of two ranks has no order of additions.
    assert all(curves[cap] == curves[None] for cap in caps), curves


@pytest.mark.parametrize("model, steps", [("mlp", 600), ("basicnet", 60)])
def test_runs_of_two_ranks_from_one_seed_are_equal_bit_by_bit_also_when_killed_and_resumed(hosts, tmp_path, model, steps):
    """Of so many steps that after the first checkpoint there is time to look and to send a signal."""
    every = steps // 10
    words = ["train", "--use_cpu", "--model", model, "--train_samples", "400", "--eval_samples", "20", "--per_device_train_batch_size", "8",
             "--max_steps", str(steps), "--seed", "3", "--logging_steps", "1", "--save_steps", str(every), "--lr_scheduler_type", "cosine"]

    def files(name):
        folder = tmp_path / name / f"checkpoint-{steps}"
        return {file: (folder / file).read_bytes() for file in ("model.safetensors", "optimizer.safetensors")}

    for name in ("one", "two"):
        run = hosts.run(*words, "--output_dir", str(tmp_path / name), config=on(hosts, 2), timeout=300)
        assert run.status == 0, str(run)
        hosts.nothing_left(run)
    assert files("one") == files("two")
    killed = [*words, "--output_dir", str(tmp_path / "killed"), "--resume_from_checkpoint", "true"]
    run = hosts.start(*killed, config=on(hosts, 2))
    run.said("step 1/", timeout=120)
    victim = next(pid for pid, line in processes_with("RANK=1").items()
                  if pid in processes_with(f"{MARK}={run.mark}") and line.split()[0].endswith("/llmlaunch-train"))
    wait_until(lambda: (tmp_path / "killed" / f"checkpoint-{every}").exists(), "the first checkpoint")
    os.kill(victim, signal.SIGKILL)
    done = run.finish(60)
    assert done.status == 128 + signal.SIGKILL, str(done)
    hosts.nothing_left(done)
    saved = [int(path.name.split("-")[1]) for path in (tmp_path / "killed").glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    assert saved and max(saved) < steps, f"it was done before it was killed\n{done}"
    run = hosts.run(*killed, config=on(hosts, 2), timeout=300)
    assert run.status == 0 and "goes on after step" in run.out, str(run)
    hosts.nothing_left(run)
    assert files("killed") == files("one")


# What Hugging Face's Trainer and ours are told, each by a file that both read.
COMMON = {"per_device_train_batch_size": 16, "per_device_eval_batch_size": 100, "seed": 5, "data_seed": 9, "max_grad_norm": 1.0,
          "learning_rate": 0.001, "weight_decay": 0.01, "lr_scheduler_type": "linear"}
LINES = {"max_steps": 30, "logging_first_step": True, "logging_steps": 6, "eval_strategy": "steps", "eval_steps": 10,
         "save_strategy": "no", "learning_rate": 0.002, "lr_scheduler_type": "cosine", "warmup_steps": 7, "adam_beta1": 0.8,
         "adam_beta2": 0.95, "adam_epsilon": 1e-4, "weight_decay": 0.5}
WARMED = {"max_steps": 9, "logging_steps": 1, "save_strategy": "no", "warmup_steps": 4}
WHOLE = {"max_steps": 30, "logging_steps": 1, "save_strategy": "steps", "save_steps": 10, "learning_rate": 0.002, "adam_beta1": 0.8,
         "adam_beta2": 0.95, "adam_epsilon": 1e-3, "weight_decay": 0.5}
CHANGED = {**WHOLE, "learning_rate": 0.01, "adam_beta1": 0.5, "adam_beta2": 0.7, "adam_epsilon": 0.1, "weight_decay": 5}
# At this rate the loss of a test goes up now and then, by far more than two programs differ.
BEST = {"max_steps": 36, "logging_steps": 5, "eval_strategy": "steps", "eval_steps": 4, "save_strategy": "best", "learning_rate": 0.005,
        "lr_scheduler_type": "constant", "metric_for_best_model": "loss"}
LOADED = {"load_best_model_at_end": True}
SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine")
BESTS = {"all stay": BEST, "one stays": {**BEST, "save_total_limit": 1}, "two stay, one is loaded": {**BEST, **LOADED, "save_total_limit": 2},
         "by accuracy": {**BEST, **LOADED, "save_total_limit": 1, "metric_for_best_model": "accuracy", "max_steps": 28},
         "the greatest loss": {**BEST, **LOADED, "greater_is_better": True},
         "by epochs": {**BEST, "eval_strategy": "epoch", "max_steps": 150, "learning_rate": 0.001, "greater_is_better": True}}
CASES = {"lines": LINES, "no first line": {**LINES, "logging_first_step": False},
         # Of an epoch's 63 batches three are left for its 16th step.
         "accumulated": {**LINES, "gradient_accumulation_steps": 4},
         "state": {**LINES, "save_strategy": "steps", "save_steps": 0.4, "gradient_accumulation_steps": 4, "max_steps": 18},
         "state without tests": {**WARMED, "save_strategy": "steps", "save_steps": 4, "logging_steps": 0.3},
         **{schedule: {**WARMED, "lr_scheduler_type": schedule} for schedule in SCHEDULES},
         "whole": WHOLE, "resumed": {**CHANGED, "resume_from_checkpoint": "whole/checkpoint-10"}, "changed": CHANGED,
         **BESTS, "best of nothing": {key: value for key, value in BEST.items() if key != "metric_for_best_model"}}


class Pair:
    """A folder for either program, in which all cases run; Hugging Face's once for all, for it takes long to begin."""

    def __init__(self, data, folder):
        self.data, self.folder = data, folder
        for name in ("theirs", "ours"):
            (folder / name).mkdir()

    def arguments(self, whose, case):
        folder = self.folder / whose
        given = {**COMMON, **CASES[case], "output_dir": str(folder / case)}
        if "resume_from_checkpoint" in given:
            given["resume_from_checkpoint"] = str(folder / given["resume_from_checkpoint"])
        file = folder / f"{case}.json"
        file.write_text(json.dumps(given))
        return file

    def train_theirs(self, reader, torch):
        packages = next((pathlib.Path(torch).parents[1] / "lib").glob("python3*")) / "site-packages"
        environment = {**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run([reader, SCRIPTS / "hf_trainer.py", self.data, *[self.arguments("theirs", case) for case in CASES]],
                              capture_output=True, text=True, env=environment, check=False, timeout=400)
        assert done.returncode == 0, done.stderr
        told = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("state: ")]
        self.theirs = dict(zip(CASES, told, strict=True))

    def ours(self, case, *words, status=0):
        return alone("--config", self.arguments("ours", case), "--model", "mlp", "--dropout", "off", "--data_dir", self.data, "--report_to", "json",
                     *words, status=status)

    def ours_told(self, case):
        return metrics(self.folder / "ours" / case)


@pytest.fixture(scope="module")
def pair(readers, python, images, tmp_path_factory):  # noqa: F811
    both = Pair(images, tmp_path_factory.mktemp("pair"))
    both.train_theirs(readers, python)
    return both


def lines_with(key, records):
    return {record["step"]: record for record in records if key in record}


def same_lines(mine, reference, key, also=()):
    """The same steps have the line, with the same values."""
    mine, reference = lines_with(key, mine), lines_with(key, reference)
    assert list(mine) == list(reference)
    for step, record in reference.items():
        for name in (key, *also):
            assert mine[step][name] == pytest.approx(record[name], rel=1e-4), f"{name} of step {step}"


@pytest.mark.parametrize("case", ["lines", "no first line", "accumulated"])
def test_lines_and_tests_are_those_of_hugging_face(pair, case):
    reference = pair.theirs[case]["log_history"]
    said = pair.ours(case).stdout
    same_lines(pair.ours_told(case), reference, "loss", ["learning_rate", "grad_norm", "epoch"])
    same_lines(pair.ours_told(case), reference, "eval_loss", ["eval_accuracy", "epoch"])
    first = CASES[case]["logging_first_step"]
    assert list(lines_with("loss", pair.ours_told(case))) == [*([1] if first else []), 6, 12, 18, 24, 30]
    assert ("step 1/30 loss" in said) == first, said


@pytest.mark.parametrize("case", ["state", "state without tests"])
def test_the_state_is_the_one_that_hugging_face_writes(pair, case):
    """By name and number, but for what only one of them knows: its flops, and how fast it was."""
    pair.ours(case)
    for folder in (pair.folder / "theirs" / case).glob("checkpoint-*"):
        mine, reference = (json.loads((pair.folder / whose / case / folder.name / "trainer_state.json").read_text())
                           for whose in ("ours", "theirs"))
        assert mine.keys() == reference.keys()
        told, expected = ([{key for key in record if key != "samples_per_second"} for record in state.pop("log_history")]
                          for state in (mine, reference))
        # Ours has a line and a test of the last step in any case.
        told = told[:len(expected)] if mine["global_step"] == mine["max_steps"] else told
        assert told == expected, folder
        for key in ("total_flos", "stateful_callbacks"):
            del mine[key], reference[key]
        assert mine == pytest.approx(reference), folder


@pytest.mark.parametrize("case", SCHEDULES)
def test_a_schedule_s_warm_up_is_hugging_face_s(pair, case):
    done = pair.ours(case)
    same_lines(pair.ours_told(case), pair.theirs[case]["log_history"], "loss", ["learning_rate"])
    warned = ("--warmup_steps 4: --lr_scheduler_type constant has no warm-up, as in Hugging Face's Trainer; constant_with_warmup has "
              "one\n")
    assert done.stderr == (f"llmlaunch-train: warning: {warned}" if case == "constant" else "")


def test_a_resumed_job_has_the_optimizer_s_numbers_of_its_checkpoint_as_hugging_face_s(pair):
    whole, resumed, changed = (pair.theirs[case]["log_history"] for case in ("whole", "resumed", "changed"))
    same_lines(resumed, whole, "loss", ["learning_rate"])  # none of the new numbers was heard
    # From the start they do make another curve.
    assert abs(lines_with("loss", changed)[30]["loss"] - lines_with("loss", whole)[30]["loss"]) > 0.01
    pair.ours("whole")
    done = pair.ours("resumed")
    same_lines(pair.ours_told("resumed"), [record for record in resumed if record["step"] > 10], "loss", ["learning_rate"])
    assert done.stderr.count("from the optimizer's state, as in Hugging Face's Trainer: --learning_rate 0.002 (and not 0.01), "
                             "--weight_decay 0.5 (and not 5), --adam_beta1 0.8 (and not 0.5), --adam_beta2 0.95 (and not 0.7), "
                             "--adam_epsilon 0.001 (and not 0.1)") == 1, done.stderr


@pytest.mark.parametrize("case", BESTS)
def test_what_save_strategy_best_saves_is_what_hugging_face_saves(pair, case):
    reference = pair.theirs[case]
    said = pair.ours(case).stdout
    left = sorted(path.name for path in (pair.folder / "ours" / case).glob("checkpoint-*"))
    tests = lines_with("eval_loss", reference["log_history"])
    best = reference["best_global_step"]
    print({step: (record["eval_loss"], record["eval_accuracy"]) for step, record in tests.items()}, reference["checkpoints"])
    assert list(lines_with("eval_loss", pair.ours_told(case))) == list(tests)
    assert left == reference["checkpoints"]
    assert best < max(tests), "the last one is the best, as without that strategy"
    folder = pair.folder / "ours" / case / f"checkpoint-{best}"
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["best_global_step"] == state["global_step"] == best
    assert state["best_model_checkpoint"] == str(folder)
    assert pathlib.Path(reference["best_model_checkpoint"]).name == folder.name
    assert state["best_metric"] == pytest.approx(reference["best_metric"], rel=0.05)
    loads = "load_best_model_at_end" in CASES[case]
    assert f"{'the best model is' if loads else 'saved is the best model,'} that of step {best}: {folder}\n" in said, said
    if loads:
        at_the_end = float(said.split("best model: test accuracy")[1].split("loss ")[1].split()[0])
        assert at_the_end == pytest.approx(reference["at_the_end"]["eval_loss"], rel=0.05)


def test_save_strategy_best_asks_for_what_it_needs(pair):
    """Of tests Hugging Face's says nothing, and then saves nothing."""
    case = "best of nothing"
    assert "must be provided when using 'best' save_strategy" in pair.theirs[case]["refused"]
    assert "save_strategy best needs metric_for_best_model" in pair.ours(case, status=78).stderr
    done = pair.ours(case, "--metric_for_best_model", "loss", "--eval_strategy", "no", status=78)
    assert "save_strategy best needs eval_strategy steps or epoch" in done.stderr, done.stderr
