"""Hosts on networks of their own whose cable is pulled, or whose power: no stream ends, nothing is refused, there is
only silence. Needs root."""
import re
import subprocess
import time

import pytest

from conftest import PYTHON, SCALE, children_of, kill_all, wait_until
from test_faults import headline
from test_reconnect import COUNTING, complete, patient

HOSTS = 2
HOST_OPTIONS = ["--netns"]


class Cable:
    """The head's end of the cable to a host."""

    def __init__(self, hosts, name):
        self.end = f"{(hosts.directory / 'netns').read_text().strip()}v{int(name[4:])}"

    def pull(self):
        subprocess.run(["ip", "link", "set", self.end, "down"], check=True)

    def plug(self):
        subprocess.run(["ip", "link", "set", self.end, "up"], check=True)


@pytest.fixture
def cable(hosts):
    made = Cable(hosts, "test02")
    yield made
    made.plug()


def running(hosts, **more):
    run = hosts.start("sh", "-c", "echo up; exec sleep 600", **more)
    wait_until(lambda: run.out.count("up") == 2, f"both ranks\n{run}")
    return run


@pytest.mark.parametrize("power", [False, True], ids=["cable", "power"])
def test_a_host_that_vanishes_is_lost_in_its_time_and_nothing_of_the_job_lives_on(hosts, cable, power):
    """Both sides come to the same end without hearing of each other: the head by silence, the agent by its lease."""
    run = running(hosts, config=hosts.config(patient(head=3, grace=1)))
    cable.pull()
    pulled = time.monotonic()
    if power:
        kill_all([*hosts.processes_on("test02"), *children_of(hosts.sshd_pid("test02"))])
    run.finish(60)
    assert run.status == 69, str(run)
    assert re.search(r"error: host test02 \(node_rank 1, rank 1\): connection lost: not a byte from it within 1\.5 s; it could "
                     r"not be reached again within \d s", headline(run)), str(run)
    assert "   1 rank stopped by llmlaunch, 1 rank lost with its connection\n" in run.err, str(run)
    # head (3 s) of silence, then the grace (1 s) for the others; TCP itself would take a quarter of an hour.
    assert time.monotonic() - pulled < 3 + 1 + 4 * (3 if SCALE > 1 else 1), str(run)
    assert not hosts.processes_on("test01"), "the other host's ranks were stopped"
    wait_until(lambda: not hosts.processes_on("test02"), f"the lease's end: {hosts.processes_on('test02')}")
    cable.plug()
    hosts.nothing_left(run, within=20)


def test_a_cable_that_is_plugged_in_again_costs_no_line(hosts, cable):
    """Longer than half of timeouts.head, so that the connection is given up and made anew as soon as there is a way."""
    run = hosts.start(PYTHON, "-c", COUNTING, env={"TEST_DIR": str(hosts.head)}, options=["--env", "TEST_DIR"],
                      config=hosts.config(patient(head=6)))
    run.said("1 line")
    cable.pull()
    run.said("host test02 (node_rank 1, rank 1): connection lost: not a byte from it within 3 s; connecting again for ")
    cable.plug()
    run.said("connected again after")
    seen = run.out.count("1 line")
    wait_until(lambda: run.out.count("1 line") > seen, "more lines")
    (hosts.head / "enough").touch()
    run.finish(60)
    (hosts.head / "enough").unlink()
    assert run.status == 0, str(run)
    for rank in range(2):
        lines, errors = complete(run.out, rank, "line"), complete(run.err, rank, "error")
        assert f"{rank} wrote {lines}\n" in run.out and errors == lines, str(run)
    hosts.nothing_left(run, within=20)


def test_server_alive_interval_of_the_ssh_configuration_notices_silence_before_llmlaunch_does(hosts, cable):
    """A second without an answer, three times; half of timeouts.head would be half an hour."""
    file = hosts.head / "ssh_config-alive"
    file.write_text("Host *\n  ServerAliveInterval 1\n")

    def change(data):
        patient(head=3600)(data)
        data["llmlaunch"]["ssh"]["config_file"] = str(file)

    run = hosts.start(PYTHON, "-c", COUNTING, env={"TEST_DIR": str(hosts.head)}, options=["--env", "TEST_DIR"],
                      config=hosts.config(change))
    run.said("1 line")
    cable.pull()
    run.said("host test02 (node_rank 1, rank 1): connection lost: ")
    assert "not a byte from it" not in run.err, str(run)
    cable.plug()
    run.said("connected again after")
    (hosts.head / "enough").touch()
    run.finish(60)
    (hosts.head / "enough").unlink()
    assert run.status == 0, str(run)
    for rank in range(2):
        assert f"{rank} wrote {complete(run.out, rank, 'line')}\n" in run.out, str(run)
    hosts.nothing_left(run, within=20)


def test_a_host_without_a_cable_starts_nothing_and_costs_one_connect_deadline(hosts, cable):
    cable.pull()

    def change(data):
        data["llmlaunch"]["timeouts"] = {"connect": 1}

    run = hosts.run("echo", "started-anyway", config=hosts.config(change))
    address = hosts.base["llmlaunch"]["hosts"][1]["address"]
    assert run.status == 69 and f"test02 (node_rank 1, rank 1): no answer from {address}:22 within 1 s" in headline(run), str(run)
    assert run.seconds < 6 * (3 if SCALE > 1 else 1), f"{run.seconds:.1f} s"
    assert "started-anyway" not in run.out, str(run)
    hosts.nothing_left(run)
