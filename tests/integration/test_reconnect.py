"""A connection that is cut while ranks run is made again: nothing is lost, nothing comes twice, and nothing is left
behind when it cannot be."""
import os
import re
import signal
import subprocess

from conftest import PYTHON, SCALE, children_of, wait_until
from test_faults import agent_and_watchman, headline, rank_program, staying

HOSTS = 3


def sessions_of(hosts, name):
    return children_of(hosts.sshd_pid(name))


def cut(hosts, name):
    """Kills what sshd has for the host's connections, as a firewall or a person with root would."""
    sessions = sessions_of(hosts, name)
    assert sessions, f"no connection to {name}"
    for pid in sessions:
        os.kill(pid, signal.SIGKILL)


def ended(pid):
    """Gone, or a child of ours that nobody has asked for."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Sshd:
    """Takes a host's sshd away, so that nobody can connect again, and brings it back."""

    def __init__(self, hosts, name):
        self.hosts, self.name = hosts, name
        pid = hosts.sshd_pid(name)
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            self.file = hosts.directory / name / "sshd.conf"
            assert str(self.file) in stream.read().replace(b"\0", b" ").decode()
        with open(f"/proc/{pid}/environ", "rb") as stream:
            self.environment = dict(entry.split(b"=", 1) for entry in stream.read().split(b"\0") if b"=" in entry)
        sessions = sessions_of(hosts, name)
        os.kill(pid, signal.SIGKILL)
        for session in sessions:
            os.kill(session, signal.SIGKILL)
        wait_until(lambda: ended(pid), "the end of sshd")

    def back(self):
        (self.hosts.directory / self.name / "sshd.pid").unlink()
        subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(self.file), "-E", str(self.file.with_name("sshd.log"))],
                         env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, start_new_session=True)
        pid_file = self.hosts.directory / self.name / "sshd.pid"
        wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "sshd")
        # Where test_hosts.sh looks for what it has to stop.
        table = self.hosts.directory / "hosts.tsv"
        rows = [line.split("\t") for line in table.read_text().splitlines()]
        table.write_text("".join("\t".join([*row[:3], str(self.hosts.sshd_pid(self.name))] if row[0] == self.name else row)
                                 + "\n" for row in rows))


COUNTING = """
import os, sys, time
rank = int(os.environ['RANK'])
go = os.path.join(os.environ['TEST_DIR'], 'enough')
n = 0
while not os.path.exists(go):
    print(f'{rank} line {n}', flush=True)
    print(f'{rank} error {n}', file=sys.stderr, flush=True)
    n += 1
    time.sleep(0.001)
print(f'{rank} wrote {n}', flush=True)
"""


def complete(text, rank, word):
    """Each line of this rank and stream is there once and in order; returns their number."""
    found = [int(n) for n in re.findall(rf"^\[rank {rank} \S+\] +{rank} {word} (\d+)$", text, re.M)]
    assert found == list(range(len(found))), f"rank {rank}, {word}: {len(found)} lines, first wrong at " + str(
        next((i for i, n in enumerate(found) if i != n), None))
    return len(found)


def test_a_cut_connection_is_made_again_and_the_stream_goes_on_without_loss_or_repetition(hosts):
    run = hosts.start(PYTHON, "-c", COUNTING, env={"TEST_DIR": str(hosts.head)}, options=["--env", "TEST_DIR"])
    for number in range(5):
        run.said("1 line")
        before = run.err.count("connected again")
        seen = run.out.count("1 line")
        cut(hosts, "test02")
        wait_until(lambda: run.err.count("connected again") > before, f"the connection\n{run}")
        wait_until(lambda: run.out.count("1 line") > seen, "more lines")
    (hosts.head / "enough").touch()
    run.finish(60)
    (hosts.head / "enough").unlink()
    assert run.status == 0, str(run)
    for rank in range(3):
        lines, errors = complete(run.out, rank, "line"), complete(run.err, rank, "error")
        assert f"{rank} wrote {lines}\n" in run.out and errors == lines
    said = [line for line in run.err.splitlines() if not line.startswith("[rank")]
    assert re.search(r"^llmlaunch: warning: host test02 \(node_rank 1, rank 1\): connection lost: .*; connecting again for "
                     r"15 s, its ranks run on$", "\n".join(said), re.M), said
    hosts.nothing_left(run)


def patient(head=15, grace=10):
    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": head, "grace": grace}

    return change


def test_ranks_run_on_without_a_head_and_what_they_say_meanwhile_arrives(hosts):
    """Far more than any window or pipe holds: the ranks end while the host cannot be reached, and wait for nobody."""
    lines = 200_000 // SCALE
    program = f"""
import os, sys, time
rank = int(os.environ['RANK'])
print(f'{{rank}} up', flush=True)
if rank == 1:
    while not os.path.exists(os.path.expanduser('~/go')): time.sleep(0.01)
    for n in range({lines}): print(f'1 line {{n}} ' + 'x' * 80)
    sys.stdout.flush()
    open(os.path.expanduser('~/written'), 'w').close()
    sys.exit(7)
time.sleep(600)
"""
    run = hosts.start(PYTHON, "-c", program, config=hosts.config(patient(head=60)))
    wait_until(lambda: run.out.count(" up") == 3, f"three ranks\n{run}")
    sshd = Sshd(hosts, "test02")
    (hosts.home("test02") / "go").touch()
    wait_until((hosts.home("test02") / "written").exists, f"the end of rank 1\n{run}", 60)
    assert f"1 line {lines - 1} " not in run.out
    sshd.back()
    run.finish(60)
    for name in ("go", "written"):
        (hosts.home("test02") / name).unlink()
    assert run.status == 7, str(run)
    assert re.search(r"error: rank 1 \(test02, pid \d+\) exited with status 7$", headline(run)), str(run)
    found = [int(n) for n in re.findall(r"^\[rank 1 test02\] 1 line (\d+) x{80}$", run.out, re.M)]
    assert found == list(range(lines)), f"{len(found)} lines of {lines}"
    hosts.nothing_left(run)


def test_a_host_that_cannot_be_reached_again_is_lost_and_its_ranks_are_stopped(hosts):
    run = staying(hosts, config=hosts.config(patient(head=3, grace=1)))
    sshd = Sshd(hosts, "test03")
    run.finish(60)
    assert run.status == 69, str(run)
    assert re.search(r"host test03 \(node_rank 2, rank 2\): connection lost: .*; it could not be reached again within [34] "
                     r"s: connection refused by ", headline(run)), str(run)
    sshd.back()
    hosts.nothing_left(run, within=15)


def test_ctrl_c_while_a_connection_is_cut_stops_all_ranks(hosts):
    run = staying(hosts, config=hosts.config(patient(head=4, grace=1)))
    sshd = Sshd(hosts, "test03")
    run.said("connecting again")
    os.kill(run.pid, signal.SIGINT)
    run.finish(60)
    assert run.status == 130, str(run)
    sshd.back()
    hosts.nothing_left(run, within=15)


def test_a_stop_reaches_a_host_that_comes_back(hosts):
    """The order was given while nobody could take it."""
    run = staying(hosts, config=hosts.config(patient(head=60, grace=30)))
    sshd = Sshd(hosts, "test03")
    run.said("connecting again")
    os.kill(run.pid, signal.SIGTERM)
    run.said("caught SIGTERM")
    sshd.back()
    run.finish(60)
    assert run.status == 143 and "connected again" in run.err, str(run)
    hosts.nothing_left(run)


def test_an_agent_that_died_during_a_cut_is_named_and_leaves_no_rank(hosts):
    run = staying(hosts, config=hosts.config(patient(head=60)))
    pids = agent_and_watchman(hosts, "test02")
    sshd = Sshd(hosts, "test02")
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: all(ended(pid) for pid in pids), "the end of both")
    sshd.back()
    run.finish(60)
    assert run.status == 69, str(run)
    assert "host test02" in headline(run) and "the agent that had started the ranks is gone" in headline(run), str(run)
    hosts.nothing_left(run, within=15)


def test_an_agent_that_must_end_during_a_cut_stays_to_tell_the_head(hosts):
    """Without its watchman it stops its ranks, and what became of them is not lost with the connection."""
    run = staying(hosts, config=hosts.config(patient(head=60)))
    agent, watchman = agent_and_watchman(hosts, "test02")
    sshd = Sshd(hosts, "test02")
    os.kill(watchman, signal.SIGKILL)
    wait_until(lambda: ended(watchman) and not children_of(agent), "the end of the rank")
    sshd.back()
    run.finish(60)
    assert run.status == 69, str(run)
    assert re.search(r"rank 1 \(test02, pid \d+\) was killed by SIGTERM: its agent was told to end on the host", headline(run)), str(run)
    hosts.nothing_left(run, within=15)


def test_kill_9_of_the_head_during_a_cut_leaves_no_rank(hosts):
    run = staying(hosts, config=hosts.config(patient(head=2, grace=1)))
    sshd = Sshd(hosts, "test02")
    run.said("connecting again")
    os.kill(run.pid, signal.SIGKILL)
    run.finish(30)
    sshd.back()
    hosts.nothing_left(run, within=15)
