"""Training over ssh: the main job, and the proof that four ranks on two hosts do the arithmetic of one process."""
import json
import os
import re
import signal

import pytest

from conftest import BIN, MARK, SCALE, processes_with

HOSTS = 2


@pytest.fixture(scope="module", autouse=True)
def trainer():
    assert (BIN / "llmlaunch-train").is_file(), f"{BIN / 'llmlaunch-train'} is not built"


def accuracy(run):
    found = re.findall(r"accuracy\D*([\d.]+)", run.out)
    assert found, f"no accuracy was printed\n{run}"
    return float(found[-1])


def hashes(run):
    """{epoch: {rank: parameter hash}}."""
    found = {}
    for rank, epoch, value in re.findall(r"^\[rank (\d+) \S+\].*epoch (\d+).*hash[ =:]+([0-9a-f]{8,})", run.out, re.M):
        found.setdefault(int(epoch), {})[int(rank)] = value
    return found


def losses(file):
    """{step: loss} from the file that --loss_file names."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return {entry["step"]: entry["loss"] for entry in found}


@pytest.mark.skipif(SCALE > 1, reason="a whole epoch takes minutes under sanitizers; the short runs below stay")
def test_two_ssh_hosts_train_one_epoch_to_97_percent(hosts):
    run = hosts.run("train", "--log_level_replica", "info", timeout=300)
    assert run.status == 0, str(run)
    assert accuracy(run) >= 97.0, str(run)
    (by_rank,) = hashes(run).values()
    assert sorted(by_rank) == [0, 1] and len(set(by_rank.values())) == 1, str(run)
    hosts.nothing_left(run)


def test_two_hosts_with_two_ranks_give_the_losses_of_one_process_with_the_fourfold_batch(hosts):
    steps = 20 if SCALE == 1 else 4
    same = ["--max_steps", steps, "--dropout", "off", "--seed", 7, "--train_samples", 4 * 16 * steps, "--eval_samples", 100,
            "--log_level_replica", "info"]
    curves = {}
    for name, batch, config in (
            ("four ranks", 16, hosts.config(slots=2)),
            ("one process", 64, hosts.config(lambda data: data.update(num_machines=1, num_processes=1)
                                             or data["llmlaunch"].update(hosts=[{"name": "localhost", "slots": 1}])))):
        file = hosts.head / f"losses-{name.replace(' ', '-')}"
        run = hosts.run("train", "--per_device_train_batch_size", str(batch), "--loss_file", str(file),
                        *[str(word) for word in same], config=config, timeout=300)
        assert run.status == 0, str(run)
        curves[name] = losses(file)
        assert len(curves[name]) == steps, str(run)
        for epoch, by_rank in hashes(run).items():
            assert len(set(by_rank.values())) == 1, f"epoch {epoch}: the ranks' parameters differ\n{run}"
        if name == "four ranks":
            assert [sorted(by_rank) for by_rank in hashes(run).values()], f"no parameter hash was printed\n{run}"
            assert all(sorted(by_rank) == [0, 1, 2, 3] for by_rank in hashes(run).values()), str(run)
        hosts.nothing_left(run)
    first, second = curves["four ranks"], curves["one process"]
    assert first.keys() == second.keys()
    worst = max(abs(first[step] - second[step]) for step in first)
    assert worst <= 1e-4, f"the loss curves differ by {worst}: {first} against {second}"
    assert min(second.values()) < max(second.values()), "the loss never moved: nothing was trained"


def test_ctrl_c_during_training_stops_both_hosts(hosts):
    run = hosts.start("train", "--num_train_epochs", "1000", "--logging_steps", "1")
    run.said("step ", timeout=120)
    os.kill(run.pid, signal.SIGINT)
    run.finish(60)
    assert run.status == 130, str(run)
    hosts.nothing_left(run)


def test_a_trainer_that_is_killed_is_named_and_the_other_stops(hosts):
    run = hosts.start("train", "--num_train_epochs", "1000", "--logging_steps", "1")
    run.said("step ", timeout=120)
    victim = [pid for pid, line in processes_with("RANK=1").items()
              if pid in processes_with(f"{MARK}={run.mark}") and "agent" not in line.split()[0]]
    assert len(victim) == 1, victim
    os.kill(victim[0], signal.SIGKILL)
    run.finish(60)
    assert run.status == 128 + signal.SIGKILL, str(run)
    assert re.search(r"rank 1\b", run.err) and "SIGKILL" in run.err and "test02" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_wrong_flag_of_the_trainer_is_said_once_with_its_status(hosts):
    run = hosts.run("train", "--learning_rat", "1")
    assert run.status not in (0, None), str(run)
    assert "--learning_rat" in run.out + run.err, str(run)
    hosts.nothing_left(run)
