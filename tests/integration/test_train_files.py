"""The trainer's files under way: what is on the disk before what, which files two jobs cannot share, and files that somebody
removes."""
import os
import re
import resource
import shutil
import signal
import subprocess

import pytest

from conftest import wait_until
from test_train_reports import EVENTS, JOB, TRAIN, alone, asked, metrics, python  # noqa: F401 (a fixture)

SMALL = [*JOB[:-2], "--model", "mlp"]
PARTS = ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "llmlaunch_state.json", "checksums.json"]
# One call as strace -y writes it when it begins: fsync(7</path>), rename("/from", "/to").
CALL = re.compile(r'^(?:\[pid +\d+\] |\d+ +)?(fsync|rename|mkdir|write)\((?:\d+<([^>]*)>|"([^"]*)"(?:, "([^"]*)")?)')


@pytest.fixture(scope="module")
def strace():
    if shutil.which("strace") is None or subprocess.run(["strace", "-f", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace is not here, or may not trace")
    return ["strace", "-f", "-y", "-s", "200", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,mkdir,write"]


def calls(log, below):
    """(call, path) of everything below a folder, in order; of a rename the new name. Writes to one file are one."""
    found = []
    for line in log.read_text().splitlines():
        match = CALL.match(line)
        path = match and (match[4] or match[2] or match[3])
        if path and path.startswith(str(below)) and (not found or found[-1] != (match[1], path)):
            found.append((match[1], path))
    return found


def test_a_checkpoint_has_its_name_when_all_of_it_is_on_the_disk(strace, tmp_path):
    """Without the fsync that a power cut asks for, every other test passes."""
    above = tmp_path / "new"
    output = above / "run"
    log = tmp_path / "strace.log"
    alone(*SMALL, "--max_steps", "2", "--save_steps", "1", "--save_total_limit", "1", "--output_dir", output,
          under=[*strace, "-o", log])
    seen = calls(log, tmp_path)
    # New folders' names are on the disk, each in the one above it, before anything is written into them.
    made = [("mkdir", str(above)), ("fsync", str(tmp_path)), ("mkdir", str(output)), ("fsync", str(above))]
    assert seen[:4] == made, seen[:8]
    for step in (1, 2):
        final = f"{output}/checkpoint-{step}"
        unfinished = f"{final}.unfinished"
        written = [(call, f"{unfinished}/{part}") for part in PARTS for call in ("write", "fsync")]
        expected = [("mkdir", unfinished), *written, ("fsync", unfinished), ("rename", final), ("fsync", str(output))]
        begin = seen.index(expected[0])
        assert seen[begin:begin + len(expected)] == expected, seen[begin:]


def test_a_job_killed_while_it_removes_a_checkpoint_leaves_no_part_of_it_for_good(strace, tmp_path):
    """Killed at each file of the removals in turn, then gone on with."""
    del strace  # it may trace
    for call in range(1, 100):
        output = tmp_path / str(call)
        job = [*SMALL, "--save_steps", "1", "--save_total_limit", "1", "--output_dir", output]
        killed = subprocess.run(["strace", "-f", "-o", "/dev/null", "-e", "trace=unlinkat", "-e", f"inject=unlinkat:signal=KILL:when={call}",
                                 *TRAIN, *map(str, job), "--max_steps", "3"], capture_output=True, text=True, check=False,
                                env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=60)
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        alone(*job, "--max_steps", "4", "--resume_from_checkpoint", "true")
        assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-4"], f"killed at removal {call}"
    assert 10 < call < 99, "two checkpoints of five files were to be removed"


def test_what_a_killed_job_left_goes_before_the_next_checkpoint_needs_its_room(tmp_path):
    job = [*SMALL, "--max_steps", "2", "--output_dir", tmp_path]
    alone(*job)
    left = tmp_path / "checkpoint-1.unfinished"
    left.mkdir()
    (left / "model.safetensors").write_bytes(bytes(1000))
    assert "nothing is left to train" in alone(*job, "--resume_from_checkpoint", "true").stdout
    assert not left.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk of its own needs root")
def test_a_disk_that_a_killed_job_has_filled_takes_the_next_checkpoint(tmp_path):
    """12 MiB, of which a save that was broken off has 8 and a checkpoint needs 8."""
    words = 'mount -t tmpfs -o size=12m none "$0" && mkdir "$0/checkpoint-7.unfinished" && ' \
            'head -c 8388608 /dev/zero > "$0/checkpoint-7.unfinished/model.safetensors" && "$@" && ls "$0"'
    run = subprocess.run(["unshare", "-m", "sh", "-c", words, str(tmp_path), *TRAIN, *map(str, SMALL), "--max_steps", "2",
                          "--save_steps", "0", "--output_dir", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60,
                         env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "checkpoint-2", run.stdout


def started(*words, until="step 1/", logging="100000", under=()):
    """A job that goes on until it is ended; it has said so much."""
    job = subprocess.Popen([*under, *TRAIN, *map(str, SMALL), "--max_steps", "1000000", "--logging_steps", logging,
                            "--logging_first_step", *map(str, words)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env={**os.environ, "OMP_NUM_THREADS": "1"})
    for line in job.stdout:
        if line.startswith(until):
            return job
    pytest.fail(job.stderr.read())


def seen(job, condition, what):
    wait_until(lambda: condition() or job.poll() is not None, what)
    assert job.poll() is None, job.stderr.read()


def end(job):
    """What it said on stderr."""
    job.terminate()
    return job.communicate(timeout=60)[1]


@pytest.mark.parametrize("flag, more, words", [
    ("--logging_dir", ["--report_to", "json"], "another job is at work here: pid {pid} on "),
    ("--logging_dir", ["--report_to", "tensorboard"], "another job is at work here: pid {pid} on "),
    ("--loss_file", [], "another job is writing this file\n")])
def test_two_jobs_do_not_share_a_logging_dir_or_a_file_of_losses(tmp_path, flag, more, words):
    shared = tmp_path / "shared"
    first = started(flag, shared, *more)
    second = alone(*SMALL, flag, shared, *more, status=75)
    assert second.stderr.startswith(f"llmlaunch-train: error: {shared}: {words.format(pid=first.pid)}"), second.stderr
    assert second.stderr.endswith(f"hint: wait for its end, or give this one another {flag}\n"), second.stderr
    assert "step" not in second.stdout
    first.send_signal(signal.SIGKILL)
    first.communicate()
    alone(*SMALL, flag, shared, *more, "--max_steps", "1")


def test_a_job_does_not_keep_itself_out(tmp_path):
    """By one folder for everything, also by two ways to it, and where reports are not asked for."""
    output = tmp_path / "run"
    (tmp_path / "link").symlink_to(output)
    alone(*SMALL, "--max_steps", "1", "--output_dir", output, "--logging_dir", tmp_path / "link", "--report_to", "json")
    assert (output / "metrics.jsonl").exists()
    first = started("--logging_dir", output, "--output_dir", tmp_path / "other")
    alone(*SMALL, "--max_steps", "1", "--logging_dir", output, "--report_to", "json")
    end(first)


def test_a_test_that_is_made_up_for_more_than_once_is_told_of_once(python, tmp_path):  # noqa: F811
    """A job that is killed before its next checkpoint goes on from the same one, and makes up for the same test."""
    output = tmp_path / "run"
    saving = ["--output_dir", output, "--report_to", "all"]
    first = started(*saving, "--save_steps", "10", "--learning_rate", "1e-6", logging="10")
    seen(first, lambda: (output / "checkpoint-10").exists(), "checkpoint-10")
    first.kill()
    first.communicate()
    for checkpoint in output.glob("checkpoint-*"):
        if checkpoint.name != "checkpoint-10":
            shutil.rmtree(checkpoint)
    for _ in range(3):
        job = started(*saving, "--save_steps", "1000000", "--resume_from_checkpoint", "true", "--eval_strategy", "steps", "--eval_steps",
                      "10", until="step 20/1000000: test accuracy ", logging="10")
        job.kill()
        job.communicate()
    steps = [(record["step"], "eval_loss" in record) for record in metrics(output) if record["step"] <= 10]
    assert steps == [(1, False), (10, False), (10, True)], steps
    scalars = asked(python, EVENTS, output / "runs")
    assert [row[0] for row in scalars["train/loss"] if row[0] <= 10] == [1, 10]
    assert [row[0] for row in scalars["eval/loss"] if row[0] <= 10] == [10]


def said_on_stderr(job, *words):
    """Waits for a line with each of these, in any order, and gives all lines."""
    lines = []
    while not all(any(word in line for line in lines) for word in words):
        lines.append(job.stderr.readline())
        assert lines[-1], lines
    return lines


def test_a_folder_that_is_removed_under_way(tmp_path):
    """Reports into files that nobody can see are missing ones; the folder of checkpoints is made again, and is locked."""
    output, losses = tmp_path / "run", tmp_path / "losses"
    first = started("--output_dir", output, "--save_steps", "20", "--save_total_limit", "1", "--report_to", "json", "--loss_file", losses,
                    "--eval_strategy", "steps", "--eval_steps", "50")
    seen(first, lambda: list(output.glob("checkpoint-*0")), "a checkpoint")
    lock = output / ".llmlaunch-train.lock"
    losses.unlink()
    output.rename(tmp_path / "away")  # at once; and then what was in it
    shutil.rmtree(tmp_path / "away")
    lines = said_on_stderr(first, f"{losses}: --loss_file: was removed", f"{output}/metrics.jsonl: was removed")
    seen(first, lambda: lock.exists() and lock.read_text(), "the lock, anew")
    second = alone(*SMALL, "--output_dir", output, "--resume_from_checkpoint", "true", status=75)
    assert f"another job is at work here: pid {first.pid} on " in second.stderr
    lines += end(first).splitlines()
    assert first.returncode in (74, 143), lines
    assert sum("was removed while it is written; training goes on" in line for line in lines) == 2, lines
    # A checkpoint that was being written counts first.
    lost = r"error: .*: [0-9]+ of [0-9]+ checkpoints|warning: .*: [0-9]+ of [0-9]+ lines of --loss_file"
    assert re.search(f"({lost}) could not be written", "\n".join(lines[-2:])), lines
    assert not losses.exists() and list(output.glob("checkpoint-*"))


def test_a_job_that_lost_reports_and_is_stopped_tells_where_its_checkpoint_is(tmp_path):
    output, losses = tmp_path / "run", tmp_path / "losses"
    job = started("--output_dir", output, "--save_steps", "1000000", "--report_to", "json", "--loss_file", losses, logging="1")
    losses.unlink()
    shutil.rmtree(output)
    said_on_stderr(job, f"{losses}: --loss_file: was removed", f"{output}/metrics.jsonl: was removed")
    job.terminate()
    out, err = job.communicate(timeout=60)
    assert job.returncode == 143, err
    checkpoint, = output.glob("checkpoint-*")
    assert f"stopped by SIGTERM after step {checkpoint.name[11:]}/1000000; {checkpoint} has it\n" in out, out[-200:]
    assert re.search(f"warning: {output}/metrics.jsonl: [0-9]+ of [0-9]+ records of --report_to could not be written\n", err), err
    assert re.search(f"warning: {losses}: [0-9]+ of [0-9]+ lines of --loss_file could not be written\n", err), err
    assert "whole" not in err and "error" not in err, err


def test_a_stopped_job_that_is_saved_ends_by_the_signal_though_an_earlier_checkpoint_failed(tmp_path):
    output = tmp_path / "run"
    job = started("--output_dir", output, "--save_strategy", "steps", "--save_steps", "1")
    resource.prlimit(job.pid, resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    said_on_stderr(job, "File too large; training goes on")
    resource.prlimit(job.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    job.terminate()
    out, err = job.communicate(timeout=60)
    assert job.returncode == 143, err
    step = re.search(f"stopped by SIGTERM after step ([0-9]+)/1000000; {output}/checkpoint-([0-9]+) has it\n", out)
    assert step and step.group(1) == step.group(2), out[-200:]
    assert re.search(f"warning: {output}: [0-9]+ of [0-9]+ checkpoints could not be written\n", err) and "error" not in err, err


def test_a_stopped_job_that_cannot_be_saved_says_both(tmp_path):
    output = tmp_path / "run"
    job = started("--output_dir", output, "--save_steps", "1000000")
    resource.prlimit(job.pid, resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    job.terminate()
    out, err = job.communicate(timeout=60)
    assert job.returncode == 74, err
    assert re.search(f"error: {output}: stopped by SIGTERM after step [0-9]+/1000000; 1 of 1 checkpoint could not be "
                     "written\n   hint: none is on the disk", err), err


@pytest.mark.parametrize("more", [[], ["--output_dir", "run"]], ids=["nothing saved", "saved"])
def test_ctrl_c_ends_the_loop_that_a_job_is_in(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    loop = started(*more, under=["setsid", "bash", "-c", 'for i in 1 2 3; do "$@"; done; echo the loop went on', "bash"])
    os.killpg(loop.pid, signal.SIGINT)
    out, err = loop.communicate(timeout=60)
    assert loop.returncode == -signal.SIGINT, err
    assert "went on" not in out and "step 1/" not in out and (not more or "stopped by Ctrl-C after step" in out), out


def test_a_checkpoint_that_is_not_there_leaves_no_new_folder_behind(tmp_path):
    done = alone(*SMALL, "--resume_from_checkpoint", tmp_path / "none", "--output_dir", tmp_path / "run", status=66)
    assert f"error: {tmp_path}/none: no such checkpoint\n" in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_job_that_does_not_save_says_so_when_it_is_stopped(number):
    job = started()
    job.send_signal(number)
    assert job.communicate(timeout=60)[1] == f"llmlaunch-train: warning: stopped by {number.name}; nothing was saved\n"
    assert job.returncode == 128 + number


def test_a_job_that_took_the_folder_meanwhile_keeps_it(tmp_path):
    output = tmp_path / "run"
    words = ["--output_dir", output, "--save_steps", "20", "--save_total_limit", "1"]
    first = started(*words)
    first.send_signal(signal.SIGSTOP)
    shutil.rmtree(output)
    second = started(*words)
    first.send_signal(signal.SIGCONT)
    said = f"warning: {output}: another job is at work here: pid {second.pid} on "
    said_on_stderr(first, said)
    last = end(first)
    assert first.returncode == 75 and "checkpoints could not be written" in last, last
    assert "could not be written" not in end(second) and second.returncode == 143
    assert list(output.glob("checkpoint-*"))


@pytest.mark.parametrize("under, status", [([], 129), (["nohup"], 143)])
def test_a_terminal_that_goes_is_a_stop_and_nohup_keeps_it_off(tmp_path, under, status):
    output = tmp_path / "run"
    job = started("--output_dir", output, "--save_steps", "1000000", under=under)
    job.send_signal(signal.SIGHUP)
    if not under:  # under nohup the SIGTERM of `end` is the first signal that it gets
        assert "stopped by SIGHUP after step" in job.stdout.read()
    end(job)
    assert job.returncode == status
    assert list(output.glob("checkpoint-*"))


def test_a_name_typed_wrong_costs_nobody_a_file(tmp_path):
    precious = tmp_path / "precious"
    for text in ("learning_rate: 1\n", '{"step": 1, "epoch": 0.1, "time": 3}\n'):
        precious.write_text(text)
        for flag, what in (("--loss_file", "losses"), ("--predict", "logits")):
            run = alone(*SMALL, "--max_steps", "1", flag, precious, status=78)
            said = f"llmlaunch-train: error: {precious}: {flag}: is there already, and is no file of {what}\n   hint: name another one"
            assert said in run.stderr, run
            assert precious.read_text() == text
    # Their own are overwritten, aloud where it is more than a repetition.
    for warned in (False, True):
        run = alone(*SMALL, "--max_steps", "1", "--loss_file", tmp_path / "losses", "--predict", tmp_path / "logits")
        assert ("losses: --loss_file: an earlier job's losses are overwritten" in run.stderr) == warned, run


def test_a_home_directory_is_no_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = tmp_path / "train.yaml"
    settings.write_text("output_dir: ~/from-file\n")
    for words, made in ((["--output_dir=~/typed"], "typed"), ([settings], "from-file")):
        alone(*SMALL, "--max_steps", "1", *words, cwd=tmp_path)
        assert (tmp_path / "home" / made / "checkpoint-1").is_dir() and not (tmp_path / "~").exists(), made
