"""Peers that keep a connection open and lead nowhere, one for each step; agents and programs that cannot be what a host
needs. Every one is told by its host, its step and its limit, in time, and starts nothing anywhere."""
import os
import re
import socket
import subprocess
import threading

import pytest

from conftest import BIN, SCALE, wait_until
from test_faults import headline, started_nowhere
from test_ssh import Door, short, through

HOSTS = 2

# `connect: 1`, and what a busy machine may add: far below what any of these peers would keep us for.
SOON = 6 * (3 if SCALE > 1 else 1)


# --- a step that is never done ---------------------------------------------------------------------------------------
def test_a_host_that_lets_nobody_in_is_given_up_at_the_tcp_step(hosts):
    """Its queue of connections is full, and the kernel drops what more comes: as behind a firewall that says nothing."""
    with socket.socket() as full:
        full.bind(("127.0.0.3", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.3", port))

        def change(data):
            data["llmlaunch"]["hosts"][1]["port"] = port

        run = hosts.run("echo", "started-anyway", config=short(hosts.config(change), 1))
        for one in waiting:
            one.close()
    assert run.status == 69 and run.seconds < SOON, f"{run.seconds:.1f} s\n{run}"
    assert headline(run) == (f"llmlaunch: error: host test02 (node_rank 1, rank 1): no answer from 127.0.0.3:{port} "
                             "within 1 s"), str(run)
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


class Dribble:
    """Says `first`, and then for ever one byte of `more` after the other: never silent, and never done."""

    def __init__(self, first, more):
        self.first, self.more, self.over, self.threads = first, more, threading.Event(), []
        self.sent = 0

    def __call__(self, connection, _):
        self.threads.append(threading.Thread(target=self._talk, args=(connection.dup(),), daemon=True))
        self.threads[-1].start()
        return False

    def _talk(self, connection):
        with connection:
            try:
                connection.sendall(self.first)
                while not self.over.wait(0.02):
                    connection.sendall(self.more[self.sent % len(self.more):][:1])
                    self.sent += 1
            except OSError:
                pass

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(10)


PACKET = b"\x00\x00\x80\x00" + b"\x04" * 60  # the length of one of 32 KiB, whose end is far


@pytest.mark.parametrize("first, more, step", [
    (b"", b"SSH-2.0-OpenSSH_9.2_and_more_of_it", "the wait for sshd's banner with 127.0.0.1 was not done within 1 s"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", PACKET, "key exchange with 127.0.0.1 was not done within 1 s"),
], ids=["banner", "key exchange"])
def test_a_peer_that_comes_byte_by_byte_has_no_longer_than_one_that_is_silent(hosts, first, more, step):
    slow = Dribble(first, more)
    door = Door(None, slow)
    run = hosts.run("echo", "started-anyway", config=short(through(hosts, door), 1))
    door.close()
    slow.end()
    assert run.status == 69 and run.seconds < SOON, f"{run.seconds:.1f} s\n{run}"
    assert step in headline(run) and "host test02" in headline(run), str(run)
    assert slow.sent > 10, "it was never silent"
    assert door.count == 1, "a deadline is no reason to ask again"
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def test_a_server_that_talks_on_and_never_becomes_an_sshd_is_told_for_that(hosts):
    """Lines before the banner are allowed, but not for ever."""
    def talk(connection, _):
        try:
            for _ in range(100_000):
                connection.sendall(b"a line before the banner\r\n")
        except OSError:
            pass
        return False

    door = Door(None, talk)
    run = hosts.run("echo", "started-anyway", config=short(through(hosts, door), 2))
    door.close()
    assert run.status == 69 and run.seconds < 2 * SOON, f"{run.seconds:.1f} s\n{run}"
    assert "host test02" in headline(run), str(run)
    assert "is no sshd: it says 'a line before the banner'" in headline(run), str(run)
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


# --- the agent -------------------------------------------------------------------------------------------------------
def cut_after(door, size):
    """For a Door: passes on so many bytes of the head's, then ends both connections as a broken network does."""
    def copy(a, b, left):
        try:
            while left > 0 and (piece := a.recv(min(left, 1 << 14))):
                b.sendall(piece)
                left -= len(piece)
        except OSError:
            pass
        for one in (a, b):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def treat(connection, _):
        beyond = socket.create_connection(door[0])
        ours = connection.dup()
        for a, b, left in ((ours, beyond, size), (beyond, ours, 1 << 40)):
            threading.Thread(target=copy, args=(a, b, left), daemon=True).start()
        return False

    return treat


def test_a_connection_that_ends_during_the_push_leaves_no_half_agent(hosts):
    """The next run pushes it whole. What is cut off has a name that nobody runs, and is gone with its connection."""
    subprocess.run(["rm", "-rf", str(hosts.home("test02") / ".cache")], check=True)
    to = ("127.0.0.3", hosts.port("test02"))
    door = Door(to, cut_after([to], 300_000))
    run = hosts.run("echo", "started-anyway", config=through(hosts, door))
    door.close()
    assert run.status == 69, str(run)
    assert headline(run) == ("llmlaunch: error: host test02 (node_rank 1, rank 1): sshd closed the connection during the "
                             "transfer"), str(run)
    started_nowhere(hosts, run)
    hosts.nothing_left(run)
    cache = hosts.home("test02") / ".cache" / "llmlaunch"
    assert [file.name for file in cache.rglob("*") if file.is_file()] == [], str(run)
    again = hosts.run("echo", "in")
    assert again.status == 0 and again.out.count("in") == 2, str(again)
    (agent,) = cache.glob("agent-*")
    assert agent.read_bytes() == (BIN / "llmlaunch-agent").read_bytes()
    hosts.nothing_left(again)


@pytest.mark.parametrize("script, said", [
    ("echo LLMLAUNCH AGENT 99", "the agent speaks version 99 of the agent protocol, this llmlaunch speaks version "),
    ("echo hello; exit 3", "the command that starts the agent ended before the agent ran"),
], ids=["another version", "no agent"])
def test_an_agent_of_another_build_is_refused_before_anything_is_started(hosts, tmp_path, script, said):
    agent = tmp_path / "llmlaunch-agent"
    agent.write_text(f"#!/bin/sh\n[ \"$1\" != --version ] || exit 0\n{script}\n")
    agent.chmod(0o755)
    run = hosts.run("echo", "started-anyway", env={"LLMLAUNCH_LIBEXEC": str(tmp_path)})
    assert run.status == 69 and f"2 hosts test[01-02]: {said}" in headline(run), str(run)
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def test_an_agent_that_the_machine_cannot_run_is_told_for_that(hosts, tmp_path):
    """As one of another architecture: the kernel refuses it, and it is not kept."""
    whole = (BIN / "llmlaunch-agent").read_bytes()
    agent = tmp_path / "llmlaunch-agent"
    agent.write_bytes(whole[:18] + b"\xf3\x00" + whole[20:])  # e_machine: RISC-V
    agent.chmod(0o755)
    before = {name: set((hosts.home(name) / ".cache" / "llmlaunch").glob("*")) for name in hosts.names}
    run = hosts.run("echo", "started-anyway", env={"LLMLAUNCH_LIBEXEC": str(tmp_path)})
    assert run.status == 69, str(run)
    cache = hosts.home("test01") / ".cache" / "llmlaunch"
    assert (f"2 hosts test[01-02]: the agent cannot be started: the agent that arrived in {cache} is damaged or does not "
            "run there (that is test01; the others alike)\n") in run.err, str(run)
    assert {name: set((hosts.home(name) / ".cache" / "llmlaunch").glob("*")) for name in hosts.names} == before
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


# --- the program on one host -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("state, status, said", [
    ("missing", 127, "host test02 (node_rank 1, rank 1): no program './tool'"),
    ("not executable", 126, "host test02 (node_rank 1, rank 1): "),
])
def test_a_program_that_one_host_lacks_is_started_on_none(hosts, state, status, said):
    for name in hosts.names:
        (hosts.home(name) / "tool").write_text("#!/bin/sh\necho started-anyway\n")
        (hosts.home(name) / "tool").chmod(0o755)
    other = hosts.home("test02") / "tool"
    if state == "missing":
        other.unlink()
    else:
        other.chmod(0o644)

    def change(data):
        for host in data["llmlaunch"]["hosts"]:
            host["workdir"] = str(hosts.home(host["name"]))

    run = hosts.run("./tool", config=hosts.config(change))
    for name in hosts.names:
        (hosts.home(name) / "tool").unlink(missing_ok=True)
    assert run.status == status and said in headline(run) and "./tool" in headline(run), str(run)
    assert "   no rank was started on any host\n" in run.err, str(run)
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


# --- the head's own port ---------------------------------------------------------------------------------------------
def test_a_rendezvous_port_that_is_taken_is_told_before_any_host_is_asked(hosts):
    before = {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names}
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]

        def change(data):
            data["main_process_port"] = port

        run = hosts.run("echo", "started-anyway", config=hosts.config(change))
    assert run.status == 69, str(run)
    assert re.search(rf"^llmlaunch: error: the rendezvous cannot listen on \S+:{port}: Address already in use$", run.err,
                     re.M), str(run)
    assert (f"   hint: another program uses port {port} ('ss -ltnp' shows which): stop it, or set main_process_port to a "
            "free port, or to 0 to have one chosen\n") in run.err, str(run)
    assert {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names} == before
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def test_two_jobs_without_a_port_choose_two(hosts):
    """Port 0, the default: each says which one it has, and a second job at the same time has another."""
    go = hosts.head / "go-ports"
    runs = [hosts.start("sh", "-c", f'echo at ${{LLMLAUNCH_RENDEZVOUS##*:}}; until [ -e "{go}" ]; do sleep 0.05; done')
            for _ in range(2)]
    for run in runs:
        wait_until(lambda: len(re.findall(r"\] at \d+", run.out)) == 2, f"both ranks\n{run}")
    go.touch()
    ports = []
    for run in runs:
        assert run.finish().status == 0, str(run)
        (port,) = set(re.findall(r"\] at (\d+)", run.out))
        assert f"; rendezvous port {port}; " in run.err, str(run)
        ports.append(port)
        hosts.nothing_left(run)
    assert ports[0] != ports[1]
