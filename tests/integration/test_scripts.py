"""The scripts that people and tests rely on: pretend hosts come up, answer, go, and take with them what was started."""
import os
import pathlib
import signal
import socket
import subprocess

import pytest
import yaml

from conftest import ROOT, processes_with, wait_until

SCRIPT = str(ROOT / "scripts" / "test_hosts.sh")


@pytest.fixture(autouse=True)
def programs():
    """These tests need no program of ours."""


@pytest.fixture
def directory(tmp_path):
    yield tmp_path / "hosts"
    subprocess.run(["bash", SCRIPT, "down", "--dir", str(tmp_path / "hosts")], capture_output=True, timeout=60)


def script(*arguments, expect=0):
    ended = subprocess.run(["bash", SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == expect, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def ssh(directory, host, *command, **more):
    return subprocess.Popen(
        ["ssh", "-F", "none", "-n", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={directory}/known_hosts",
         "-i", f"{directory}/user_key", "-o", "IdentitiesOnly=yes", "-p", str(host["port"]), host["address"], *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def test_hosts_come_up_answer_the_ssh_program_and_go(directory):
    script("up", 3, "--dir", directory, "--slots", 2)
    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert config["num_machines"] == 3 and config["num_processes"] == 6
    hosts = config["llmlaunch"]["hosts"]
    assert [host["name"] for host in hosts] == ["test01", "test02", "test03"]
    for host in hosts:
        out, err = ssh(directory, host, "echo $HOME").communicate(timeout=30)
        assert out.strip() == f"{directory}/{host['name']}/home", err
    assert script("status", "--dir", directory).count(" up, pid ") == 3
    script("down", "--dir", directory)
    assert not directory.exists()
    for host in hosts:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host["address"], host["port"]), 5)
    script("status", "--dir", directory, expect=1)
    assert "nothing to stop" in script("down", "--dir", directory)


def test_a_dead_host_is_seen_by_status(directory):
    script("up", 2, "--dir", directory)
    pid = int((directory / "test02" / "sshd.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}/exe").exists(), "the sshd's end")
    text = script("status", "--dir", directory, expect=1)
    assert "test01" in text and "test02" in text and text.count("DOWN") == 1


def test_sessions_and_orphans_end_with_the_hosts(directory):
    script("up", 1, "--dir", directory)
    host = yaml.safe_load((directory / "config.yaml").read_text())["llmlaunch"]["hosts"][0]
    session = ssh(directory, host, "(setsid sleep 600 >/dev/null 2>&1 </dev/null &); echo here; exec sleep 601")
    assert session.stdout.readline() == "here\n"
    mark = f"LLMLAUNCH_TEST_HOSTS={directory}"
    wait_until(lambda: {line.strip() for line in processes_with(mark).values()} >= {"sleep 600", "sleep 601"}, "both sleeps")
    text = script("down", "--dir", directory)
    assert "left over on a host" in text and "sleep 600" in text
    assert processes_with(mark) == {}
    session.communicate(timeout=30)
    assert session.returncode == 255


def test_two_sets_of_hosts_at_once(directory, tmp_path):
    script("up", 2, "--dir", directory, "--port", 21987)
    other = tmp_path / "other"
    script("up", 2, "--dir", other, "--port", 21987)
    try:
        ports = [host["port"] for where in (directory, other)
                 for host in yaml.safe_load((where / "config.yaml").read_text())["llmlaunch"]["hosts"]]
        assert len(set(ports[:2]) & set(ports[2:])) == 0, ports
        script("status", "--dir", directory)
        script("status", "--dir", other)
    finally:
        script("down", "--dir", other)
    script("status", "--dir", directory)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    other = tmp_path / "mine"
    other.mkdir()
    (other / "file").write_text("precious")
    assert "was not made by this script" in script("down", "--dir", other, expect=1)
    assert "is there already" in script("up", 1, "--dir", other, expect=1)
    assert (other / "file").read_text() == "precious"


@pytest.mark.parametrize("arguments", [[], ["up"], ["up", "0"], ["up", "x"], ["down", "--what"], ["up", "1", "--slots", "0"]])
def test_wrong_usage_is_64(arguments):
    assert "scripts/test_hosts.sh up N" in script(*arguments, expect=64)


def junit(file, *cases):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("<testsuite>" + "".join(
        f'<testcase name="{name}" status="{status}">{body}</testcase>' for name, status, body in cases) + "</testsuite>")


def test_the_sum_counts_python_tests_in_place_of_their_file(tmp_path):
    results = tmp_path / "release" / "test-results"
    junit(results / "ctest.xml", ("unit_a", "run", ""), ("integration_b", "run", ""), ("unit_c", "notrun", ""))
    junit(results / "integration_b.xml", ("one", "", ""), ("two", "", ""), ("three", "", "<skipped/>"))
    program = ["python3", str(ROOT / "tests" / "support" / "sum_results.py")]

    def total(*arguments):
        ended = subprocess.run(program + list(arguments) + [str(results)], capture_output=True, text=True)
        return ended.returncode, ended.stdout.splitlines()[-1]

    assert total() == (0, "3 passed, 0 failed, 2 skipped")
    assert total("--add-failed", "1") == (1, "3 passed, 1 failed, 2 skipped")
    junit(results / "ctest.xml", ("unit_a", "fail", "<failure/>"), ("integration_b", "fail", "<failure/>"))
    assert total() == (1, "2 passed, 2 failed, 1 skipped")
    (results / "ctest.xml").unlink()
    assert total() == (1, "0 passed, 1 failed, 0 skipped")
