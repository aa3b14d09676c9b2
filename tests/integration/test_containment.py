"""Programs that try to get away: a fork bomb in sessions of its own, daemons. A host in a network namespace, its
processes bounded by a cgroup's pids.max. Needs root."""
import os
import pathlib
import re

import pytest

from conftest import MARK, PYTHON, wait_until

HOSTS = 1
HOST_OPTIONS = ["--netns"]
MOST = 150  # processes that the host may have

BOMB = r"""
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("up", flush=True)
os.close(1)
os.close(2)
while True:  # every process forks for ever; who cannot tries again
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        time.sleep(0.001)
"""

DAEMON = r"""
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("daemon", flush=True)
        os.close(1)
        os.close(2)
        while True:
            time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600 if sys.argv[1] == "stay" else 0)
"""


class Pids:
    """A cgroup with a number of processes, in whichever version of cgroups has the controller here."""

    def __init__(self, most):
        for top in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
            self.path = pathlib.Path(top) / f"llmlaunch-test-{os.getpid()}"
            try:
                self.path.mkdir()
            except OSError:
                continue
            try:
                (self.path / "pids.max").write_text(str(most))
                return
            except OSError:
                self.path.rmdir()
        pytest.skip("no cgroup with a limit of processes can be made here")

    def add(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    def count(self):
        return int((self.path / "pids.current").read_text())


@pytest.fixture(scope="module")
def bounded(hosts):
    pids = Pids(MOST)
    pids.add(hosts.sshd_pid("test01"))
    yield pids
    top = pids.path.parent / "cgroup.procs"
    for pid in (pids.path / "cgroup.procs").read_text().split():
        top.write_text(pid)  # the sshd, for `down`
    pids.path.rmdir()


def cgroups_of(run):
    """Those of this run's job, wherever they are."""
    job = re.search(r"logs in \S*/(\S+)$", run.err, re.M).group(1)
    return [str(path) for path in pathlib.Path("/sys/fs/cgroup").rglob(f"llmlaunch-{job}-*") if path.is_dir()]


@pytest.mark.parametrize("grace", [1, 0])
def test_a_fork_bomb_in_sessions_of_its_own_is_gone_at_the_end(hosts, bounded, grace):
    def change(data):
        data["llmlaunch"]["timeouts"] = {"grace": grace}

    run = hosts.start(PYTHON, "-c", BOMB, config=hosts.config(change))
    run.said("up")
    wait_until(lambda: bounded.count() >= MOST - 5, f"a host full of processes: {bounded.count()}\n{run}", 60)
    os.kill(run.pid, 15)
    run.finish(60)
    assert run.status == 143, str(run)
    hosts.nothing_left(run, within=10)
    assert cgroups_of(run) == []


def test_kill_9_of_the_agent_ends_a_fork_bomb_too(hosts, bounded):
    run = hosts.start(PYTHON, "-c", BOMB)
    run.said("up")
    wait_until(lambda: bounded.count() >= MOST - 5, f"a host full of processes: {bounded.count()}\n{run}", 60)
    agents = [pid for pid, command in hosts.processes().items() if "agent" in command.split()[0]]
    assert len(agents) == 2, agents  # the agent below its watchman
    os.kill(max(agents), 9)
    run.finish(60)
    assert run.status == 69, str(run)
    hosts.nothing_left(run, within=20)
    assert cgroups_of(run) == []


@pytest.mark.parametrize("main", ["stay", "end"])
def test_a_double_fork_with_a_session_of_its_own_does_not_get_away(hosts, bounded, main):
    def change(data):
        data["llmlaunch"]["timeouts"] = {"grace": 1}

    run = hosts.start(PYTHON, "-c", DAEMON, main, config=hosts.config(change))
    run.said("daemon")
    if main == "stay":
        os.kill(run.pid, 2)
    run.finish(60)
    assert run.status == (130 if main == "stay" else 0), str(run)
    hosts.nothing_left(run, within=10)
    assert cgroups_of(run) == []


def test_a_fork_bomb_on_this_machine_ends_with_its_cgroup(hosts, bounded):
    """Where /sys is whole (a namespace of `ip netns` has none of cgroups), the agent may make the job a cgroup."""
    config = f"llmlaunch:\n  forward_env: [{MARK}]\n  log_dir: {hosts.directory}/logs\n  timeouts: {{grace: 0}}\n"
    script = f'echo $$ >"{bounded.path}/cgroup.procs"; exec {PYTHON} -c "$0"'
    run = hosts.start("sh", "-c", script, BOMB, config=config)
    run.said("up")
    wait_until(lambda: bounded.count() >= MOST - 5, f"a host full of processes: {bounded.count()}\n{run}", 60)
    if any(pathlib.Path(f"/sys/fs/cgroup/{place}cgroup.procs").exists() for place in ("", "unified/")):
        assert len(cgroups_of(run)) == 1, "the job has one"
    os.kill(run.pid, 15)
    run.finish(60)
    assert run.status == 143, str(run)
    hosts.nothing_left(run, within=10)
    assert cgroups_of(run) == []
