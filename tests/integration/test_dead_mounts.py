"""Programs on a file system that answers no more: the agent goes on answering, and the program is named with its host."""
import signal

import pytest

from conftest import wait_until
from dead_mount import LOOKUP, DeadMount
from test_faults import headline

HOSTS = 2


@pytest.fixture
def dead_mount(hosts):
    """make(killable): a DeadMount, which is gone after the test."""
    mounts = []

    def make(**how):
        directory = hosts.head / f"mount-{len(hosts.runs)}"
        directory.mkdir()
        try:
            mounts.append(DeadMount(directory, **how))
        except OSError as error:
            pytest.skip(f"no FUSE mount can be made here: {error}")
        return mounts[-1]

    yield make
    for mount in mounts:
        mount.close()


def with_one_dead(hosts, mount, **timeouts):
    """The configuration in which one program name is a script on test01 and hangs on test02."""
    alive = hosts.head / "alive"
    alive.mkdir(exist_ok=True)
    program = alive / "prog"
    program.write_text('#!/bin/sh\necho it runs\n[ -z "$RANK" ] || exec sleep 1000\n')  # RANK: not of exec
    program.chmod(0o755)

    def change(data):
        data["llmlaunch"]["timeouts"] = timeouts
        for host, directory in zip(data["llmlaunch"]["hosts"], (str(alive), mount.directory)):
            host["env"] = {"PATH": f"{directory}:/usr/bin:/bin"}

    return hosts.config(change)


def start_with_one_dead(hosts, mount, **timeouts):
    run = hosts.start("prog", config=with_one_dead(hosts, mount, **timeouts))
    wait_until(mount.reached.is_set, f"an exec that hangs: {run}")
    run.said("it runs")
    return run


def test_an_exec_that_hangs_is_told_with_its_host_and_program_while_the_agent_goes_on_answering(hosts, dead_mount):
    """timeouts.head is shorter than the wait: an agent that did not answer would be lost before."""
    mount = dead_mount()
    run = start_with_one_dead(hosts, mount, start=6, head=2, grace=60)
    run.finish(30)
    assert run.status == 69, str(run)
    assert headline(run) == (f"llmlaunch: error: rank 1 (test02) could not be started: exec of '{mount.program}' did not end "
                             "within 6 s"), str(run)
    assert ("\n   hint: the file system that it lies on, or that its interpreter or loader lies on, does not answer; `stat` on "
            "the host hangs as well then. llmlaunch.timeouts.start is how long an exec may take\n") in run.err, str(run)
    assert "\n   1 rank stopped by llmlaunch\n" in run.err, str(run)
    hosts.nothing_left(run)


def test_ctrl_c_ends_a_job_while_an_exec_hangs(hosts, dead_mount):
    run = start_with_one_dead(hosts, dead_mount(), start=600, grace=600)
    run.process.send_signal(signal.SIGINT)
    run.finish(30)
    assert run.status == 130, str(run)
    hosts.nothing_left(run)


def test_what_not_even_sigkill_ends_is_said_to_be_left_and_ends_with_the_mount(hosts, dead_mount):
    mount = dead_mount(killable=False)
    run = start_with_one_dead(hosts, mount, start=2, head=2, grace=1)
    run.finish(60)
    assert run.status == 69, str(run)
    assert f"test02) could not be started: exec of '{mount.program}' did not end within 2 s" in headline(run), str(run)
    assert "\n   processes may be left on test02: " in run.err, str(run)
    mount.close()
    hosts.nothing_left(run, within=10)


def test_a_look_for_the_program_that_hangs_ends_at_the_time_for_the_start(hosts, dead_mount):
    """This look is the agent's own: it stands still, and the host is named with what may be the reason."""
    mount = dead_mount(hangs=LOOKUP)
    run = hosts.run("prog", config=with_one_dead(hosts, mount, start=3))
    assert run.status == 69, str(run)
    assert headline(run) == ("llmlaunch: error: host test02 (node_rank 1, rank 1): its agent was not ready within 3 s"), str(run)
    assert ("\n   no rank was started on any host\n   hint: a file system there may not answer, that of the program or of the "
            "working directory; a slow host may need more: llmlaunch.timeouts.start\n") in run.err, str(run)
    mount.close()
    hosts.nothing_left(run, within=10)


def test_an_exec_on_many_hosts_names_the_one_whose_program_hangs(hosts, dead_mount):
    mount = dead_mount()
    run = hosts.start("prog", config=with_one_dead(hosts, mount, start=3), command="exec")
    wait_until(mount.reached.is_set, f"an exec that hangs: {run}")
    run.finish(30)
    assert run.status == 69, str(run)
    assert headline(run) == "llmlaunch: error: 1 of 2 hosts failed", str(run)
    assert f"\n   cannot start: test02: exec of '{mount.program}' did not end within 3 s\n      hint: the file " in run.err, str(run)
    assert "it runs" in run.out, str(run)
    hosts.nothing_left(run)
