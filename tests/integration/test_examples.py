"""The example programs of trainer/examples, as jobs: what a user copies must work, and end when a rank does."""
import pathlib
import re
import subprocess

import pytest

from conftest import BIN

HOSTS = 2


def example(name):
    program = BIN / f"example_{name}"
    if not program.is_file():
        pytest.skip(f"this build has no {name}: its library was not found")
    return str(program)


@pytest.mark.usefixtures("via")
def test_gloo_adds_up_over_two_hosts_with_two_ranks_each(hosts):
    run = hosts.run(example("gloo_all_reduce"), config=hosts.config(slots=2))
    assert run.status == 0, str(run)
    said = re.findall(r"^\[rank (\d+) test0\d\] rank \1 of 4: the sum is 10$", run.out, re.M)
    assert sorted(said) == ["0", "1", "2", "3"], str(run)
    hosts.nothing_left(run)


@pytest.mark.usefixtures("via")
def test_the_gloo_example_ends_by_itself_when_a_rank_never_comes(hosts):
    script = f'test "$RANK" = 1 && exit 5; exec {example("gloo_all_reduce")}'
    run = hosts.run("sh", "-c", script)
    assert run.status == 5, str(run)
    hosts.nothing_left(run)


def test_outside_a_job_the_gloo_example_says_how_it_is_started():
    done = subprocess.run([example("gloo_all_reduce")], capture_output=True, text=True, env={})
    assert done.returncode == 1
    assert done.stderr.startswith("error: join: environment variable LLMLAUNCH_RENDEZVOUS is not set\n"), done.stderr
    assert "llmlaunch run" in done.stderr


def test_without_a_gpu_the_nccl_example_says_so_in_one_line():
    program = example("nccl_all_reduce")
    if pathlib.Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU: ctest -L gpu runs the example on it")
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (77, "", "skipped: no GPU here\n")
