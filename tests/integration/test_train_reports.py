"""What the trainer reads and writes for other programs, held to those programs: TrainingArguments and TrainerState of
transformers, TensorBoard's own reader, Matplotlib; and the best model, what a resumed run keeps, the line of progress."""
import fcntl
import json
import math
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import termios

import pytest

from conftest import BIN, ROOT
from test_accelerate_environment import VENV
from test_faults import headline

HOSTS = 2
READERS = pathlib.Path(f"{VENV}-readers")
TRAIN = [str(BIN / "llmlaunch-train"), "--use_cpu"]
# Four epochs of ten steps.
JOB = ["--train_samples", "160", "--eval_samples", "40", "--per_device_train_batch_size", "16", "--logging_steps", "2"]


@pytest.fixture(scope="module")
def python():
    there = subprocess.run([ROOT / "scripts" / "python_env.sh", "--check", "readers"], capture_output=True, text=True, check=False)
    if there.returncode != 0:
        if os.environ.get("LLMLAUNCH_PYTHON_REQUIRED"):
            pytest.fail(there.stderr.strip())
        pytest.skip(there.stderr.strip())
    return READERS / "bin" / "python"


def alone(*words, status=0, cwd=None, under=(), **more):
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LLMLAUNCH_RENDEZVOUS")}
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run([*under, *TRAIN, *map(str, words)], capture_output=True, text=True, env=environment, cwd=cwd, check=False,
                          timeout=300, **more)
    assert done.returncode == status, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


def asked(python, code, *arguments):
    """What a reader says, as JSON."""
    done = subprocess.run([python, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def told(records):
    """Records without what is another number in every run."""
    changing = {"time", "samples_per_second", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
    return [{key: value for key, value in record.items() if key not in changing} for record in records]


ARGUMENTS = """
import sys
from transformers import TrainingArguments
print(TrainingArguments(output_dir=sys.argv[1], learning_rate=0.01, num_train_epochs=2, per_device_train_batch_size=16,
      eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="accuracy", seed=7,
      logging_steps=2, lr_scheduler_type="cosine", warmup_steps=3, run_name="mine").to_json_string())
"""


def test_a_job_by_the_file_that_training_arguments_writes(hosts, python, tmp_path):
    file, output = tmp_path / "args.json", tmp_path / "run"
    file.write_text(subprocess.run([python, "-c", ARGUMENTS, output], capture_output=True, text=True, check=True).stdout)
    words = [str(file), "--train_samples", "160", "--eval_samples", "40", "--per_device_train_batch_size", "8", "--use_cpu"]
    run = hosts.run("train", *words, timeout=300)
    assert run.status == 0, str(run)
    # Two ranks: a flag wins over the file's 16.
    assert "20 steps of 2 x 8 images" in run.out, str(run)
    assert run.err.count("left out, for the trainer has no such thing: run_name") == 1, str(run)
    state = json.loads((output / "checkpoint-20" / "trainer_state.json").read_text())
    assert [row["step"] for row in state["log_history"] if "eval_accuracy" in row] == [10, 20]
    rates = {row["step"]: row["learning_rate"] for row in state["log_history"] if "learning_rate" in row}
    assert rates[2] == pytest.approx(0.01 / 3) and rates[4] == pytest.approx(0.01), rates
    assert rates[20] == pytest.approx(0.005 * (1 + math.cos(math.pi * 16 / 17))), rates
    hosts.nothing_left(run)


REPORTS = """
import json
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
print(json.dumps(sorted(INTEGRATION_TO_CALLBACK)))
"""


def test_every_report_of_hugging_face_s_is_known(python, tmp_path):
    """Those that are not the trainer's are left out, for a file may have them for other programs."""
    words = asked(python, REPORTS)
    file = tmp_path / "args.json"
    file.write_text(json.dumps({"report_to": words, "output_dir": str(tmp_path / "run"), "save_strategy": "no"}))
    done = alone("--config", file, "--train_samples", "20", "--eval_samples", "20", "--model", "mlp")
    others = ", ".join(f"report_to {word}" for word in words if word != "tensorboard")
    assert done.stderr == f"llmlaunch-train: warning: {file}: left out, for the trainer has no such thing: {others}\n"
    assert list((tmp_path / "run" / "runs").iterdir())


def test_ranks_whose_files_differ_are_not_of_one_job(hosts, tmp_path):
    def change(data):
        for host in data["llmlaunch"]["hosts"]:
            host["workdir"] = str(tmp_path / host["name"])

    for name, rate in zip(hosts.names, ("0.01", "0.02")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.yaml").write_text(f"train:\n  learning_rate: {rate}\n  use_cpu: true\n")
    run = hosts.run("train", "--config", "train.yaml", *JOB, config=hosts.config(change))
    assert run.status == 78, str(run)
    # Rank 0 alone speaks for all who found it, and is the one whom the first lines show, whoever could have ended first.
    differ = r"the ranks are not of one job: --learning_rate is 0.02 on rank 1 .* and 0.01 on rank 0"
    assert headline(run).startswith("llmlaunch: error: rank 0 "), str(run)
    first = run.err[run.err.index(headline(run)):]
    assert re.search(differ, first) and len(re.findall(differ, run.err)) == 2, str(run)  # rank 0's line, and the headline's
    hosts.nothing_left(run)
    (tmp_path / "test02" / "train.yaml").unlink()
    run = hosts.run("train", "train.yaml", *JOB, config=hosts.config(change))
    assert run.status == 78, str(run)
    assert re.search(r"rank 1 test02\] llmlaunch-train: error: train.yaml: --config: open: No such file or directory", run.err), str(run)
    hosts.nothing_left(run)


STATE = """
import dataclasses, json, sys
from transformers.trainer_callback import TrainerState
print(json.dumps(dataclasses.asdict(TrainerState.load_from_json(sys.argv[1]))))
"""


def test_transformers_reads_the_state_and_a_resumed_run_has_the_same_history(python, tmp_path):
    saving = [*JOB, "--save_strategy", "epoch", "--eval_strategy", "epoch", "--lr_scheduler_type", "linear", "--num_train_epochs", "4",
              "--metric_for_best_model", "eval_loss", "--report_to", "json"]
    undisturbed, broken = tmp_path / "undisturbed", tmp_path / "broken"
    alone(*saving, "--output_dir", undisturbed)
    alone(*saving, "--output_dir", broken)
    # As a run that ended in the middle of the third epoch, with more in its reports than in its checkpoint.
    for step in (30, 40):
        subprocess.run(["rm", "-r", broken / f"checkpoint-{step}"], check=True)
    lines = (broken / "metrics.jsonl").read_text().splitlines(keepends=True)
    (broken / "metrics.jsonl").write_text("".join(lines[:15]) + lines[15][:20])
    resumed = alone(*saving, "--output_dir", broken, "--resume_from_checkpoint", "true")
    assert "goes on after step 20" in resumed.stdout and resumed.stderr == "", resumed.stderr
    states = [asked(python, STATE, folder / "checkpoint-40" / "trainer_state.json") for folder in (undisturbed, broken)]
    assert told(states[0]["log_history"]) == told(states[1]["log_history"])
    steps = [row["step"] for row in states[1]["log_history"] if "loss" in row]
    assert steps == list(range(2, 41, 2)), steps
    assert told(metrics(undisturbed)) == told(metrics(broken)) == told(states[0]["log_history"])
    state = states[1]
    assert (state["global_step"], state["max_steps"], state["epoch"], state["num_train_epochs"]) == (40, 40, 4.0, 4)
    assert (state["train_batch_size"], state["logging_steps"], state["is_world_process_zero"]) == (16, 2, True)
    tests = {row["step"]: row["eval_loss"] for row in state["log_history"] if "eval_loss" in row}
    assert sorted(tests) == [10, 20, 30, 40]
    best = min(tests, key=tests.get)
    assert (state["best_global_step"], state["best_metric"]) == (best, tests[best])
    assert state["best_model_checkpoint"] == str(broken / f"checkpoint-{best}")
    first = next(row for row in state["log_history"] if "loss" in row)
    assert set(first) == {"epoch", "grad_norm", "learning_rate", "loss", "samples_per_second", "step"}
    assert first["grad_norm"] > 0 and first["epoch"] == 0.2


SHARES = {"num_train_epochs": 1.3, "logging_steps": 0.2, "eval_steps": 0.3, "save_steps": 0.5, "warmup_steps": 0.15}
COUNTED = """
import json, math, sys
from transformers import TrainingArguments
from transformers.trainer_callback import TrainerState
arguments = TrainingArguments(output_dir=sys.argv[1], eval_strategy="steps", **json.loads(sys.argv[2]))
state = TrainerState(max_steps=math.ceil(arguments.num_train_epochs * 10))
state.compute_steps(arguments, state.max_steps)
print(json.dumps([state.max_steps, state.logging_steps, state.eval_steps, state.save_steps, arguments.get_warmup_steps(state.max_steps)]))
"""


def test_part_of_an_epoch_and_shares_of_steps_are_counted_as_transformers_does(python, tmp_path):
    flags = [word for name, share in SHARES.items() for word in (f"--{name}", share)]
    alone(*JOB[:-2], "--model", "mlp", "--eval_strategy", "steps", "--output_dir", tmp_path, *flags)
    names = sorted((folder.name for folder in tmp_path.glob("checkpoint-*")), key=len)
    state = json.loads((tmp_path / names[-1] / "trainer_state.json").read_text())
    steps, logging, evaluating, saving, warming = asked(python, COUNTED, tmp_path / "x", json.dumps(SHARES))
    assert [state[key] for key in ("max_steps", "logging_steps", "eval_steps", "save_steps")] == [steps, logging, evaluating, saving]
    assert (state["global_step"], state["epoch"], state["num_train_epochs"]) == (steps, 1.3, 2)
    assert names == [f"checkpoint-{saving}", f"checkpoint-{steps}"]
    rates = {row["step"]: row["learning_rate"] for row in state["log_history"] if "loss" in row}
    assert sorted(rates) == sorted({*range(logging, steps, logging), steps})
    # The rate at which step k + 1 begins: the whole one as soon as the warm-up is over.
    assert [rate == 1e-3 for step, rate in sorted(rates.items())] == [step > warming for step in sorted(rates)]
    assert {row["step"] for row in state["log_history"] if "eval_loss" in row} == {*range(evaluating, steps, evaluating), steps}


def test_the_best_model_is_kept_through_a_resume_and_tested_at_the_end(hosts, tmp_path):
    """By the greatest loss, for that is the first epoch's, surely."""
    output = tmp_path / "run"
    saving = ["train", *TRAIN[1:], *JOB[:4], "--per_device_train_batch_size", "8", "--output_dir", str(output), "--save_strategy", "epoch",
              "--eval_strategy", "epoch", "--load_best_model_at_end", "--greater_is_better", "true", "--save_total_limit", "1",
              "--learning_rate", "0.003", "--resume_from_checkpoint", "true", "--num_train_epochs"]
    first = hosts.run(*saving, "2", timeout=300)
    assert first.status == 0, str(first)
    assert {path.name for path in output.glob("[!.]*")} == {"checkpoint-10", "checkpoint-20"}
    test = re.search(r"epoch 1/2: (test accuracy .*)", first.out)[1]
    assert f"the best model is that of step 10: {output}/checkpoint-10" in first.out, str(first)
    assert f"best model: {test}" in first.out, str(first)
    hosts.nothing_left(first)
    second = hosts.run(*saving, "4", "--predict", str(tmp_path / "said"), timeout=300)
    assert second.status == 0, str(second)
    assert "goes on after step 20" in second.out, str(second)
    written = (tmp_path / "said").read_bytes()
    assert json.loads(written[8:8 + int.from_bytes(written[:8], "little")])["__metadata__"]["step"] == "10"
    assert {path.name for path in output.glob("[!.]*")} == {"checkpoint-10", "checkpoint-40"}
    assert f"best model: {test}" in second.out, str(second)
    state = json.loads((output / "checkpoint-40" / "trainer_state.json").read_text())
    assert (state["best_global_step"], state["best_model_checkpoint"]) == (10, str(output / "checkpoint-10"))
    assert state["best_metric"] == max(row["eval_loss"] for row in state["log_history"] if "eval_loss" in row)
    hosts.nothing_left(second)
    # The best one is gone: said, and the status says so, too.
    subprocess.run(["rm", "-r", output / "checkpoint-10"], check=True)
    third = hosts.run(*saving, "4", timeout=300)
    assert third.status == 66, str(third)
    assert "warning: the best model, of step 10, cannot be read" in third.err, str(third)
    hosts.nothing_left(third)


def test_a_resumed_run_keeps_the_optimizer_s_numbers_and_takes_other_flags(tmp_path):
    output = tmp_path / "run"
    saving = [*JOB, "--save_strategy", "epoch", "--output_dir", output, "--lr_scheduler_type", "linear", "--report_to", "json"]
    alone(*saving, "--num_train_epochs", "2", "--learning_rate", "0.01")
    second = alone(*saving, "--num_train_epochs", "4", "--learning_rate", "0.5", "--warmup_steps", "2", "--weight_decay", "0.1",
                   "--resume_from_checkpoint", "true")
    assert second.stderr.splitlines() == [
        f"llmlaunch-train: warning: {output}/checkpoint-20: from the optimizer's state, as in Hugging Face's Trainer: --learning_rate "
        "0.01 (and not 0.5), --weight_decay 0.01 (and not 0.1); the number of steps is 40 and was 20, --warmup_steps is 2 and was 0"]
    rates = {row["step"]: row["learning_rate"] for row in metrics(output) if "learning_rate" in row}
    assert rates[20] == pytest.approx(0.01 * 1 / 20)
    assert rates[22] == pytest.approx(0.01 * (40 - 21) / 38)


EVENTS = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
read = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
read.Reload()
print(json.dumps({tag: [[e.step, e.value, e.wall_time] for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}))
"""


def test_tensorboard_reads_the_event_files_of_a_resumed_run(python, tmp_path):
    output = tmp_path / "run"
    saving = [*JOB, "--save_strategy", "epoch", "--eval_strategy", "epoch", "--output_dir", output, "--report_to", "json,tensorboard"]
    alone(*saving, "--num_train_epochs", "3")
    subprocess.run(["rm", "-r", output / "checkpoint-30"], check=True)
    alone(*saving, "--num_train_epochs", "3", "--resume_from_checkpoint", "true")
    assert len(list((output / "runs").iterdir())) == 2
    scalars = asked(python, EVENTS, output / "runs")
    expected = {}
    for record in metrics(output):
        for key, value in record.items():
            if key not in ("step", "time"):
                tag = f"eval/{key[5:]}" if key.startswith("eval_") else f"train/{key}"
                expected.setdefault(tag, []).append([record["step"], value, record["time"]])
    assert set(scalars) == set(expected) == {
        "train/epoch", "train/loss", "train/grad_norm", "train/learning_rate", "train/samples_per_second", "eval/loss",
        "eval/accuracy", "eval/runtime", "eval/samples_per_second", "eval/steps_per_second"}
    for tag, rows in expected.items():
        assert [row[0] for row in scalars[tag]] == [row[0] for row in rows], tag
        for mine, theirs in zip(rows, scalars[tag]):
            assert mine[1] == pytest.approx(theirs[1], rel=1e-6), tag
            assert mine[2] == pytest.approx(theirs[2], abs=0.1), tag
    assert [row[0] for row in scalars["train/loss"]] == list(range(2, 31, 2))


def test_a_folder_of_its_own_and_no_checkpoints(python, tmp_path):
    alone(*JOB, "--report_to", "all", "--logging_dir", tmp_path / "logs", cwd=tmp_path)
    assert sorted(path.name.split(".")[0] for path in (tmp_path / "logs").glob("[!.]*")) == ["events", "metrics"]
    assert [row["step"] for row in metrics(tmp_path / "logs") if "loss" in row] == [2, 4, 6, 8, 10]
    assert len(asked(python, EVENTS, tmp_path / "logs")["train/loss"]) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_a_full_disk_costs_reports_and_not_the_training(tmp_path):
    done = alone(*JOB, "--report_to", "json", "--logging_dir", tmp_path, status=74,
                 under=["/bin/sh", "-c", "ulimit -f 1; exec \"$@\"", "sh"])
    assert "epoch 1/1 done" in done.stdout and "test accuracy" in done.stdout, done.stdout
    warnings = [line for line in done.stderr.splitlines() if ": warning: " in line]
    assert warnings == [f"llmlaunch-train: warning: {tmp_path}/metrics.jsonl: write: File too large; training goes on"], done.stderr
    found = re.search(r"error: .*metrics.jsonl: (\d+) of 6 records of --report_to could not be written", done.stderr)
    rows = metrics(tmp_path)
    assert found and len(rows) == 6 - int(found[1]) > 0, f"{done.stderr}\n{rows}"


def test_foreign_lines_are_passed_over_and_overwritten_records_are_told_of(tmp_path):
    saving = [*JOB, "--save_strategy", "epoch", "--output_dir", tmp_path, "--report_to", "json", "--num_train_epochs"]
    first = alone(*saving, "1")
    assert "overwritten" not in first.stderr, first.stderr
    file = tmp_path / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + "somebody was here\n" + "".join(lines[1:]))
    resumed = alone(*saving, "2", "--resume_from_checkpoint", "true")
    assert "overwritten" not in resumed.stderr, resumed.stderr
    assert [row["step"] for row in metrics(tmp_path) if "loss" in row] == list(range(2, 21, 2))
    rows = len(metrics(tmp_path))
    again = alone(*JOB, "--save_strategy", "no", "--logging_dir", tmp_path, "--report_to", "json")
    assert again.stderr == (f"llmlaunch-train: warning: {file}: {rows} records of an earlier job are overwritten, for this one starts "
                            "anew; another --logging_dir keeps them\n"), again.stderr
    assert [row["step"] for row in metrics(tmp_path) if "loss" in row] == [2, 4, 6, 8, 10]


def test_a_checkpoint_that_was_not_written_is_not_the_best(tmp_path):
    """A model has 4.8 MB, and files end at 1 MB here."""
    done = alone(*JOB, "--num_train_epochs", "2", "--output_dir", tmp_path / "run", "--save_strategy", "epoch", "--eval_strategy", "epoch",
                 "--load_best_model_at_end", status=74, under=["/bin/bash", "-c", "ulimit -f 1000; exec \"$@\"", "bash"])
    assert done.stderr.count("write: File too large; training goes on") == 2, done.stderr
    assert "warning: --load_best_model_at_end: no checkpoint of a test that gave a number could be saved" in done.stderr, done.stderr
    assert "2 of 2 checkpoints could not be written" in done.stderr and "best model" not in done.stdout, done.stderr


def screen(text):
    """What a terminal shows of text with carriage returns; blanks cover."""
    lines, column = [""], 0
    for char in text:
        if char == "\n":
            lines.append("")
            column = 0
        elif char == "\r":
            column = 0
        else:
            lines[-1] = lines[-1][:column] + char + lines[-1][column + 1:]
            column += 1
    return [line.rstrip() for line in lines]


def on_terminal(*words):
    """Of the program alone on a terminal of 100 columns: its bytes."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen([*TRAIN, *words], stdout=theirs, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other side is closed
            piece = b""
        if not piece:
            break
        text += piece
    os.close(ours)
    assert process.wait(timeout=60) == 0, text
    return text.decode().replace("\r\n", "\n")


def test_the_answer_to_ctrl_c_has_a_line_of_its_own(tmp_path):
    ours, theirs = os.openpty()
    with subprocess.Popen([*TRAIN, *JOB, "--max_steps", "1000000", "--output_dir", tmp_path], stdout=theirs, stderr=theirs,
                          stdin=subprocess.DEVNULL) as process:
        os.close(theirs)
        text = b""
        while b"\rstep " not in text:
            text += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        while b"ends it at once" not in text:
            text += os.read(ours, 4096)
        process.kill()
    os.close(ours)
    assert "\nllmlaunch-train: Ctrl-C: the job is saved" in text.decode().replace("\r\n", "\n"), text


def test_progress_is_one_line_on_a_terminal_and_lines_elsewhere(tmp_path):
    text = on_terminal(*JOB)
    assert text.count("\rstep ") >= 5, text
    shown = screen(text)
    steps = [line for line in shown if line.startswith("step ")]
    assert len(steps) == 1 and re.fullmatch(r"step 10/10 loss \d\.\d{4} \(\d+ samples/s\)", steps[0]), shown
    assert [line for line in shown if line][-1].startswith("test accuracy "), shown
    for words in (["--disable_tqdm", "true"], ["--progress", "never"]):
        text = on_terminal(*JOB, *words)
        assert "\r" not in text and text.count("\nstep ") == 5, text
    done = alone(*JOB)
    assert "\r" not in done.stdout and done.stdout.count("\nstep ") == 5, done.stdout


def test_progress_through_llmlaunch_is_lines_unless_it_is_asked_for(hosts):
    words = ["train", "--use_cpu", *JOB[:4], "--per_device_train_batch_size", "8", "--logging_steps", "2"]
    run = hosts.run(*words, timeout=300)
    assert run.status == 0 and len(re.findall(r"^\[rank 0 test01\] step \d+/10 loss", run.out, re.M)) == 5, str(run)
    hosts.nothing_left(run)
    run = hosts.run(*words, "--progress", "always", timeout=300)
    assert run.status == 0 and "\r" not in run.out, str(run)
    lines = re.findall(r"^\[rank 0 test01\] step (\d+)/10 loss", run.out, re.M)
    assert lines and lines[-1] == "10", str(run)
    assert re.search(r"^\[rank 0 test01\] test accuracy", run.out, re.M), str(run)
    raw = next(hosts.run_directory(run).glob("**/rank-0*.out")).read_bytes()
    assert raw.count(b"\rstep ") >= 5, raw
    hosts.nothing_left(run)


def plotted(python, *words, status=0, env=None):
    done = subprocess.run([python, ROOT / "scripts" / "plot_metrics.py", *map(str, words)], capture_output=True, text=True,
                          check=False, env={**os.environ, **(env or {})})
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return done


def test_loss_and_throughput_are_drawn(python, tmp_path):
    for name, rate in (("slow", "0.0001"), ("fast", "0.01")):
        alone(*JOB, "--report_to", "json", "--output_dir", tmp_path / name, "--eval_strategy", "epoch", "--learning_rate", rate,
              "--save_strategy", "epoch")
    pictures = {}
    for name, runs in (("one", ["slow"]), ("other", ["fast"]), ("both", ["slow", "fast"]),
                       ("state", ["slow/checkpoint-10/trainer_state.json"])):
        file = tmp_path / f"{name}.png"
        plotted(python, *[tmp_path / run for run in runs], "-o", file)
        pictures[name] = file.read_bytes()
        assert pictures[name][:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", pictures[name][16:24]) == (800, 800)
        assert len(pictures[name]) > 10_000
    assert len(set(pictures.values())) == 3, "another curve is another picture"
    assert pictures["state"] == pictures["one"], "the same run is the same picture, whichever file tells of it"


def test_a_last_line_that_is_cut_off_is_left_out_aloud(python, tmp_path):
    alone(*JOB, "--report_to", "json", "--output_dir", tmp_path / "run", "--save_strategy", "no")
    whole = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "short.jsonl").write_text("".join(lines[:-1]))
    (tmp_path / "torn.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])
    for name in ("short", "torn"):
        done = plotted(python, tmp_path / f"{name}.jsonl", "-o", tmp_path / f"{name}.png")
        assert done.stderr == ("" if name == "short" else
                               f"plot_metrics: warning: {tmp_path}/torn.jsonl:{len(lines)}: the last line is cut off, and left out\n")
    # In the middle it is damage.
    (tmp_path / "torn.jsonl").write_text(lines[0][:20] + "\n" + "".join(lines[1:]))
    assert "torn.jsonl:1: " in plotted(python, tmp_path / "torn.jsonl", status=65).stderr


def test_what_cannot_be_drawn_is_one_message(python, tmp_path):
    alone(*JOB, "--report_to", "json", "--output_dir", tmp_path / "run", "--save_strategy", "no")
    (tmp_path / "matplotlib.py").write_text("raise ImportError('none here')\n")
    done = plotted(sys.executable, tmp_path / "run", status=69, env={"PYTHONPATH": str(tmp_path)})
    assert done.stderr.startswith("plot_metrics: error: Matplotlib is not installed for this Python\n   hint: "), done.stderr
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("[]")
    (tmp_path / "bad.jsonl").write_text("{\"step\": 1}\nx\n")
    (tmp_path / "torn.jsonl").write_text("{\"st")
    (tmp_path / "none.jsonl").write_text("{\"step\": 1}\n")
    (tmp_path / "diverged.jsonl").write_text("{\"step\": 1, \"loss\": null}\n")
    for run, status, words in (("absent", 66, "absent: No such file or directory"), ("bad.json", 65, "is no trainer_state.json"),
                               ("empty", 66, "empty: neither metrics.jsonl nor a checkpoint is in it"),
                               ("bad.jsonl", 65, "bad.jsonl:2: "), ("torn.jsonl", 65, "torn.jsonl:1: "), ("none.jsonl", 65, "none.jsonl: no loss is in it\n   hint: a run shorter"),
                               ("diverged.jsonl", 65, "diverged.jsonl: no loss is in it\n   hint: all that it has are no numbers")):
        done = plotted(python, tmp_path / run, status=status)
        assert words in done.stderr and "Traceback" not in done.stderr, done.stderr
    done = plotted(python, tmp_path / "run", "-o", tmp_path / "absent" / "x.png", status=74)
    assert "No such file or directory" in done.stderr, done.stderr


DEFAULTS = """
import dataclasses, enum, json
from transformers import TrainingArguments
values = {field.name: field.default for field in dataclasses.fields(TrainingArguments) if field.init}
values["output_dir"] = TrainingArguments().output_dir
print(json.dumps({name: value.value if isinstance(value, enum.Enum) else value for name, value in values.items()
                  if value is None or isinstance(value, (str, int, float, enum.Enum))}))
"""


def the_same(one, other):
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


def test_help_says_hugging_face_s_default_where_it_is_another_one(python):
    """As "(Hugging Face: 8)", and nowhere else."""
    theirs = {name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
              for name, value in asked(python, DEFAULTS).items()}
    compared = 0
    text = alone("--help").stdout
    for entry in re.split(r"\n  --", text[:text.index("\n\nHyphens")])[1:]:
        name, form = re.match(r"(\w+) +(\S+)", entry).groups()
        if name not in theirs:
            continue
        compared += 1
        said = re.search(r"Hugging Face: ([^)]*)\)", entry)
        ours = form.split("=")[1] if "=" in form else "false" if form == "[true|false]" else ""
        default = {"": "false"}.get(theirs[name], theirs[name]) if ours in ("true", "false") else theirs[name]
        if said:
            words = {"never by itself": "no"}.get(said[1], said[1])  # of the test after the last step
            assert the_same(words, default), entry
            assert not the_same(ours, default) or words != said[1], f"the same, and said to be another one: {entry}"
        else:
            assert the_same(ours, default), f"--{name}: {ours or 'none'} here, {default or 'none'} there"
    assert compared > 35
