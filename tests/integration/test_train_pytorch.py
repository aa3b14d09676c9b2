"""llmlaunch-train's loss curves beside those of real PyTorch: the same weights, the same images in the same order, the same
steps. Both are started by llmlaunch on the same hosts, without dropout, whose masks PyTorch draws by its own means."""
import json
import re
import subprocess

import pytest

from conftest import BIN
from test_pytorch_store import SCRIPTS, config, python  # noqa: F401, the fixture

HOSTS = 2
FIRST = 20  # steps in which rounding has not grown yet
IMAGES = 1003  # neither ranks nor batches divide it


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "drawn"
    subprocess.run([BIN / "llmlaunch-train", "--export_dataset", folder, "--train_samples", str(IMAGES), "--eval_samples", "200"],
                   check=True, capture_output=True)
    return folder


def curve(file, steps):
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    return [row["loss"] for row in rows]


@pytest.mark.parametrize("ranks, batch, steps, bound, ours, theirs", [
    (1, 8, 100, 1e-5, [], []),
    (2, 8, 100, 1e-5, [], []),
    (4, 16, 100, 1e-5, [], []),
    (1, 16, 100, 1e-5, ["--model", "mlp"], ["--model", "mlp"]),
    (2, 16, 100, 1e-5, ["--model", "mlp"], ["--model", "mlp"]),
    # A third of a gradient is rounded, and AdamW makes a whole step of the rounding error of one that is nearly 0.
    (2, 16, 40, 1e-4, ["--gradient_accumulation_steps", "3", "--max_grad_norm", "0.7", "--dataloader_drop_last"],
     ["--accumulate", "3", "--clip", "0.7", "--drop_last"]),
    # Of an epoch's 32 batches two are left for its last step, the second of them with 6 images.
    (2, 16, 40, 1e-5, ["--gradient_accumulation_steps", "3"], ["--accumulate", "3"]),
    (1, 16, 40, 1e-5, ["--lr_scheduler_type", "linear", "--warmup_steps", "10", "--seed", "5"], ["--warmup", "10", "--seed", "5"]),
], ids=["1 rank", "2 ranks", "4 ranks", "mlp, 1 rank", "mlp, 2 ranks", "accumulation and clipping", "accumulation of what is left", "schedule and seed"])
def test_losses_are_those_of_pytorch(hosts, python, images, ranks, batch, steps, bound, ours, theirs):  # noqa: F811
    where = config(hosts, slots=(ranks + 1) // 2, only=["test01"] if ranks == 1 else None)
    curves = {}
    for name, program, words in (
            ("ours", ["train", "--use_cpu", "--data_dir", str(images), "--per_device_train_batch_size", str(batch),
                      "--max_steps", str(steps), "--dropout", "off", "--loss_file"], ours),
            ("theirs", [python, str(SCRIPTS / "basic_net.py"), "--data", str(images), "--batch", str(batch), "--steps",
                        str(steps), "--losses"], theirs)):
        file = hosts.head / f"losses-{name}"
        run = hosts.run(*program, str(file), *words, config=where, timeout=300)
        assert run.status == 0, str(run)
        curves[name] = curve(file, steps)
        hosts.nothing_left(run)
    errors = [abs(a - b) / b for a, b in zip(curves["ours"], curves["theirs"])]
    print(f"largest relative difference: {max(errors[:FIRST]):.1e} in {FIRST} steps, {max(errors):.1e} in {steps}")
    assert max(errors[:FIRST]) <= bound, errors
    # Rounding grows from step to step, most where a loss is nearly 0; as a whole the curves still lie on one another.
    assert sum(curves["ours"]) == pytest.approx(sum(curves["theirs"]), rel=0.01), curves
    assert min(curves["ours"]) < 0.6 * curves["ours"][0], "nothing was learned, so that equal says nothing"


@pytest.mark.parametrize("model, ranks", [("basicnet", 1), ("mlp", 2)])
def test_bfloat16_is_as_near_to_autocast_as_autocast_is_to_float32(hosts, python, images, model, ranks):  # noqa: F811
    """With 8 binary digits no two programs give the same numbers: each rounds otherwise, and steps carry it on. The measure is
    what bfloat16 itself changes, PyTorch's autocast against its float32. A trainer as far from float32 as that and to the other
    side would be twice as far from autocast; three times leaves room for chance. Seen: 1.6 and 2.1 times."""
    where = config(hosts, slots=1, only=["test01"] if ranks == 1 else None)
    script = [python, str(SCRIPTS / "basic_net.py"), "--data", str(images), "--batch", "16", "--steps", "40", "--model", model,
              "--losses"]
    curves = {}
    for name, program, words in (
            ("ours", ["train", "--use_cpu", "--data_dir", str(images), "--per_device_train_batch_size", "16", "--max_steps", "40",
                      "--dropout", "off", "--model", model, "--loss_file"], ["--bf16"]),
            ("autocast", script, ["--bf16"]), ("float32", script, [])):
        file = hosts.head / f"losses-{model}-{name}"
        run = hosts.run(*program, str(file), *words, config=where, timeout=300)
        assert run.status == 0, str(run)
        curves[name] = curve(file, 40)
        hosts.nothing_left(run)

    def distance(one, other):
        return max(abs(a - b) / b for a, b in zip(curves[one][:FIRST], curves[other][:FIRST]))
    print(f"{model}: ours from autocast {distance('ours', 'autocast'):.1e}, ours from float32 {distance('ours', 'float32'):.1e}, "
          f"autocast from float32 {distance('autocast', 'float32'):.1e}")
    # The same weights and images: a loss is a mean of 16 or 32, each off by some 2^-9 of logits around 0.1.
    assert curves["ours"][0] == pytest.approx(curves["autocast"][0], rel=2e-4), curves
    assert distance("ours", "autocast") <= 3 * distance("autocast", "float32"), curves
    assert distance("ours", "float32") > 1e-4, "nothing was rounded"
    assert sum(curves["ours"]) == pytest.approx(sum(curves["autocast"]), rel=0.03), curves


@pytest.mark.parametrize("model, ranks, batch, ours, theirs", [
    ("basicnet", 1, 16, [], []),
    # Gradients of one image are large: the scale is halved, and neither AdamW nor the schedule counts the step.
    ("mlp", 2, 1, ["--max_grad_norm", "0.7", "--lr_scheduler_type", "linear", "--warmup_steps", "4"], ["--clip", "0.7", "--warmup", "4"]),
], ids=["basicnet", "mlp, clipped and scheduled"])
def test_half_precision_is_autocast_with_gradscaler(hosts, python, images, model, ranks, batch, ours, theirs):  # noqa: F811
    """Both round the same operands and results, so that what differs is the order of additions, and then, here and there, the half
    that a sum is rounded to: 2^-11 of it. A loss is a mean over many of these, so 10 steps stay below two (seen: a half); each step
    of AdamW carries it on, and 30 stay below 32 (seen: 8). The steps that are left out are the same ones."""
    where = config(hosts, slots=1, only=["test01"] if ranks == 1 else None)
    curves, skipped = {}, {}
    for name, program in (
            ("ours", ["train", "--use_cpu", "--data_dir", str(images), "--per_device_train_batch_size", str(batch), "--max_steps", "30",
                      "--dropout", "off", "--model", model, *ours, "--fp16", "--loss_file"]),
            ("theirs", [python, str(SCRIPTS / "basic_net.py"), "--data", str(images), "--batch", str(batch), "--steps", "30", "--model",
                        model, *theirs, "--fp16", "--losses"])):
        file = hosts.head / f"losses-{model}-{name}"
        run = hosts.run(*program, str(file), config=where, timeout=300)
        assert run.status == 0, str(run)
        curves[name] = curve(file, 30)
        skipped[name] = [int(step) for step in re.findall(r"step (\d+): the gradient overflowed", run.out)]
        if name == "theirs":
            skipped[name] = json.loads(re.search(r"skipped steps: (\[.*\])", run.out).group(1))
        hosts.nothing_left(run)
    errors = [abs(a - b) / b for a, b in zip(curves["ours"], curves["theirs"])]
    print(f"{model}: largest relative difference: {max(errors[:10]):.1e} in 10 steps, {max(errors):.1e} in 30, skipped {skipped}")
    assert skipped["ours"] == skipped["theirs"]
    assert skipped["ours"], "nothing overflowed, so that equal says nothing"
    assert max(errors[:10]) <= 2 * 2 ** -11, curves
    assert max(errors) <= 32 * 2 ** -11, curves
    assert sum(curves["ours"]) == pytest.approx(sum(curves["theirs"]), rel=0.01), curves


@pytest.mark.parametrize("model", ["basicnet", "mlp"])
def test_pytorch_reads_a_checkpoint_and_says_what_the_trainer_said(hosts, python, images, model):  # noqa: F811
    output, predictions = hosts.head / f"run-{model}", hosts.head / f"{model}.safetensors"
    # Two ranks: the test images are dealt, and 199 of them not evenly.
    run = hosts.run("train", "--use_cpu", "--data_dir", str(images), "--eval_samples", "199", "--per_device_eval_batch_size", "32",
                    "--model", model, "--max_steps", "20", "--output_dir", str(output), "--save_strategy", "epoch", "--predict",
                    str(predictions), config=config(hosts, slots=1), timeout=300)
    assert run.status == 0, str(run)
    right, count, loss = re.search(r"test accuracy .* \((\d+)/(\d+)\), loss ([0-9.]+)", run.out).groups()
    assert f"logits of 199 test images are in {predictions}" in run.out, str(run)
    read = subprocess.run([python, SCRIPTS / "load_checkpoint.py", output / "checkpoint-20", images, predictions],
                          capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    theirs = json.loads(read.stdout)
    print(f"largest difference of a logit: {theirs['error']:.1e} of the largest")
    assert theirs["error"] <= 1e-5, theirs
    assert (theirs["right"], int(count)) == (int(right), 199), str(run)
    assert int(right) > 40, f"nothing was learned, so that equal says nothing\n{run}"
    assert theirs["loss"] == pytest.approx(float(loss), abs=6e-5), str(run)  # four digits are printed
    assert (theirs["state"]["global_step"], theirs["state"]["train_samples"]) == (20, IMAGES)
    hosts.nothing_left(run)


def test_a_stopped_job_saves_and_the_same_command_goes_on(hosts, tmp_path):
    """What a preempted job meets: SIGTERM to the head, and the same line again."""
    output = tmp_path / "run"
    words = ["train", "--use_cpu", "--train_samples", "512", "--eval_samples", "50", "--num_train_epochs", "40", "--logging_steps",
             "1", "--per_device_train_batch_size", "8", "--output_dir", str(output), "--save_strategy", "epoch",
             "--resume_from_checkpoint", "true"]
    where = config(hosts, slots=1)
    run = hosts.start(*words, config=where)
    run.said("step 3/", timeout=120)
    run.process.send_signal(15)
    done = run.finish(60)
    assert done.status == 143, str(done)
    # By themselves, and not by the SIGKILL after the grace.
    record = json.loads((hosts.run_directory(done) / "job.json").read_text())
    assert [(rank["status"], rank["signal"]) for rank in record["ranks"]] == [(143, None)] * 2, record
    saved = [path.name for path in output.glob("[!.]*")]
    assert len(saved) == 1 and (step := re.fullmatch(r"checkpoint-(\d+)", saved[0])), f"{saved}\n{done}"
    hosts.nothing_left(done)
    run = hosts.start(*words, config=where)
    run.said(f"goes on after step {step.group(1)} from {output / saved[0]}", timeout=120)
    run.said(f"step {int(step.group(1)) + 1}/", timeout=120)
    # Ctrl-C is the launcher's, which stops the ranks in its own way: they save, too.
    run.process.send_signal(2)
    done = run.finish(60)
    assert done.status == 130, str(done)
    record = json.loads((hosts.run_directory(done) / "job.json").read_text())
    assert [(rank["status"], rank["signal"]) for rank in record["ranks"]] == [(143, None)] * 2, record
    assert "stopped by SIGTERM after step" in done.out, str(done)
    hosts.nothing_left(done)
