"""All or nothing, to the last moment: a host that falls out between ready and go rolls all others back."""
import os
import signal

import pytest

from conftest import children_of, kill_all, wait_until
from test_faults import agent_and_watchman
from test_roll_call import Screen, gate_of, open_gate, with_terminal

HOSTS = 3


@pytest.fixture
def waiting(hosts):
    """(run, screen, go): test01 and test02 are ready, and test03's login shell waits until go()."""
    place = hosts.head / f"started-{len(hosts.runs)}"
    place.mkdir()

    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": 4, "grace": 1}

    gate = gate_of(hosts, "test03")
    screen = Screen(columns=200)
    run = with_terminal(hosts, screen, "touch", f"{place}/started-anyway", config=hosts.config(change))
    run.place = place
    wait_until(lambda: screen.rows[-1].startswith("llmlaunch: 1 starting agent, 2 ready"), f"two ready hosts: {screen.rows}")
    yield run, screen, lambda: open_gate(hosts, "test03", gate)
    if gate.exists():  # the test failed
        run.process.kill()
        gate.unlink()
        (hosts.home("test03") / ".bashrc").unlink()
    screen.close()


def rolled_back(hosts, run, screen, host):
    """No rank was started anywhere, the host is named with its place, and nothing is left."""
    run.finish(60)
    wait_until(lambda: "   no rank was started on any host" in screen.rows, f"the story's end: {screen.rows}")
    rows = [row for row in screen.rows if row.startswith("llmlaunch: error: ")]
    assert run.status == 69 and len(rows) == 1, screen.rows
    assert f"error: host {host} (node_rank " in rows[0], screen.rows
    assert not list(run.place.iterdir()), "a rank was started"
    return rows[0]


def end_of_agent(hosts):
    os.kill(agent_and_watchman(hosts, "test02")[0], signal.SIGKILL)


def end_of_connection(hosts):
    for pid in children_of(hosts.sshd_pid("test02")):
        os.kill(pid, signal.SIGKILL)


def end_of_all(hosts):
    """As by an administrator who logs the user out."""
    kill_all([*children_of(hosts.sshd_pid("test02")), *hosts.processes_on("test02")])


@pytest.mark.parametrize("end", [end_of_agent, end_of_connection, end_of_all], ids=["agent", "connection", "everything"])
def test_a_ready_host_that_falls_out_before_go_rolls_all_back(hosts, waiting, end):
    run, screen, go = waiting
    end(hosts)
    wait_until(lambda: "1 ready, 1 failed" in screen.rows[-1], f"its end in the roll call: {screen.rows}")
    assert run.process.poll() is None, "the last host has not answered yet"
    go()
    rolled_back(hosts, run, screen, "test02")
    hosts.nothing_left(run, within=15)


def test_a_ready_host_that_falls_silent_before_go_rolls_all_back(hosts, waiting):
    """Its agent stands still, as on a machine that hangs: no stream ends."""
    run, screen, go = waiting
    agents = agent_and_watchman(hosts, "test02")
    for pid in agents:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: "1 ready, 1 failed" in screen.rows[-1], f"its end in the roll call: {screen.rows}")
    go()
    assert "not a byte from it within 4 s" in rolled_back(hosts, run, screen, "test02"), screen.rows
    for pid in agents:
        os.kill(pid, signal.SIGCONT)
    hosts.nothing_left(run, within=15)


def test_ctrl_c_before_go_starts_nothing(hosts, waiting):
    run, screen, go = waiting
    os.kill(run.pid, signal.SIGINT)
    run.finish(60)
    go()
    assert run.status == 130, screen.rows
    wait_until(lambda: "llmlaunch: error: interrupted by SIGINT" in screen.rows, f"the story: {screen.rows}")
    assert not list(run.place.iterdir()), "a rank was started"
    hosts.nothing_left(run, within=15)
