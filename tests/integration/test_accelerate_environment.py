"""The environment that `accelerate launch` and `torchrun` give to a worker, and ours, key by key. Both start the same
worker from the same file in the same surroundings; what differs must stand in a table below, with its reason, and what
stands there must differ somewhere.

accelerate wants deepspeed and an 8-bit library installed before it says anything about them: here they are empty packages
of these names, which no worker loads.
"""
import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from conftest import BIN, ROOT

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
VENV = pathlib.Path(os.environ.get("LLMLAUNCH_PYTHON_ENV") or CACHE / "llmlaunch-tests" / "python")  # as python_env.sh
FILES = ROOT / "tests" / "fixtures" / "accelerate"

WORKER = """\
import json, os, pathlib
path = pathlib.Path(os.environ["WORKER_DIR"]) / ("rank-" + os.environ.get("RANK", "0") + ".json")
path.write_text(json.dumps(dict(os.environ)))
"""

OWN = "llmlaunch's own"
PLACE = "its place under another launcher's name, for programs written for that"
ADDRESS = "chosen for each run"
MADE_UP = "accelerate writes the default that a worker without the variable has, too"
# Ours alone.
MORE = {
    "LLMLAUNCH_JOB_ID": OWN, "LLMLAUNCH_GENERATION": OWN, "LLMLAUNCH_RENDEZVOUS": OWN, "LLMLAUNCH_TOKEN": OWN,
    "LLMLAUNCH_RENDEZVOUS_TIMEOUT": OWN, "LLMLAUNCH_HOST": OWN,
    "NODE_RANK": PLACE, "LOCAL_SIZE": PLACE, "CROSS_RANK": PLACE, "CROSS_SIZE": PLACE,
    "HOROVOD_RANK": PLACE, "HOROVOD_SIZE": PLACE, "HOROVOD_LOCAL_RANK": PLACE, "HOROVOD_LOCAL_SIZE": PLACE,
    "HOROVOD_CROSS_RANK": PLACE, "HOROVOD_CROSS_SIZE": PLACE, "HOROVOD_HOSTNAME": PLACE,
    "OMPI_COMM_WORLD_RANK": PLACE, "OMPI_COMM_WORLD_SIZE": PLACE, "OMPI_COMM_WORLD_LOCAL_RANK": PLACE,
    "OMPI_COMM_WORLD_LOCAL_SIZE": PLACE, "OMPI_COMM_WORLD_NODE_RANK": PLACE,
    "PYTHONUNBUFFERED": "lines come when they are written; torchrun starts python -u for that",
    "ACCELERATE_USE_CPU": "said in every job, not only in one without a distributed type",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_NVME_PATH": "accelerate's launcher drops it; its worker reads it",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_NVME_PATH": "accelerate's launcher drops it; its worker reads it",
}
# accelerate's or torchrun's alone.
LESS = {
    "TORCHELASTIC_ERROR_FILE": "what a failing rank writes last is shown in any case",
    "TORCHELASTIC_SIGNALS_TO_HANDLE": "for torchrun's own agent",
    "PYTHONPATH": "the working directory, for ranks that DeepSpeed's launcher starts elsewhere",
    "ACCELERATE_FP8_AMAX_HISTORY_LENGTH": "no worker reads it",
    "ACCELERATE_FP8_AMAX_COMPUTE_ALGORITHM": "no worker reads it",
    "ACCELERATE_FP8_OPTIMIZATION_LEVEL": "no worker reads it",
    "ACCELERATE_DYNAMO_BACKEND": MADE_UP, "ACCELERATE_DYNAMO_MODE": MADE_UP,
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": MADE_UP, "ACCELERATE_DYNAMO_USE_DYNAMIC": MADE_UP,
    "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": MADE_UP,
}
# Both, with other values.
OTHER = {
    "MASTER_PORT": ADDRESS, "TORCHELASTIC_RUN_ID": "the job's name",
    "OMP_NUM_THREADS": "the cores of each rank, where accelerate and torchrun say 1",
    "ACCELERATE_USE_CPU": "true and false in lower case", "ACCELERATE_FP8_AMAX_HISTORY_LEN": "the wizard's answer",
    "ACCELERATE_FP8_AMAX_COMPUTE_ALGO": "the wizard's answer", "ACCELERATE_FP8_OPT_LEVEL": "the wizard's answer",
    "ACCELERATE_FP8_ENABLE_FSDP_FLOAT8_ALL_GATHER": "True, where accelerate writes 1 for its default",
    "ACCELERATE_FP8_PAD_INNER_DIM": "True, where accelerate writes 1 for its default",
}
BY_MACHINE = {"OMP_NUM_THREADS"}  # with one core for each rank it is 1 under all
IGNORED = {"_", "PWD", "OLDPWD", "SHLVL", "WORKER_DIR", "LC_CTYPE"}

CONFIGS = ["cpu_one.yaml", "gpu_no.yaml", "gpu_debug.yaml", "dynamo.yaml", "legacy_dynamo.yaml", "fsdp1_full_shard.yaml",
           "fsdp1_size_wrap.yaml", "fsdp2.yaml", "fsdp2_parallelism.yaml", "fsdp2_context.yaml",
           "fsdp_without_prefix.yaml", "megatron.yaml", "megatron_all.yaml", "deepspeed_zero3.yaml",
           "deepspeed_nvme.yaml", "deepspeed_moe.yaml", "fp8_te.yaml", "fp8_msamp.yaml", "fp8_ao.yaml"]


@pytest.fixture(scope="module")
def python():
    there = subprocess.run([ROOT / "scripts" / "python_env.sh", "--check"], capture_output=True, text=True, check=False)
    if there.returncode != 0:
        if os.environ.get("LLMLAUNCH_PYTHON_REQUIRED"):
            pytest.fail(there.stderr.strip())
        pytest.skip(there.stderr.strip())
    return VENV / "bin" / "python"


@pytest.fixture(scope="module")
def used():
    return set()


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    """What both launchers find: little, and nothing of this machine's user."""
    packages = tmp_path_factory.mktemp("packages")
    for name, version in (("deepspeed", "0.18.2"), ("torchao", "0.15.0")):
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text("")
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (packages / "deepspeed" / "launcher").mkdir()  # the one name that accelerate's launcher imports
    (packages / "deepspeed" / "launcher" / "runner.py").write_text('DEEPSPEED_ENVIRONMENT_NAME = ".deepspeed_env"\n')
    home = tmp_path_factory.mktemp("home")
    temporary = tmp_path_factory.mktemp("tmp")  # torchrun leaves a directory there
    return packages, {"PATH": f"{VENV / 'bin'}:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8", "TMPDIR": str(temporary),
                      "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache")}


def workers(command, surroundings, directory, packages=None, machines=1):
    """{rank: environment} of the workers that the command starts, by as many processes as there are machines."""
    directory.mkdir()
    script = directory / "worker.py"
    script.write_text(WORKER)
    env = dict(surroundings, WORKER_DIR=str(directory))
    if packages:
        env["PYTHONPATH"] = str(packages)
    runs = [subprocess.Popen([*command, str(script)], env=env, cwd=directory, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True) for _ in range(machines)]
    try:
        said = [run.communicate(timeout=240)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
            run.wait()
    found = {int(file.stem[5:]): json.loads(file.read_text()) for file in directory.glob("rank-*.json")}
    assert all(run.returncode == 0 for run in runs) and found, "\n".join([f"{command}:", *said])
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check(theirs, ours, used):
    """No difference but those of the tables."""
    problems = []
    for name in sorted((theirs.keys() | ours.keys()) - IGNORED):
        if theirs.get(name) == ours.get(name):
            continue
        table = MORE if name not in theirs else LESS if name not in ours else OTHER
        if name in table:
            used.add((id(table), name))
        else:
            problems.append(f"{name}: theirs {theirs.get(name)!r}, ours {ours.get(name)!r}")
    assert not problems, "\n".join(problems)


def local(config, tmp_path):
    """The file as it is, on this machine alone, with two ranks and a free port; a copy, for both launchers."""
    text = (FILES / "files" / config).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("main_process_port")]
    ranks = "1" if "distributed_type: 'NO'" in text else "2"
    lines = [f"num_processes: {ranks}" if line.startswith("num_processes") else line for line in lines]
    path = tmp_path / config
    path.write_text("\n".join(lines) + "\nmain_process_port: 0\n")
    return path


@pytest.mark.parametrize("config", CONFIGS)
def test_a_worker_finds_what_accelerate_gives_it(config, python, surroundings, used, tmp_path):
    packages, env = surroundings
    path = local(config, tmp_path)
    theirs = workers([VENV / "bin" / "accelerate", "launch", "--config_file", path], env, tmp_path / "theirs", packages)
    ours = workers([BIN / "llmlaunch", "run", "--config", path, "--log-dir", tmp_path / "logs", python], env,
                   tmp_path / "ours")
    assert theirs.keys() == ours.keys()
    for rank, found in theirs.items():
        # The empty packages are in theirs alone; what is left of PYTHONPATH is accelerate's own addition.
        rest = [part for part in found.pop("PYTHONPATH").split(":") if part != str(packages)]
        if rest:
            found["PYTHONPATH"] = ":".join(rest)
        if len(theirs) == 1:  # accelerate starts one process without a world; here it is a world of one
            for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
                         "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE",
                         "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS",
                         "TORCHELASTIC_USE_AGENT_STORE", "TORCH_NCCL_ASYNC_ERROR_HANDLING"):
                assert name not in found
                ours[rank].pop(name, None)
        check(found, ours[rank], used)


def test_a_worker_finds_what_torchrun_gives_it(python, surroundings, used, tmp_path):
    _, env = surroundings
    theirs = workers([VENV / "bin" / "torchrun", "--nproc-per-node", "2", "--master-port", "0"], env, tmp_path / "theirs")
    config = tmp_path / "two.yaml"
    config.write_text("distributed_type: MULTI_GPU\nnum_processes: 2\n")
    ours = workers([BIN / "llmlaunch", "run", "--config", config, "--log-dir", tmp_path / "logs", python], env,
                   tmp_path / "ours")
    assert theirs.keys() == ours.keys() == {0, 1}
    for rank, found in theirs.items():
        ours[rank].pop("ACCELERATE_MIXED_PRECISION")  # torchrun knows no accelerate
        check(found, ours[rank], used)


def test_a_worker_finds_what_torchruns_dynamic_rendezvous_gives_it(python, surroundings, used, tmp_path):
    """The same words twice: two machines, as far as both launchers can tell, that find their places by themselves."""
    _, env = surroundings

    def words():  # a port for each launcher: torchrun leaves connections in its way
        return ["--nnodes", "2", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint",
                f"localhost:{free_port()}", "--rdzv-id", "the-job", "--local-addr", "localhost"]

    theirs = workers([VENV / "bin" / "torchrun", *words()], env, tmp_path / "theirs", machines=2)
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    ours = workers([BIN / "llmlaunch", "run", "--token-file", token, "--log-dir", tmp_path / "logs", *words(), "--python", python],
                   env, tmp_path / "ours", machines=2)
    assert theirs.keys() == ours.keys() == {0, 1, 2, 3}
    for rank, found in theirs.items():
        ours[rank].pop("ACCELERATE_MIXED_PRECISION")  # torchrun knows no accelerate
        assert found["TORCHELASTIC_RUN_ID"] == ours[rank]["TORCHELASTIC_RUN_ID"] == "the-job"
        assert [found[name] for name in ("GROUP_RANK", "RANK", "LOCAL_RANK", "GROUP_WORLD_SIZE", "WORLD_SIZE")] == \
               [ours[rank][name] for name in ("GROUP_RANK", "RANK", "LOCAL_RANK", "GROUP_WORLD_SIZE", "WORLD_SIZE")] == \
               [str(rank // 2), str(rank), str(rank % 2), "2", "4"]
        check(found, ours[rank], used)


def test_a_role_of_torchrun_and_a_flag_of_accelerate_reach_the_workers(python, surroundings, used, tmp_path):
    packages, env = surroundings
    config = tmp_path / "two.yaml"
    config.write_text("distributed_type: MULTI_GPU\nnum_processes: 2\nnum_machines: 1\nmixed_precision: 'no'\n"
                      "main_process_port: 0\n")
    flags = ["--role", "trainer", "--debug"]
    theirs = workers([VENV / "bin" / "accelerate", "launch", "--config_file", config, *flags], env, tmp_path / "theirs",
                     packages)
    ours = workers([BIN / "llmlaunch", "run", "--config", config, "--log-dir", tmp_path / "logs", *flags, python], env,
                   tmp_path / "ours")
    for rank, found in theirs.items():
        found.pop("PYTHONPATH")
        assert (found["ROLE_NAME"], found["ACCELERATE_DEBUG_MODE"]) == ("trainer", "true"), found
        check(found, ours[rank], used)
    theirs = workers([VENV / "bin" / "torchrun", "--nproc-per-node", "2", "--master-port", "0", "--role", "trainer"], env,
                     tmp_path / "torchrun")
    ours = workers([BIN / "llmlaunch", "run", "--nproc-per-node", "2", "--log-dir", tmp_path / "logs", "--role", "trainer",
                    python], env, tmp_path / "again")
    for rank, found in theirs.items():
        assert found["ROLE_NAME"] == ours[rank]["ROLE_NAME"] == "trainer"
        assert [found[name] for name in ("ROLE_RANK", "ROLE_WORLD_SIZE")] == \
               [ours[rank][name] for name in ("ROLE_RANK", "ROLE_WORLD_SIZE")] == [str(rank), "2"]


OPTIONS = """\
import json
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser
print(json.dumps([[option, action.nargs != 0, [str(choice) for choice in action.choices or ()]]
                  for parser in (launch_command_parser(), get_args_parser())
                  for action in parser._actions for option in action.option_strings]))
"""


def test_every_option_of_accelerate_launch_and_torchrun_is_known_in_each_spelling(python, surroundings, tmp_path):
    """With a value, where they take one: it is done, said to have no effect, or refused by its name. Never unknown, and
    the word behind it is never taken for the program."""
    _, env = surroundings
    asked = subprocess.run([python, "-c", OPTIONS], env=env, capture_output=True, text=True, timeout=240, check=True)
    options = {option: (takes_value, choices) for option, takes_value, choices in json.loads(asked.stdout)}
    for name in ("--help", "-h"):
        options.pop(name)
    assert len(options) > 250, sorted(options)
    wrong = []
    for option, (takes_value, choices) in sorted(options.items()):
        words = [option, choices[0] if choices else "1"] if takes_value else [option]
        run = subprocess.run([BIN / "llmlaunch", "run", *words, "--dry-run", "--json", "the-program"], cwd=tmp_path, env=env,
                             capture_output=True, text=True, timeout=60, check=False)
        if run.returncode == 0:
            good = json.loads(run.stdout)["argv"][-1] == "the-program"
        else:  # by its name, however it is spelled; a file is named itself
            first = run.stderr.splitlines()[0].replace("_", "-")
            good = run.returncode in (64, 78) and "unknown option" not in first and (
                first.startswith(f"llmlaunch: error: {option.replace('_', '-')}") or
                (option.startswith("--config") and first.startswith("llmlaunch: error: 1: cannot read")))
        if not good:
            wrong.append(f"{' '.join(words)}: {run.returncode} {run.stdout[:200]}{run.stderr}")
    assert not wrong, "\n".join(wrong)


def test_the_tables_name_no_difference_that_is_none(used, request):
    if len([item for item in request.session.items if item.path == request.path]) < len(CONFIGS) + 4:
        pytest.skip("needs the other tests of this file before it")
    listed = {(id(table), name) for table in (MORE, LESS, OTHER) for name in table.keys() - BY_MACHINE}
    left = sorted(name for _, name in listed - used)
    assert not left, " ".join(left)
