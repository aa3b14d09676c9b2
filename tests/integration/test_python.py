"""Command lines of accelerate and torchrun with only their first word changed: scripts, modules, missing ones."""
import os
import pathlib
import pwd
import re
import shutil

import pytest

from conftest import BIN, PYTHON, Run

HOSTS = 2

SHOW = "import os, sys\nprint('RANK', os.environ['RANK'], os.environ['WORLD_SIZE'], sys.argv[1:], sys.stdout.write_through)\n"


def config(hosts, setup=()):
    """Every rank starts in a directory of its host."""

    def change(data):
        for host in data["llmlaunch"]["hosts"]:
            host["workdir"] = str(hosts.home(host["name"]))
        if setup:
            data["llmlaunch"]["setup"] = list(setup)

    return hosts.config(change)


def in_hosts(hosts, name, text):
    """The file in the login directory of every host."""
    for host in hosts.names:
        (hosts.home(host) / name).parent.mkdir(parents=True, exist_ok=True)
        (hosts.home(host) / name).write_text(text)


@pytest.fixture(autouse=True)
def without_scripts(hosts):
    yield
    for host in hosts.names:
        for name in ("train.py", "pkg/__init__.py", "pkg/mod.py"):
            (hosts.home(host) / name).unlink(missing_ok=True)
        shutil.rmtree(hosts.home(host) / "only", ignore_errors=True)


def test_a_script_is_run_by_python_on_every_host(hosts):
    in_hosts(hosts, "train.py", SHOW)
    run = hosts.run("train.py", "--lr", "a b", options=("--nproc_per_node", "1", "--max_restarts=0"), config=config(hosts))
    assert run.status == 0, str(run)
    for rank in range(2):
        assert f"RANK {rank} 2 ['--lr', 'a b'] True" in run.out, str(run)
    for host in hosts.names:  # one that could run by itself is Python's all the same
        (hosts.home(host) / "train.py").write_text("#!/bin/false\n" + SHOW)
        (hosts.home(host) / "train.py").chmod(0o755)
    run = hosts.run("train.py", config=config(hosts))
    assert run.status == 0 and "RANK 1 2 [] True" in run.out, str(run)
    run = hosts.run("./train.py", options=("--no_python",), config=config(hosts))
    assert run.status == 1 and "RANK" not in run.out, str(run)


def test_a_module_is_run_by_python(hosts):
    in_hosts(hosts, "pkg/__init__.py", "")
    in_hosts(hosts, "pkg/mod.py", SHOW)
    run = hosts.run("pkg.mod", "-x", options=("-m",), config=config(hosts))
    assert run.status == 0 and "RANK 0 2 ['-x'] True" in run.out, str(run)


def test_a_script_that_is_not_there_is_named_before_any_rank_starts(hosts):
    (hosts.home("test01") / "train.py").write_text(SHOW)
    run = hosts.run("train.py", config=config(hosts))
    assert run.status == 127 and "RANK" not in run.out, str(run)
    assert re.search(r"test02.*script 'train.py' in .*: No such file or directory", run.err), str(run)
    assert "--workdir" in run.err, str(run)


def test_python_is_the_one_of_the_setup_and_a_missing_one_is_named(hosts):
    in_hosts(hosts, "train.py", "import sys\nprint('by', sys.argv[0], sys.executable)\n")

    for host in hosts.names:
        (hosts.home(host) / "only").mkdir()
        (hosts.home(host) / "only" / "python").symlink_to(PYTHON)

    run = hosts.run("train.py", config=config(hosts, ["PATH=$PWD/only"]))  # no python3 there, but a python
    assert run.status == 0 and re.search(r"by train.py \S*/only/python", run.out), str(run)
    run = hosts.run("train.py", config=config(hosts, ["PATH=/nowhere"]))
    assert run.status == 127, str(run)
    assert "neither 'python3' nor 'python' in PATH (/nowhere)" in run.err and "--python" in run.err, str(run)
    run = hosts.run("train.py", options=("--python", "/no/python"), config=config(hosts))
    assert run.status == 127 and "/no/python" in run.err, str(run)


def test_torchrun_and_accelerate_lines_run_on_this_machine(tmp_path):
    (tmp_path / "train.py").write_text(SHOW + "print(os.environ['ACCELERATE_MIXED_PRECISION'], os.environ['OMP_NUM_THREADS'])\n")

    def run(*words):
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        return Run([str(BIN / "llmlaunch"), "run", *words], env, tmp_path, "python").finish()

    done = run("--standalone", "--nnodes=1", "--nproc_per_node=2", "--max-restarts", "3", "train.py", "a")
    assert done.status == 0 and "RANK 1 2 ['a'] True" in done.out, str(done)
    assert done.err.count("--max-restarts has no effect: a failed rank ends the job") == 1, str(done)
    done = run("--num_processes", "2", "--num_machines", "1", "--mixed_precision", "bf16", "--cpu",
               "--num_cpu_threads_per_process", "3", "--local_ranks_filter", "1", "train.py")
    assert done.status == 0 and "bf16 3" in done.out, str(done)
    assert "RANK 1 2" in done.out and "RANK 0 2" not in done.out, str(done)
    done = run("--mixed_precision", "fp7", "train.py")
    assert done.status == 78 and "--mixed_precision: mixed_precision must be one of" in done.err, str(done)
    done = run("--tpu", "train.py")
    assert done.status == 64 and "TPU pods are not supported" in done.err, str(done)


def test_a_line_without_any_number_is_a_rank_for_each_gpu_as_with_accelerate(tmp_path):
    """CUDA_VISIBLE_DEVICES stands for the GPUs: that is how many accelerate would count."""
    (tmp_path / "train.py").write_text("import os\nprint('RANK', os.environ['RANK'], os.environ['WORLD_SIZE'], "
                                       "os.environ.get('CUDA_VISIBLE_DEVICES'))\n")

    def run(gpus, *words):
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": gpus}
        done = Run([str(BIN / "llmlaunch"), "run", *words, "train.py"], env, tmp_path, "python").finish()
        assert done.status == 0, str(done)
        return sorted(re.findall(r"RANK (.*)", done.out)), done.err

    said = "2 ranks, one for each GPU of this machine (-n 1 is one rank alone)"
    ranks, err = run("0,3")
    assert ranks == ["0 2 0,3", "1 2 0,3"] and err.count(said) == 1, err
    for gpus, words, count in (("0,3", ["-n", "1"], 1), ("0,3", ["--standalone"], 1), ("0,3", ["--nproc-per-node", "gpu"], 2),
                               ("0,3", ["--cpu"], 1), ("5", [], 1), ("", [], 1)):
        ranks, err = run(gpus, *words)
        assert len(ranks) == count and "one for each GPU" not in err, (words, ranks, err)
    (tmp_path / "one.yaml").write_text("mixed_precision: 'no'\n")
    ranks, err = run("0,3", "--config", str(tmp_path / "one.yaml"))
    assert ranks == ["0 1 0,3"], err


def test_without_home_a_workdir_below_it_is_that_of_the_user_database(tmp_path):
    home = pathlib.Path(pwd.getpwuid(os.getuid()).pw_dir)
    env = {"PATH": "/usr/bin:/bin", "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
           "TMPDIR": str(tmp_path)}
    for variables in (env, dict(env, HOME="")):
        done = Run([str(BIN / "llmlaunch"), "run", "--workdir", "~", "pwd"], variables, tmp_path, "python").finish()
        assert done.status == 0 and f"] {home.resolve()}\n" in done.out, str(done)
        done = Run([str(BIN / "llmlaunch"), "run", "--workdir", "~/none/such", "--dry-run", "pwd"], variables, tmp_path,
                   "python").finish()
        assert done.status == 0 and f" {home}/none/such" in done.out, str(done)


def test_hosts_are_chosen_and_keep_their_settings(hosts):
    run = hosts.run("hostname", options=("--exclude", "test01"))
    assert run.status == 0 and "test01]" not in run.out and "[rank 0 test02]" in run.out, str(run)
    run = hosts.run("hostname", options=("--nodes", "1"))
    assert run.status == 0 and "[rank 0 test01]" in run.out and "test02]" not in run.out, str(run)
    run = hosts.run("hostname", options=("--include", "test09"))
    assert run.status == 64, str(run)
