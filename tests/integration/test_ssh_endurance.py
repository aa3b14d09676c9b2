"""Sessions that live long: keys that are exchanged anew in the middle, and a llmlaunch that stands still meanwhile."""
import os
import shutil
import signal
import socket
import threading
import time

import yaml

from conftest import PYTHON, SCALE, wait_until
from test_ssh import Door, through
from test_ssh_ways import behind

HOSTS = 2
LINES = 200_000 // SCALE
PROGRAM = f"import sys\nfor i in range({LINES}): sys.stdout.write('%063d\\n' % i)"


def whole(run):
    """The lines of the one rank, all of them and in order."""
    lines = [line.partition("] ")[2] for line in run.out.splitlines()]
    return lines == ["%063d" % i for i in range(LINES)]


def on(hosts, sshd, **ssh):
    """The text of a configuration for this sshd alone."""
    data = yaml.safe_load(behind(hosts, [sshd], only=("test02",), **ssh))
    data["llmlaunch"]["hosts"] = [sshd.as_host()]
    return yaml.safe_dump(data, sort_keys=False)


def test_an_sshd_that_wants_new_keys_again_and_again_loses_no_byte(hosts, extra_sshd):
    """13 MB down, and the agent up: its cache is emptied before."""
    shutil.rmtree(hosts.home("test01") / ".cache", ignore_errors=True)
    sshd = extra_sshd("RekeyLimit 256K")
    run = hosts.run(PYTHON, "-c", PROGRAM, config=on(hosts, sshd))
    assert run.status == 0 and whole(run), str(run)
    assert sshd.said("SSH2_MSG_NEWKEYS sent") > 10, "keys were exchanged anew"
    hosts.nothing_left(run)


def test_so_does_a_jump_host_with_several_hosts_behind_it(hosts, extra_sshd):
    jump = extra_sshd("RekeyLimit 256K")
    run = hosts.run(PYTHON, "-c", PROGRAM, config=behind(hosts, [jump], only=("test01", "test02"), proxy_jump=jump.name))
    assert run.status == 0, str(run)
    for rank in (0, 1):
        lines = [line.partition("] ")[2] for line in run.out.splitlines() if line.startswith(f"[rank {rank} ")]
        assert lines == ["%063d" % i for i in range(LINES)], f"rank {rank}: {len(lines)} lines"
    assert jump.said("SSH2_MSG_NEWKEYS sent") > 10, "keys were exchanged anew"
    hosts.nothing_left(run)


def test_time_in_which_llmlaunch_stands_still_is_no_hosts_fault(hosts):
    """Ctrl-Z while hosts log in: the deadlines of the login are over when it goes on, and nobody could have kept them."""
    come, go = threading.Event(), threading.Event()

    def hold(connection, number):
        connection.recv(4, socket.MSG_PEEK)  # its banner: it waits for ours
        come.set()
        return go.wait(60)

    door = Door(("127.0.0.3", hosts.port("test02")), hold)
    data = yaml.safe_load(through(hosts, door))
    data["llmlaunch"]["timeouts"] = {"connect": 2}
    run = hosts.start("echo", "in", config=yaml.safe_dump(data, sort_keys=False))
    assert come.wait(30), str(run)
    os.kill(run.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    wait_until(lambda: time.monotonic() > stopped + 4, "twice the deadline")
    os.kill(run.pid, signal.SIGCONT)
    go.set()
    run.finish()
    door.close()
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    hosts.nothing_left(run)
