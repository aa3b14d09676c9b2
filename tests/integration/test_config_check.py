"""What is said of a configuration before any run: the JSON Schema for editors, the reference page, `config check`."""
import json
import os
import pathlib
import subprocess

import pytest
import yaml

from conftest import BIN, ROOT

jsonschema = pytest.importorskip("jsonschema", reason="no python3-jsonschema here")

LLMLAUNCH = str(BIN / "llmlaunch")
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*") if path.suffix in (".yaml", ".json"))


@pytest.fixture(autouse=True)
def programs():
    """These tests need no agent."""


def ask(*words, status=0, cwd=None, **env):
    done = subprocess.run([LLMLAUNCH, *map(str, words)], capture_output=True, text=True, timeout=60, cwd=cwd,
                          env={**os.environ, **env})
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def schema():
    document = json.loads(ask("config", "--schema").stdout)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def write(tmp_path, text):
    path = tmp_path / "cfg.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_schema_takes_every_configuration_of_ours(schema, path):
    schema.validate(yaml.safe_load(path.read_text()))


GOOD = ["", "mixed_precision: no", "distributed_type: NO", "num_processes: -1", "llmlaunch: {hosts: 'n[1-2]'}",
        "llmlaunch: {stdin: 0, umask: '027'}", "llmlaunch: {limits: {nofile: 65536, memlock: 64M, core: unlimited}}",
        "llmlaunch: {hosts: {name: n1, port: 22, identity_file: [a, b]}}", "llmlaunch: {env: {A: 1, B: '', C: true}}",
        "llmlaunch: {timeouts: {grace: 0, run: 1.5h}, logs: {max_file_bytes: 64KiB}}", "use_cpu: 'yes'",
        "llmlaunch: {groups: {g: 'n[1-2]', h: [a, b], nobody: }}", "num_processes: '8'", "llmlaunch:",
        "fsdp_config: {fsdp_version: 2}", "tpu_env: []", "umask:\nnum_machines: 1".replace("umask:\n", "")]

BAD = ["num_machine: 8", "num_processes: 0", "num_processes: -2", "num_processes: many", "machine_rank: -1",
       "main_process_port: 65536", "use_cpu: maybe", "distributed_type: MULTI_GPUS", "mixed_precision: fp32",
       "compute_environment: AMAZON_SAGEMAKER", "fsdp_config: [a]", "- n1", "llmlaunch: n1", "llmlaunch: {host: n1}",
       "llmlaunch: {hosts: []}", "llmlaunch: {hosts: [[n1]]}", "llmlaunch: {hosts: [{slots: 2}]}",
       "llmlaunch: {hosts: [{name: a, host: a}]}", "llmlaunch: {hosts: [{name: a, slots: 4097}]}",
       "llmlaunch: {hosts: [{name: a, prot: 22}]}", "llmlaunch: {ssh: {port: 0}}", "llmlaunch: {ssh: {fanout: 4097}}",
       "llmlaunch: {ssh: {host_key_policy: no}}", "llmlaunch: {env: {A: }}", "llmlaunch: {env: [A=1]}",
       "llmlaunch: {limits: {nofile: many}}", "llmlaunch: {limits: {files: 1}}", "llmlaunch: {umask: 999}",
       "llmlaunch: {cpu_bind: cores}", "llmlaunch: {stdin: 1}", "llmlaunch: {logs: {keep: 101}}",
       "llmlaunch: {logs: {max_file_bytes: 12}}", "llmlaunch: {logs: {color: red}}",
       "llmlaunch: {timeouts: {connect: soon}}", "llmlaunch: {timeouts: {head: 0.5}}", "llmlaunch: {timeouts: {conect: 5}}",
       "llmlaunch: {groups: {g: {a: b}}}", "llmlaunch: {log_dir: [a]}", "llmlaunch: {setup: {a: b}}"]


@pytest.mark.parametrize("text", GOOD)
def test_what_the_schema_takes_the_program_takes(schema, tmp_path, text):
    schema.validate(yaml.safe_load(text))
    ask("config", "check", write(tmp_path, text + "\n"))


@pytest.mark.parametrize("text", BAD)
def test_what_the_schema_refuses_the_program_refuses(schema, tmp_path, text):
    assert not schema.is_valid(yaml.safe_load(text)), text
    ask("config", "check", write(tmp_path, text + "\n"), status=78)


def test_the_reference_page_is_the_programs_own():
    page = (ROOT / "configs" / "REFERENCE.md").read_text()
    assert ask("docs", "reference").stdout == page, "llmlaunch docs reference > configs/REFERENCE.md writes it again"
    for key in ("num_processes", "host_key_policy", "max_file_bytes", "rank_env", "sigpending"):
        assert f"| `{key}` |" in page, key


def test_a_good_file_is_told_as_it_would_run(tmp_path):
    said = ask("config", "check", write(tmp_path, """\
distributed_type: MULTI_GPU
main_process_port: 29500
llmlaunch:
  hosts:
    - {name: 'gpu[01-02]', slots: 8}
    - {name: old1, address: 10.0.0.99, port: 2222, slots: 2, env: {NCCL_P2P_DISABLE: 1}, workdir: /scratch}
  ssh: {user: train}
  env: {NCCL_DEBUG: WARN, HF_TOKEN: hf_123}
  rank_env: {CACHE: '/tmp/{rank}'}
  workdir: /data
  umask: '027'
"""))
    assert said.stderr == ""
    lines = said.stdout.splitlines()
    assert lines[0].endswith("cfg.yaml: 18 ranks on 3 hosts")
    assert lines[1] == "rendezvous: the address of this machine that each host reaches (found by a probe), port 29500"
    assert "umask: 027" in lines
    assert [line.split() for line in lines if line.startswith(("gpu", "old"))] == [
        ["gpu01", "0-7", "ssh", "train@gpu01", "/data"], ["gpu02", "8-15", "ssh", "train@gpu02", "/data"],
        ["old1", "16-17", "ssh", "train@10.0.0.99:2222", "/scratch"]]
    shared = said.stdout.split("environment of all hosts:\n")[1].split("only on")[0]
    assert "  NCCL_DEBUG=WARN\n" in shared and "  HF_TOKEN=********\n" in shared
    assert "only on old1:\n" in said.stdout and "  NCCL_P2P_DISABLE=1\n" in said.stdout.split("only on old1:\n")[1]
    assert "  CACHE='/tmp/{rank}'\n" in said.stdout
    assert "hf_123" not in said.stdout


def test_a_wrong_file_is_refused_with_its_place(tmp_path):
    said = ask("config", "check", write(tmp_path, "num_processes: 7\nllmlaunch: {hosts: 'n[1-2]'}\n"), status=78)
    assert said.stdout == ""
    assert "cfg.yaml:1:1: num_processes 7 is not divisible by 2 hosts" in said.stderr


def test_settings_of_the_command_line_win_over_the_file_and_over_variables_as_in_a_run(tmp_path):
    file = write(tmp_path, "num_processes: 4\nllmlaunch: {hosts: 'n[1-2]', ssh: {port: 2222}}\n")
    typed = ["--set", "num_processes=6", "--set=llmlaunch.ssh.port=2224", "--set", "llmlaunch.ssh.user="]
    said = ask("config", "check", *typed, file, LLMLAUNCH_SSH_PORT="2223", LLMLAUNCH_SSH_USER="train")
    assert said.stderr == ""
    assert said.stdout.startswith(f"{file}: 6 ranks on 2 hosts\n")
    assert [line.split()[:4] for line in said.stdout.splitlines() if line.startswith("n")] == [
        ["n1", "0-2", "ssh", "n1:2224"], ["n2", "3-5", "ssh", "n2:2224"]]


@pytest.mark.parametrize("typed, status", [("num_processes=7", 78), ("llmlaunch.ssh.prot=22", 78), ("num_processes", 64),
                                           ("llmlaunch.setup=[a", 78), ("=1", 64)])
def test_a_wrong_setting_is_refused_in_the_words_of_a_run(tmp_path, typed, status):
    file = write(tmp_path, "llmlaunch: {hosts: 'n[1-2]'}\n")
    check = ask("config", "check", file, "--set", typed, status=status)
    run = ask("run", "-c", file, "--set", typed, "--dry-run", "true", status=status)
    own_hint, runs_hint = "llmlaunch config check --help shows how it is called", "llmlaunch run --help lists the options"
    assert check.stdout == "" and check.stderr == run.stderr.replace(runs_hint, own_hint)


def test_a_way_to_shard_that_the_built_in_trainer_lacks_is_named(tmp_path):
    file = write(tmp_path, "distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_version: 2}\nllmlaunch: {hosts: 'n[1-2]'}\n")
    said = f"{file}:1:1: distributed_type FSDP has no effect on llmlaunch-train: each of its ranks has the whole model\n"
    assert said in ask("run", "-c", file, "--dry-run", "train").stderr
    assert "no effect" not in ask("run", "-c", file, "--dry-run", "./train").stderr


def test_all_commands_take_the_hosts_of_deepspeeds_host_file(tmp_path):
    (tmp_path / "hf").write_text("gpu01 slots=4\ngpu02 slots=4\n")
    file = write(tmp_path, "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_hostfile: hf}\n")
    assert ask("config", "check", file, cwd=tmp_path).stdout.startswith(f"{file}: 8 ranks on 2 hosts\n")
    assert ask("run", "-c", file, "--dry-run", "true", cwd=tmp_path).stdout.startswith("plan: 8 ranks on 2 hosts: gpu[01-02]\n")
    assert ask("exec", "-c", file, "--dry-run", "true", cwd=tmp_path).stdout.startswith(
        "plan: true on 2 hosts, each by itself: gpu[01-02]\n")
    assert ask("hosts", "-c", file, "--fold", cwd=tmp_path).stdout == "gpu[01-02]\n"
    (tmp_path / "hf").unlink()
    for words in (["env", "-c", file], ["exec", "-c", file, "true"], ["hosts", "-c", file], ["config", "check", file]):
        assert f"{file}:2:20: cannot read the host file hf" in ask(*words, status=78, cwd=tmp_path).stderr


def test_a_key_that_is_not_there_is_a_warning(tmp_path):
    said = ask("config", "check", write(tmp_path, f"""\
llmlaunch:
  ssh: {{identity_file: {tmp_path}/no_key}}
  hosts:
    - {{name: n1, identity_file: ['{tmp_path}/other_key']}}
"""))
    assert f"cfg.yaml:2:3: identity_file {tmp_path}/no_key: No such file or directory" in said.stderr
    assert f"cfg.yaml:4:7: identity_file {tmp_path}/other_key: No such file or directory" in said.stderr


def test_two_names_for_one_sshd_are_a_warning(tmp_path):
    said = ask("config", "check", write(tmp_path, """\
llmlaunch:
  hosts:
    - {name: a, address: 10.0.0.1, port: 2222}
    - {name: b, address: 10.0.0.1, port: 2222}
"""))
    assert said.stderr == (f"llmlaunch: warning: {tmp_path}/cfg.yaml:4:7: hosts a,b are one: all are reached at 10.0.0.1, port "
                           "2222, and share its cores and GPUs; for more ranks on one host set its 'slots'\n")


def test_quiet_says_warnings_alone(tmp_path):
    said = ask("config", "check", "-q", write(tmp_path, "rdzv_backend: c10d\n"))
    assert said.stdout == ""
    assert "'c10d' has no effect" in said.stderr
    assert ask("config", "check", write(tmp_path, ""), "--quiet").stderr == ""


def test_without_a_file_accelerates_default_is_checked(tmp_path):
    said = ask("config", "check", status=64, HF_HOME=str(tmp_path))
    assert "accelerate's default file is not there" in said.stderr
    (tmp_path / "accelerate").mkdir()
    default = tmp_path / "accelerate" / "default_config.yaml"
    default.write_text("num_processes: 2\n")
    assert ask("config", "check", HF_HOME=str(tmp_path)).stdout.startswith(f"{default}: 2 ranks on 1 host\n")


def test_words_that_do_not_fit_are_answered(tmp_path):
    assert "did you mean 'check'?" in ask("config", "chekc", status=64).stderr
    assert "config --schema stands alone" in ask("config", "--schema", "check", status=64).stderr
    assert "'b' is one word too many" in ask("config", "check", "a", "b", status=64).stderr
    assert "'x' is one word too many" in ask("docs", "reference", "x", status=64).stderr
    missing = ask("config", "check", "nowhere.yaml", status=78, cwd=tmp_path).stderr
    assert "nowhere.yaml: cannot read the configuration: No such file or directory" in missing
    assert f"hint: looked in {pathlib.Path(tmp_path)}" in missing
