"""Machines that are started one by one, when something is in their way: signals to several of them, names that lead
nowhere, machines that are refused. The usual course is in test_per_node.py."""
import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import struct

import pytest

from conftest import PYTHON
from machines import catches, ended, machines  # noqa: F401 (a fixture)

# Takes SIGTERM for "save", and ends when the test says so.
SAVE = """
import os, signal, sys, time
def save(*_):
    print("saving", flush=True)
    while not os.path.exists(sys.argv[1]): time.sleep(0.01)
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True: time.sleep(600)
"""
# Ends when it has had all the signals that it is given.
HEAR = """
import signal, sys, time
heard = set()
def note(number, _):
    heard.add(number)
    print("heard", number, flush=True)
wanted = {int(word) for word in sys.argv[1:]}
for number in wanted: signal.signal(number, note)
print("ready", flush=True)
while heard != wanted: time.sleep(0.01)
"""
STUBBORN = 'test $RANK = 1 && trap "" TERM; echo ready; exec sleep 600'


def both_say(run, text):
    for rank in (0, 1):
        run.said(f"[rank {rank} machine{rank}] {text}")


# --- signals -----------------------------------------------------------------------------------------------------------


def test_a_signal_to_all_machines_at_once_leaves_the_ranks_their_grace(machines):
    """As scancel sends it, and `systemctl stop` everywhere."""
    go = machines.top / "go"
    runs = machines.start_all(PYTHON, "-c", SAVE, str(go), options=["--set", "llmlaunch.timeouts.grace=600"])
    both_say(runs[0], "ready")
    runs[0].process.send_signal(signal.SIGTERM)
    runs[0].said("caught SIGTERM: stopping 2 ranks")
    runs[1].process.send_signal(signal.SIGTERM)
    runs[0].said("caught SIGTERM on machine 1")
    both_say(runs[0], "saving")
    go.touch()
    text = ended(runs, 143, 143)
    assert runs[0].out.count("saved") == 2, text
    machines.nothing_left()


def test_a_machine_that_was_interrupted_before_it_joined_joins_no_more(machines):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", machines.port))
        listener.listen()
        early = machines.start(1, "true", options=["--set", "llmlaunch.timeouts.grace=600"])
        for _ in range(6):  # after the sixth it waits for two seconds
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    early.process.send_signal(signal.SIGINT)
    first = machines.start(0, "echo", "done")
    first.said("rendezvous")
    assert "interrupted by SIGINT before machine 0 had answered" in ended([early], 130)
    text = ended([first, machines.start(1, "echo", "done")], 0, 0)
    assert first.out.count("done") == 2, text
    assert "has joined" not in early.err, early
    machines.nothing_left()


def test_the_second_signal_leaves_the_job_at_once_and_its_ranks_get_no_grace(machines):
    runs = machines.start_all("sh", "-c", STUBBORN, options=["--set", "llmlaunch.timeouts.grace=600"])
    both_say(runs[0], "ready")
    runs[0].process.send_signal(signal.SIGSTOP)
    try:
        runs[1].process.send_signal(signal.SIGINT)
        runs[1].said("caught SIGINT: machine 0 stops the job (once more: leave it at once)")
        runs[1].press_again(signal.SIGINT)
        text = ended([runs[1]], 130)
    finally:
        runs[0].process.send_signal(signal.SIGCONT)
    assert "llmlaunch: error: interrupted by SIGINT\n" in text
    ended([runs[0]], 130)
    machines.nothing_left()


def test_signals_for_the_ranks_reach_them_from_every_machine_and_stop_nothing(machines):
    numbers = [signal.SIGHUP, signal.SIGRTMIN + 1, signal.SIGUSR1]
    runs = machines.start_all(PYTHON, "-c", HEAR, *[str(int(number)) for number in numbers],
                              options=["--forward-signal", "HUP", "--forward-signal", "RTMIN+1"])
    both_say(runs[0], "ready")
    for number in numbers:
        runs[1].process.send_signal(number)
        both_say(runs[0], f"heard {int(number)}")
    ended(runs, 0, 0)
    machines.nothing_left()


def test_a_signal_that_only_another_machine_would_forward_is_named_and_stops_nothing(machines):
    first = machines.start(0, PYTHON, "-c", HEAR, "10")
    second = machines.start(1, PYTHON, "-c", HEAR, "10", options=["--forward-signal", "RTMIN+1"])
    both_say(first, "ready")
    second.process.send_signal(signal.SIGRTMIN + 1)
    first.said("has no effect: it is not among llmlaunch.forward_signals of machine 0")
    second.process.send_signal(signal.SIGUSR1)
    ended([first, second], 0, 0)


# --- the way to machine 0 ----------------------------------------------------------------------------------------------


@pytest.fixture
def etc(machines):
    """under(file, text): words before a command for which /etc/<file> has this text."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a file of /etc for one process needs root and unshare")

    def under(file, text):
        mine = machines.top / file
        mine.write_text(text)
        return ["unshare", "--mount", "sh", "-c", f'mount --bind "$0" /etc/{file} && exec "$@"', str(mine)]

    return under


class Silence:
    """A listener whose queue is full: the kernel drops what else wants to connect, as a firewall would."""

    def __init__(self, address):
        self.listener = socket.socket()
        self.listener.bind(address)
        self.listener.listen(0)
        self.fillers = []
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            self.fillers.append(filler)

    def close(self):
        for one in (self.listener, *self.fillers):
            one.close()


def test_a_name_whose_first_address_is_silent_leads_to_machine_0(machines, etc):
    silence = Silence(("127.0.0.1", machines.port))  # which the C library sorts before the other
    options = ["--set", "llmlaunch.timeouts.connect=600"]
    try:
        first = machines.start(0, "echo", "done", address="127.0.0.5")
        first.said("rendezvous")
        second = machines.start(1, "echo", "done", address="machine0.test", options=options,
                                under=etc("hosts", "127.0.0.1 machine0.test\n127.0.0.5 machine0.test\n"))
        text = ended([first, second], 0, 0)
    finally:
        silence.close()
    assert first.out.count("done") == 2, text
    machines.nothing_left()


@pytest.fixture
def deaf_name_server(etc):
    """(its socket, words before a command for which it is the only name server)"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        address = f"127.0.{os.getpid() % 200 + 20}.53"
        server.bind((address, 53))
        server.settimeout(60)
        yield server, etc("resolv.conf", f"nameserver {address}\noptions timeout:30 attempts:5\n")


def test_a_name_server_that_never_answers_holds_nobody_beyond_the_limits(machines, deaf_name_server):
    server, under = deaf_name_server
    options = [word for key in ("connect=1", "rendezvous=3") for word in ("--set", f"llmlaunch.timeouts.{key}")]
    run = machines.start(1, "true", address="machine0.test", under=under, options=options)
    server.recv(4096)
    text = ended([run], 69)
    assert (f"machine 0 did not answer at machine0.test:{machines.port} within 3 s: no answer to the lookup of "
            "'machine0.test' within 1 s") in text, text


def test_a_lookup_that_hangs_can_be_interrupted(machines, deaf_name_server):
    server, under = deaf_name_server
    options = [word for key in ("connect=600", "rendezvous=900", "grace=600")
               for word in ("--set", f"llmlaunch.timeouts.{key}")]
    run = machines.start(1, "true", address="machine0.test", under=under, options=options)
    server.recv(4096)
    assert catches(run, signal.SIGINT)
    run.process.send_signal(signal.SIGINT)
    assert "interrupted by SIGINT before machine 0 had answered" in ended([run], 130)


# --- waiting, and a way that is cut -----------------------------------------------------------------------------------


def test_who_is_waited_for_is_told_by_what_has_to_be_started_there(machines):
    first = machines.start(0, "true")
    first.said("waiting for 1 of 2 hosts: machine1 connecting (5 s: its llmlaunch run --machine_rank 1 has not called in)")
    first.process.send_signal(signal.SIGTERM)
    ended([first], 143)


def limits_of_connections(run, port):
    """{(TCP_USER_TIMEOUT in ms, TCP_KEEPIDLE in s)} of what a process has open from or to this port."""
    pidfd_getfd, process = 438, os.pidfd_open(run.pid)
    limits = set()
    try:
        for name in os.listdir(f"/proc/{run.pid}/fd"):
            number = ctypes.CDLL(None, use_errno=True).syscall(pidfd_getfd, process, int(name), 0)
            if number < 0 and ctypes.get_errno() == errno.EPERM:
                pytest.skip("no right to look at the sockets of another process")
            if number < 0:
                continue
            try:
                copy = socket.socket(fileno=number)
            except OSError:  # no socket
                os.close(number)
                continue
            with copy:
                listens = copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if copy.family == socket.AF_INET and not listens and port in (copy.getsockname()[1], copy.getpeername()[1]):
                    limits.add((copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                                copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)))
    finally:
        os.close(process)
    return limits


@pytest.mark.parametrize("head, limits", [("10m", (600_000, 300)), ("3s", (60_000, 30))])
def test_a_connection_bears_a_cut_as_long_as_the_agents_do(machines, head, limits):
    runs = machines.start_all("sh", "-c", STUBBORN, options=["--set", f"llmlaunch.timeouts.head={head}"])
    both_say(runs[0], "ready")
    assert limits_of_connections(runs[1], machines.port) == {limits}
    assert limits in limits_of_connections(runs[0], machines.port)
    for _ in range(2):
        runs[0].process.send_signal(signal.SIGTERM)
        runs[0].said("SIGTERM")
    ended(runs, 143, 143)


# --- the job -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workdir, below", [("~", ""), ("~/a b", "/a b")])
def test_a_working_directory_below_home_is_below_each_machine_s_own(machines, workdir, below):
    runs, homes = [], [machines.top / f"home{rank}" for rank in (0, 1)]
    for rank, home in enumerate(homes):
        (home / "a b").mkdir(parents=True)
        runs.append(machines.start(rank, "pwd", options=["--workdir", workdir], env={"HOME": str(home)}))
    text = ended(runs, 0, 0)
    for rank, home in enumerate(homes):
        assert f"[rank {rank} machine{rank}] {home}{below}\n" in runs[0].out, text


def test_a_machine_that_was_refused_is_not_reported_as_one_that_never_called(machines):
    first = machines.start(0, "sleep", "600", options=["--set", "llmlaunch.timeouts.rendezvous=10"])
    first.said("rendezvous")
    ended([machines.start(1, "sleep", "5")], 78)
    text = ended([first], 69)
    what = "was started with 'sleep 5', machine 0 with 'sleep 600'"
    headline = text[text.index("llmlaunch: error:"):]
    assert "machine 1 has not called in within 10 s: its call was refused: machine 1 (" in headline, text
    assert what in headline and "all machines run one program" in headline, text
    assert what in json.dumps(machines.record(), ensure_ascii=False), machines.record()


def test_a_summary_for_mail_begins_with_the_refusal_on_both_machines(machines):
    options = ["--cron", "--set", "llmlaunch.timeouts.rendezvous=10"]
    first = machines.start(0, "sleep", "600", options=options)
    second = machines.start(1, "sleep", "5", options=options)  # it calls until machine 0 answers
    ended([second, first], 78, 69)
    what = "was started with 'sleep 5', machine 0 with 'sleep 600'"
    machine_1 = f"machine 1 ({socket.gethostname()}, pid {second.pid}) {what}"
    said = first.err.splitlines()
    assert said[0] == ("llmlaunch: error: host machine1 (node_rank 1, rank 1): machine 1 has not called in within 10 s: "
                       f"its call was refused: {machine_1}"), str(first)
    assert [line for line in said if line.startswith("exit status:")] == ["exit status: 69"], str(first)
    said_1 = second.err.splitlines()
    assert said_1[0].startswith("llmlaunch: error: ") and said_1[0].endswith(machine_1), str(second)
    assert "exit status: 78" in said_1, str(second)
    assert (first.out, second.out) == ("", "") and max(len(said), len(said_1)) <= 40, f"{first}\n{second}"


def test_strangers_do_not_use_up_the_warnings(machines):
    first = machines.start(0, "sleep", "600")
    first.said("rendezvous")
    strangers = []
    for number in range(25):
        stranger = socket.create_connection(("127.0.0.1", machines.port), 10, (f"127.0.1.{number + 1}", 0))
        stranger.sendall(b"\x16\x03\x01\x00\x05hello")
        strangers.append(stranger)
    first.said("further calls of strangers are not shown")
    ended([machines.start(1, "sleep", "5")], 78)
    first.said("was started with 'sleep 5', machine 0 with 'sleep 600'")
    first.process.send_signal(signal.SIGTERM)
    ended([first], 143)
    for stranger in strangers:
        stranger.close()


def test_all_machines_end_as_machine_0_does_when_the_record_cannot_be_written(machines):
    runs = machines.start_all("sh", "-c", 'test $RANK = 1 || rm -r "$LOGS"', env={"LOGS": str(machines.top / "logs")})
    text = ended(runs, 74, 74)
    assert "the record of this run is incomplete" in text
    machines.nothing_left()
