"""`llmlaunch config` without questions: answers from options and files, `config default`, `config update` and `config import`."""
import os
import re
import signal
import socket

import pytest
import yaml

from conftest import Refusing, wait_until
from wizard_desk import desk  # noqa: F401 (a fixture)

HOSTS = 3


# --- without a terminal ------------------------------------------------------------------------------------------------
def test_without_a_terminal_it_says_how_to_go_on(hosts, desk):
    run = desk.run()
    assert run.status == 64 and "there is no terminal to ask at" in run.err and "--non-interactive" in run.err, str(run)
    desk.nothing_written()


def test_non_interactive_takes_what_would_be_proposed(hosts, desk):
    run = desk.run("--non-interactive", "-w", "test[01-03]", "--mixed-precision", "fp16", "--log-dir", "my logs")
    assert run.status == 0 and "3 hosts × 1 = 3 ranks" in run.err, str(run)
    data = desk.written()
    assert data["llmlaunch"] == {"hosts": [{"name": "test[01-03]", "slots": 1}], "log_dir": "my logs"}
    assert data["mixed_precision"] == "fp16" and data["num_machines"] == 3
    desk.plans()
    before = (desk.folder / "llmlaunch.yaml").read_text()
    run = desk.run("--non-interactive", "-w", "test01")
    assert run.status == 64 and "is there already" in run.err, str(run)
    assert (desk.folder / "llmlaunch.yaml").read_text() == before
    assert desk.run("--non-interactive", "-w", "test01", "--force").status == 0
    assert desk.written()["num_machines"] == 1


def test_answers_come_from_a_file_and_options_win(hosts, desk):
    (desk.folder / "answers.yaml").write_text("hosts: [test01, test02]\nslots: test01=2 test02=1\nmixed_precision: bf16\n"
                                              "setup: ['a; b', c]\nforward_env: HF_*\ninterface: eth7\n")
    run = desk.run("-y", "--answers", "answers.yaml", "--mixed-precision", "no", "-o", "out.yaml")
    assert run.status == 0, str(run)
    data = desk.written("out.yaml")
    assert data["num_processes"] == 3 and data["mixed_precision"] == "no"
    assert data["llmlaunch"]["hosts"] == [{"name": "test01", "slots": 2}, {"name": "test02", "slots": 1}]
    assert data["llmlaunch"]["setup"] == ["a; b", "c"]
    assert data["llmlaunch"]["env"] == {"NCCL_SOCKET_IFNAME": "=eth7", "GLOO_SOCKET_IFNAME": "eth7"}
    desk.plans("out.yaml")


def test_wrong_answers_are_told_with_their_place(hosts, desk):
    answers = desk.folder / "home" / "answers.yaml"
    answers.write_text("hosts: test01\nslot: 2\n")
    run = desk.run("-y", "--answers", str(answers))
    assert run.status == 78 and f"{answers}:2:1: there is no question 'slot'" in run.err and "'slots'?" in run.err, str(run)
    answers.write_text("hosts: test01\nport: 0\n")
    run = desk.run("-y", "--answers", str(answers))
    assert run.status == 78 and f"{answers}:2:1: port: a port is a number" in run.err, str(run)
    run = desk.run("-y", "-w", "test01", "--slots", "0")
    assert run.status == 64 and "--slots: '0' is no number of ranks" in run.err, str(run)
    desk.nothing_written()


def test_a_host_that_fails_ends_a_script_with_69_and_no_file(hosts, desk):
    with Refusing("127.0.0.97") as port:
        desk.add("gone", "127.0.0.97", port, "root")
        run = desk.run("-y", "-w", "test01,gone")
        assert run.status == 69 and "1 of 2 hosts cannot be used" in run.err and "gone: not reached" in run.err, str(run)
        desk.nothing_written()
        run = desk.run("-y", "-w", "test01,gone", "--keep-unreachable")
        assert run.status == 0 and desk.written()["num_machines"] == 2, str(run)


def test_unknown_host_keys_are_refused_unless_they_are_asked_for(hosts, desk):
    desk.known.write_text("")
    run = desk.run("-y", "-w", "test01")
    assert run.status == 69 and "the host key is not known" in run.err, str(run)
    assert desk.known.read_text() == ""
    run = desk.run("-y", "-w", "test01", "--accept-new-host-keys")
    assert run.status == 0 and len(desk.known.read_text().splitlines()) == 1, str(run)


def test_no_probe_contacts_nobody(hosts, desk):
    run = desk.run("-y", "-w", "nowhere[1-2]", "--no-probe", "--slots", "4", "-o", "-")
    assert run.status == 0, str(run)
    data = yaml.safe_load(run.out)
    assert data["num_processes"] == 8 and data["llmlaunch"]["hosts"] == [{"name": "nowhere[1-2]", "slots": 4}]


def test_a_host_file_gives_its_slots(hosts, desk):
    (desk.folder / "hostfile").write_text("test01 slots=3\ntest02 slots=1\n")
    run = desk.run("-y", "--hostfile", "hostfile")
    assert run.status == 0, str(run)
    assert desk.written()["num_processes"] == 4


def test_ctrl_c_without_questions_leaves_nothing(hosts, desk):
    silent = desk.folder / "home" / "silent"
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.96", 0))
        deaf.listen(8)
        desk.add("deaf", "127.0.0.96", deaf.getsockname()[1], "root")
        run = desk.start("-y", "-w", "deaf")
        connection, _ = deaf.accept()
        os.kill(run.pid, signal.SIGINT)
        run.finish()
        connection.close()
    assert run.status == 130 and not silent.exists(), str(run)
    desk.nothing_written()


# --- default, update, import ---------------------------------------------------------------------------------------------
def test_default_writes_accelerates_file_for_this_machine_once(hosts, desk):
    run = desk.run("default")
    assert run.status == 0, str(run)
    file = desk.home / ".cache" / "huggingface" / "accelerate" / "default_config.yaml"
    data = yaml.safe_load(file.read_text())
    assert data["num_machines"] == 1 and "llmlaunch" not in data
    before = file.read_bytes()
    assert desk.run("default").status == 64 and file.read_bytes() == before
    assert "configuration: " + str(file) in desk.run("--dry-run", "true", command="run").err


def test_update_keeps_what_is_there_and_adds_what_is_new(hosts, desk):
    file = desk.folder / "old.yaml"
    old = "# mine\nmixed_precision: fp16   # not bf16\nllmlaunch:\n  hosts: ['test[01-02]']"
    file.write_text(old)
    run = desk.run("update", "old.yaml")
    assert run.status == 0 and "added compute_environment" in run.err, str(run)
    assert file.read_text().startswith(old + "\n")
    data = desk.written("old.yaml")
    assert (data["mixed_precision"], data["num_machines"], data["num_processes"]) == ("fp16", 2, 2)
    desk.plans("old.yaml")
    again = desk.run("update", "old.yaml")
    assert again.status == 0 and "has everything" in again.err, str(again)


@pytest.mark.parametrize("text, status", [("{num_processes: 2}\n", 78), ("num_process: 2\n", 78)])
def test_update_leaves_a_file_alone_that_it_cannot_add_to(hosts, desk, text, status):
    file = desk.folder / "old.yaml"
    file.write_text(text)
    run = desk.run("update", "old.yaml", "--no-probe")
    assert run.status == status and "old.yaml" in run.err, str(run)
    assert file.read_text() == text


FSDP = """# the team's
distributed_type: FSDP
fp16: true  # since 2022
dynamo_backend: INDUCTOR
fsdp_config:
  # what our models need
  fsdp_offload_params: true
  backward_prefetch_policy: BACKWARD_PRE
num_machines: 1
num_processes: 2
"""


def test_update_renames_older_keys_where_they_stand_and_changes_no_rank(hosts, desk):
    (desk.folder / "old.yaml").write_text(FSDP)
    before = desk.plans("old.yaml")
    run = desk.run("update", "old.yaml", "--no-probe")
    assert run.status == 0, str(run)
    assert "renamed fp16 to mixed_precision, dynamo_backend to dynamo_config.dynamo_backend, " \
           "fsdp_config.backward_prefetch_policy to backward_prefetch\n" in run.err, str(run)
    text = (desk.folder / "old.yaml").read_text()
    assert text.startswith("""# the team's
distributed_type: FSDP
mixed_precision: fp16  # since 2022
dynamo_config:
  dynamo_backend: INDUCTOR
fsdp_config:
  # what our models need
  fsdp_version: 1
  fsdp_offload_params: true
  backward_prefetch: BACKWARD_PRE
num_machines: 1
num_processes: 2
compute_environment: LOCAL_MACHINE
"""), text
    assert ranks_find(desk.plans("old.yaml")) == ranks_find(before)
    assert "has everything" in desk.run("update", "old.yaml", "--no-probe").err


def ranks_find(plan):
    return [line for line in plan.splitlines() if re.match(r" +(FSDP|ACCELERATE|MIXED|WORLD)_?\w*=", line)]


REFERENCES = """num_processes: 2
llmlaunch:
  hosts: ['test[01-02]']
  workdir: ${HOME}/run-${UNSET:-a}
  env: {COST: 5$$, WHERE: "${WHERE}", HF_TOKEN: "${HF_TOKEN}"}
  include: [site.yaml]
"""


def test_references_stay_as_they_were_typed(hosts, desk):
    (desk.folder / "site.yaml").write_text("mixed_precision: bf16\n")
    (desk.folder / "mine.yaml").write_text(REFERENCES)
    env = {"WHERE": "here", "HF_TOKEN": "sesame-oil", "LLMLAUNCH_NUM_MACHINES": "7"}  # the last one is for runs
    run = desk.run("update", "mine.yaml", "--no-probe", env=env)
    assert run.status == 0, str(run)
    text = (desk.folder / "mine.yaml").read_text()
    assert text.startswith(REFERENCES) and "num_machines: 2\n" in text, text
    assert "mixed_precision" not in text, "site.yaml has it"
    assert "sesame-oil" not in text + run.err + run.out
    (desk.folder / "mine.yaml").write_text(REFERENCES)
    run = desk.run("import", "mine.yaml", "-o", "out.yaml", env=env)
    assert run.status == 0 and "sesame-oil" not in run.err, str(run)
    assert (desk.folder / "out.yaml").read_text() == REFERENCES


@pytest.mark.parametrize("command", ["update", "import"])
def test_a_reference_to_nothing_is_an_error_at_its_place(hosts, desk, command):
    (desk.folder / "mine.yaml").write_text("num_processes: 1\nllmlaunch:\n  workdir: ${NOWHERE_SET}/run\n")
    run = desk.run(command, "mine.yaml", *(["-o", "out.yaml"] if command == "import" else ["--no-probe"]))
    assert run.status == 78 and "mine.yaml:3:12: llmlaunch.workdir: the variable NOWHERE_SET is not set" in run.err, str(run)
    assert "${NOWHERE_SET:-default}" in run.err and not (desk.folder / "out.yaml").exists(), str(run)


IMPORTS = {
    "deepspeed": ("hostfile", "n1 slots=4\nn2 slots=2\n", [{"name": "n1", "slots": 4}, {"name": "n2", "slots": 2}]),
    "openmpi": ("mpi", "n1 slots=4 max_slots=8\nn2 slots=4\n", [{"name": "n[1-2]", "slots": 4}]),
    "mpich": ("mpich", "n1:4\nn2:4\n", [{"name": "n[1-2]", "slots": 4}]),
    "slurm": ("nodes", "n[1-2,5]\n", [{"name": "n[1-2,5]", "slots": 1}]),
    "pdsh": ("wcoll", "n[1-2]\n#include more\n", [{"name": "n[1-3]", "slots": 1}]),
    "genders": ("genders", "n[1-2] gpu,rack=r1\n", [{"name": "n[1-2]", "slots": 1}]),
}


@pytest.mark.parametrize("how", ["--from", "seen"])
@pytest.mark.parametrize("kind", sorted(IMPORTS))
def test_lists_of_hosts_are_imported(hosts, desk, kind, how):
    name, text, expected = IMPORTS[kind]
    (desk.folder / name).write_text(text)
    (desk.folder / "more").write_text("n3\n")
    run = desk.run("import", name, *(["--from", kind] if how == "--from" else []))
    assert run.status == 0, str(run)
    data = desk.written()
    assert data["llmlaunch"]["hosts"] == expected
    assert data["num_machines"] == {"slurm": 3, "pdsh": 3}.get(kind, 2)
    if kind == "genders":
        assert data["llmlaunch"]["groups"] == {"gpu": "n[1-2]", "rack-r1": "n[1-2]"}
    desk.plans()


def test_the_allocation_of_a_batch_system_is_imported(hosts, desk):
    run = desk.run("import", "--from", "slurm", env={"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "8(x2)",
                                                     "SLURM_NTASKS": "16"})
    assert run.status == 0, str(run)
    assert desk.written()["num_processes"] == 16


def test_an_accelerate_file_is_imported_with_its_hosts_and_environment(hosts, desk):
    accelerate = ("compute_environment: LOCAL_MACHINE  # mine\ndistributed_type: MULTI_GPU\nnum_machines: 2\n"
                  "num_processes: 16\nrdzv_backend: c10d\nsame_network: true\nmixed_precision: bf16\n")
    (desk.folder / "acc.yaml").write_text(accelerate)
    (desk.folder / "hostfile").write_text("n1 slots=8\nn2 slots=8\n")
    (desk.folder / ".deepspeed_env").write_text("NCCL_DEBUG=WARN\nHF_TOKEN=sesame-oil\n")
    run = desk.run("import", "acc.yaml", "hostfile", ".deepspeed_env", "-o", "out.yaml")
    assert run.status == 0, str(run)
    assert "acc.yaml:5:1: accelerate launch never used rdzv_backend" in run.err, str(run)
    assert "the value of HF_TOKEN is not written" in run.err, str(run)
    text = (desk.folder / "out.yaml").read_text()
    assert text.startswith(accelerate) and "sesame-oil" not in text + run.err + run.out
    assert desk.written("out.yaml")["llmlaunch"] == {"hosts": [{"name": "n[1-2]", "slots": 8}],
                                                     "env": {"NCCL_DEBUG": "WARN"}, "forward_env": ["HF_TOKEN"]}
    assert "16 ranks on 2 hosts" in desk.plans("out.yaml")


def test_a_dollar_of_an_imported_value_is_the_same_dollar_for_the_ranks(hosts, desk):
    values = {"A": "lit$HOME", "B": "${HOME}", "C": "x$$y", "D": "5$"}
    (desk.folder / ".deepspeed_env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    run = desk.run("import", ".deepspeed_env", "-o", "out.yaml")
    assert run.status == 0, str(run)
    plan = desk.plans("out.yaml")
    for name, value in values.items():
        assert f" {name}='{value}'\n" in plan, plan


def test_files_that_do_not_agree_are_not_written(hosts, desk):
    (desk.folder / "acc.yaml").write_text("num_machines: 3\nnum_processes: 6\n")
    (desk.folder / "hostfile").write_text("n1 slots=8\nn2 slots=8\n")
    run = desk.run("import", "acc.yaml", "hostfile")
    assert run.status == 78 and not (desk.folder / "llmlaunch.yaml").exists(), str(run)
    run = desk.run("import", "hostfile", "hostfile")
    assert run.status == 64 and "names hosts, and so does" in run.err, str(run)
    run = desk.run("import", "nowhere")
    assert run.status == 78 and "nowhere" in run.err, str(run)
