"""llmlaunch-train's loss curves beside those of real PyTorch: the same weights, the same images in the same order, the same
steps. Both are started by llmlaunch on the same hosts, without dropout, whose masks PyTorch draws by its own means."""
import json
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
    subprocess.run([BIN / "llmlaunch-train", "--export_dataset", folder, "--train_samples", str(IMAGES), "--eval_samples", "10"],
                   check=True, capture_output=True)
    return folder


def curve(file, steps):
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    return [row["loss"] for row in rows]


@pytest.mark.parametrize("ranks, steps, bound, ours, theirs", [
    (1, 100, 1e-5, [], []),
    (2, 100, 1e-5, [], []),
    (4, 100, 1e-5, [], []),
    # A third of a gradient is rounded, and AdamW makes a whole step of the rounding error of one that is nearly 0.
    (2, 40, 1e-4, ["--gradient_accumulation_steps", "3", "--max_grad_norm", "0.7", "--dataloader_drop_last"],
     ["--accumulate", "3", "--clip", "0.7", "--drop_last"]),
    (1, 40, 1e-5, ["--lr_scheduler_type", "linear", "--warmup_steps", "10", "--seed", "5"], ["--warmup", "10", "--seed", "5"]),
], ids=["1 rank", "2 ranks", "4 ranks", "accumulation and clipping", "schedule and seed"])
def test_losses_are_those_of_pytorch(hosts, python, images, ranks, steps, bound, ours, theirs):  # noqa: F811
    where = config(hosts, slots=(ranks + 1) // 2, only=["test01"] if ranks == 1 else None)
    curves = {}
    for name, program, words in (
            ("ours", ["train", "--use_cpu", "--data_dir", str(images), "--per_device_train_batch_size", "16", "--max_steps",
                      str(steps), "--dropout", "off", "--loss_file"], ours),
            ("theirs", [python, str(SCRIPTS / "basic_net.py"), "--data", str(images), "--batch", "16", "--steps", str(steps),
                        "--losses"], theirs)):
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
