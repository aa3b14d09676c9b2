"""`llmlaunch config import` and `update`: what is typed beside the files counts, or is refused; nothing is passed over."""
import pytest

from test_wizard import desk  # noqa: F401 (a fixture)

HOSTS = 1


@pytest.fixture
def files(desk):  # noqa: F811
    (desk.folder / "h.ds").write_text("n1 slots=8\nn2 slots=8\n")
    (desk.folder / "acc.yaml").write_text("num_machines: 2\nnum_processes: 8\nmixed_precision: bf16\n")
    (desk.folder / "answers.yaml").write_text("port: 2222\nsetup: [module load cuda, ulimit -n 100]\n")
    return desk


def test_answers_beside_a_list_of_hosts_are_written(files):
    run = files.run("import", "h.ds", "--slots", "4", "--port", "2222", "--user", "me", "-i", "~/.ssh/k", "--setup", "a; b",
                    "--forward-env", "HF_*,WANDB_MODE", "--log-dir", "l", "--workdir", "/w", "--main-process-ip", "10.0.0.1",
                    "--interface", "ib0", "--mixed-precision", "bf16")
    assert run.status == 0, str(run)
    data = files.written()
    assert (data["num_processes"], data["main_process_ip"], data["mixed_precision"]) == (8, "10.0.0.1", "bf16")
    assert data["llmlaunch"] == {
        "hosts": [{"name": "n[1-2]", "slots": 4}], "ssh": {"user": "me", "port": 2222, "identity_file": "~/.ssh/k"},
        "env": {"NCCL_SOCKET_IFNAME": "=ib0", "GLOO_SOCKET_IFNAME": "ib0"}, "forward_env": ["HF_*", "WANDB_MODE"],
        "setup": ["a", "b"], "workdir": "/w", "log_dir": "l"}
    files.plans()


def test_a_file_of_answers_counts_as_well(files):
    run = files.run("import", "h.ds", "--answers", "answers.yaml")
    assert run.status == 0, str(run)
    data = files.written()["llmlaunch"]
    assert data["ssh"] == {"port": 2222} and data["setup"] == ["module load cuda", "ulimit -n 100"]


def test_hosts_may_be_typed_for_an_accelerate_file(files):
    run = files.run("import", "acc.yaml", "-w", "n[1-2]", "--slots", "4", "--port", "2222")
    assert run.status == 0, str(run)
    assert files.written()["llmlaunch"] == {"hosts": [{"name": "n[1-2]", "slots": 4}], "ssh": {"port": 2222}}
    assert "8 ranks on 2 hosts" in files.plans()


@pytest.mark.parametrize("words, said", [
    (["h.ds", "--port", "0"], "--port: a port is a number from 1 to 65535, not '0'"),
    (["h.ds", "--slots", "n3=4"], "--slots: "),
    (["h.ds", "-w", "n3"], "--hosts names hosts, and so does h.ds"),
    (["acc.yaml", "--port", "22"], "--port: there are no hosts that it could be for"),
    (["acc.yaml", "--slots", "4"], "--slots: there are no hosts that it could be for"),
    (["acc.yaml", "--mixed-precision", "no"], "--mixed-precision: acc.yaml stays as it is, also its mixed_precision"),
    (["h.ds", "--keep-unreachable"], "config import takes no --keep-unreachable"),
    (["h.ds", "--accept-new-host-keys"], "config import takes no --accept-new-host-keys"),
])
def test_what_import_cannot_take_is_refused(files, words, said):
    run = files.run("import", *words)
    assert run.status == 64 and said in run.err, str(run)
    assert not (files.folder / "llmlaunch.yaml").exists()


@pytest.mark.parametrize("words", [["--port", "22"], ["--slots", "4"], ["-w", "n1"], ["--hostfile", "h.ds"],
                                   ["--answers", "answers.yaml"], ["--keep-unreachable"], ["--accept-new-host-keys"]])
def test_update_takes_no_answers(files, words):
    before = (files.folder / "acc.yaml").read_text()
    run = files.run("update", "acc.yaml", *words)
    flag = {"-w": "--hosts"}.get(words[0], words[0])
    assert run.status == 64 and f"config update takes no {flag}" in run.err, str(run)
    assert (files.folder / "acc.yaml").read_text() == before
