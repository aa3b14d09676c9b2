"""What happens to the head itself: it stands still, its terminal is closed, somebody presses Ctrl-C twice. Whatever it
is, there is one generation of ranks, they end, and other jobs of the same user are not touched."""
import json
import os
import re
import select
import signal
import uuid

import pytest

from conftest import PYTHON, Terminal, wait_until
from test_faults import headline
from test_process import state_of
from test_reconnect import complete, patient

HOSTS = 2

# Prints numbered lines, and tells by a file how far it is: it goes on whether or not anybody reads.
TICKING = r"""
import os, sys, time
rank, place = int(os.environ['RANK']), sys.argv[1]
with open(f'{place}/starts-{rank}', 'a') as starts: starts.write('x')
progress = os.open(f'{place}/ticks-{rank}', os.O_CREAT | os.O_WRONLY)
n = 0
while not os.path.exists(f'{place}/enough'):
    print(f'{rank} line {n}', flush=True)
    n += 1
    os.pwrite(progress, b'%12d' % n, 0)
    time.sleep(0.01)
print(f'{rank} wrote {n}', flush=True)
"""

STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"


class Ticking:
    """A run of TICKING, once both ranks tick."""

    def __init__(self, hosts, **more):
        self.place = hosts.head / f"ticking-{uuid.uuid4().hex[:8]}"
        self.place.mkdir()
        self.run = hosts.start(PYTHON, "-c", TICKING, str(self.place), **more)
        wait_until(lambda: min(self.ticks()) > 0 or self.run.process.poll() is not None, f"both ranks\n{self.run}")

    def ticks(self):
        files = [self.place / f"ticks-{rank}" for rank in range(2)]
        return [int((file.read_bytes() if file.exists() else b"") or b"0") for file in files]

    def starts(self):
        return [(self.place / f"starts-{rank}").read_text() for rank in range(2)]

    def go_on(self, number):
        """Waits until each rank has ticked so many times more."""
        wanted = [ticks + number for ticks in self.ticks()]
        wait_until(lambda: all(now >= then for now, then in zip(self.ticks(), wanted)), f"more ticks\n{self.run}")

    def enough(self):
        (self.place / "enough").touch()
        return self.run.finish(60)


def stand_still(run):
    os.kill(run.pid, signal.SIGSTOP)
    wait_until(lambda: state_of(run.pid) == "T", "a stopped head")


# --- a stop ------------------------------------------------------------------------------------------------------------
# Ends only when the other rank has been asked to end, too.
MEETING = r"""
import os, pathlib, signal, sys, time
rank, place = int(os.environ['RANK']), pathlib.Path(sys.argv[1])
def asked(number, frame):
    (place / f'asked-{rank}').touch()
    while not (place / f'asked-{1 - rank}').exists():
        time.sleep(0.01)
    print('both were asked', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, asked)
signal.signal(signal.SIGINT, asked)
print('up', flush=True)
while True: signal.pause()
"""


def test_a_stop_reaches_all_hosts_before_any_of_them_has_ended(hosts):
    """Hosts that were stopped one after the other would each sit out a grace of an hour here."""
    place = hosts.head / "meeting"
    place.mkdir()

    def change(data):
        data["llmlaunch"]["timeouts"] = {"grace": 3600}

    run = hosts.start(PYTHON, "-c", MEETING, str(place), config=hosts.config(change))
    wait_until(lambda: run.out.count("up") == 2, f"both ranks\n{run}")
    os.kill(run.pid, signal.SIGINT)
    run.finish(60)
    assert run.status == 130 and run.out.count("both were asked") == 2, str(run)
    hosts.nothing_left(run)


# --- a head that does not run ----------------------------------------------------------------------------------------
def test_a_head_that_stands_still_for_less_than_its_time_goes_on_where_it_was(hosts):
    job = Ticking(hosts, config=hosts.config(patient(head=20)))
    stand_still(job.run)
    job.go_on(300)  # three seconds and more: longer than the head takes for a delay of its own
    os.kill(job.run.pid, signal.SIGCONT)
    run = job.enough()
    assert run.status == 0, str(run)
    for rank in range(2):
        assert f"{rank} wrote {complete(run.out, rank, 'line')}\n" in run.out, str(run)
    assert job.starts() == ["x", "x"], "one generation"
    hosts.nothing_left(run)


def test_a_head_that_stands_still_for_too_long_finds_its_ranks_ended_and_says_why(hosts):
    """The lease: the hosts end everything while the head cannot even know. There is no second start when it runs again."""
    job = Ticking(hosts, config=hosts.config(patient(head=3, grace=1)))
    stand_still(job.run)
    wait_until(lambda: not hosts.processes(), f"the end of all processes on the hosts: {hosts.processes()}")
    os.kill(job.run.pid, signal.SIGCONT)
    run = job.run.finish(60)
    assert run.status == 69, str(run)
    assert re.search(r"error: host test0[12] .*the agent that had started the ranks is gone", headline(run)), str(run)
    assert re.search(r"^llmlaunch: warning: llmlaunch itself stood still for [\d.]+ s; hosts end their ranks when they hear "
                     r"nothing for 3 s \(llmlaunch\.timeouts\.head\)$", run.err, re.M), str(run)
    assert job.starts() == ["x", "x"], "one generation"
    hosts.nothing_left(run)


def test_a_head_that_is_killed_leaves_the_trainer_s_checkpoint(hosts, tmp_path):
    """Nobody tells the ranks to stop for as long as the hosts wait for their head; they have lost it at once."""
    output = tmp_path / "run"
    run = hosts.start("train", "--use_cpu", "--num_train_epochs", "1000", "--logging_steps", "1", "--output_dir", str(output),
                      config=hosts.config(patient(head=5, grace=60)))
    run.said("step 2/", timeout=120)
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not hosts.processes(), f"the end of all processes on the hosts\n{run}", 120)
    saved, = output.glob("checkpoint-*")
    assert (saved / "checksums.json").exists() and not saved.name.endswith("unfinished"), saved
    hosts.nothing_left(run)


# --- Ctrl-C in a shell -----------------------------------------------------------------------------------------------
def test_ctrl_c_ends_the_loop_that_a_job_is_in(hosts, terminal):
    """To a shell a child that exits with 130 has dealt with Ctrl-C itself: it would start the next job."""
    run = hosts.start("sh", "-c", "echo rank is up; exec sleep 600", terminal=terminal,
                      under=("bash", "-c", 'for i in 1 2 3; do "$@"; done; echo the loop went on', "bash"))
    run.said("rank is up")
    terminal.type("\x03")
    run.finish(60)
    assert run.status == 130 and "went on" not in run.out and run.err.count("error: interrupted by SIGINT") == 1, str(run)
    hosts.nothing_left(run)


def test_a_status_of_130_that_is_a_rank_s_own_is_one(hosts):
    run = hosts.run("sh", "-c", "exit 130")
    assert run.status == 130 and run.ended_by is None and "rank" in headline(run), str(run)


# --- a terminal that is closed ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("shell", [False, True], ids=["alone", "below a shell"])
def test_a_terminal_that_is_closed_ends_the_job(hosts, shell):
    """As when a window is closed or a laptop's ssh session dies. Nobody can be told, so the record says it."""
    line = Terminal.__new__(Terminal)  # no thread that reads: its read would keep the terminal open
    line.ours, line.theirs = os.openpty()
    under = ("bash", "-c", '"$@"; exit 3', "bash") if shell else ()
    run = hosts.start("sh", "-c", "echo rank is up; exec sleep 600", stdout=line.theirs, stderr=line.theirs, terminal=line,
                      under=under)
    os.close(line.theirs)
    said = bytearray()

    def both():
        if select.select([line.ours], [], [], 0)[0]:
            said.extend(os.read(line.ours, 4096))
        return said.count(b"rank is up") == 2

    wait_until(both, "both ranks on the terminal")
    os.close(line.ours)
    run.finish(30)
    hosts.nothing_left(run, within=10)
    record = json.loads((hosts.run_directory() / "job.json").read_text())
    assert record["exit_status"] == 129, record
    assert run.status == 129 and run.ended_by == (signal.SIGHUP if shell else None), str(run)


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_job_that_is_killed_at_once_leaves_the_users_other_jobs_alone(hosts, number, status):
    """Two presses, on ranks that ignore the first: what is killed is killed by descent, and never by user or name."""
    def change(data):
        data["llmlaunch"]["timeouts"] = {"grace": 300}

    other = Ticking(hosts)
    run = hosts.start(PYTHON, "-c", STUBBORN, config=hosts.config(change))
    wait_until(lambda: run.out.count("up") == 2, f"both ranks\n{run}")
    os.kill(run.pid, number)
    run.said(f"caught {number.name}: stopping 2 ranks (once more: kill at once)")
    assert run.process.poll() is None
    run.press_again(number)
    assert run.finish(30).status == status, str(run)
    assert headline(run) == f"llmlaunch: error: interrupted by {number.name}", str(run)
    assert "   2 ranks stopped by llmlaunch\n" in run.err, str(run)
    other.go_on(20)
    ended = other.enough()
    assert ended.status == 0 and other.starts() == ["x", "x"], str(ended)
    hosts.nothing_left(run)
