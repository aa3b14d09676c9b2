"""Machines that are started one by one: signals for the ranks and Ctrl-Z, on any of them."""
import os
import re
import signal
import socket

import pytest

from conftest import PYTHON, wait_until
from machines import ended, machines  # noqa: F401 (a fixture)
from test_process import state_of

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"
TRAPS = ('trap "echo usr1" USR1; trap "echo hup" HUP; echo ready; '
         'until [ -e "{go}" ]; do sleep 0.05; done; echo done')


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("number, word", [(signal.SIGUSR1, "usr1"), (signal.SIGHUP, "hup")])
def test_a_signal_for_the_ranks_reaches_those_of_all_machines_from_either(machines, where, number, word):
    go = machines.top / "go"
    runs = machines.start_all("sh", "-c", TRAPS.format(go=go), options=["--forward-signal", "HUP"])
    wait_until(lambda: runs[0].out.count("] ready") == 2, f"both ranks\n{runs[0]}")
    runs[where].process.send_signal(number)
    wait_until(lambda: runs[0].out.count(f"] {word}") == 2, f"the signal in both ranks\n{runs[0]}")
    go.touch()
    text = ended(runs, 0, 0)
    at = f", caught on machine 1 ({socket.gethostname()}, pid {runs[1].pid})," if where else ""
    assert f"{number.name}{at} sent to 2 ranks" in runs[0].err, text
    machines.nothing_left()


def test_a_signal_to_all_machines_at_once_reaches_each_rank_once(machines):
    go = machines.top / "go"
    runs = machines.start_all("sh", "-c", TRAPS.format(go=go), machines=3)
    wait_until(lambda: runs[0].out.count("] ready") == 3, f"all ranks\n{runs[0]}")
    for run in runs:  # as Slurm does before the time is over
        run.process.send_signal(signal.SIGUSR1)
    for run in runs[1:]:
        run.said("SIGUSR1 goes to machine 0")
    wait_until(lambda: runs[0].out.count("] usr1") == 3, f"the signal in all ranks\n{runs[0]}")
    go.touch()
    text = ended(runs, 0, 0, 0)
    assert runs[0].out.count("] usr1") == 3 and runs[0].err.count("sent to 3 ranks") == 1, text


def test_ctrl_z_on_a_member_lets_all_ranks_stand_until_it_is_continued(machines):
    go = machines.top / "go"
    script = f'echo "rank pid $$"; until [ -e "{go}" ]; do sleep 0.05; done; echo done'
    first = machines.start(0, "sh", "-c", script)
    member = machines.start(1, "sh", "-c", script, job_control=True)
    ranks = wait_until(lambda: len(found := re.findall(r"rank pid (\d+)", first.out)) == 2 and found, f"both\n{first}")
    for _ in range(2):
        os.kill(member.pid, signal.SIGTSTP)
        pid, status = os.waitpid(member.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTSTP, status
        wait_until(lambda: [state_of(int(rank)) for rank in ranks] == ["T", "T"], "ranks that stand")
        assert state_of(first.pid) != "T", "machine 0's llmlaunch has a terminal of its own"
        os.kill(member.pid, signal.SIGCONT)
        wait_until(lambda: all(state_of(int(rank)) not in "T-" for rank in ranks), "ranks that go on")
    go.touch()
    text = ended([first, member], 0, 0)
    assert first.err.count("continued after") == 2 and first.out.count("] done") == 2, text
    machines.nothing_left()


def test_a_member_that_is_killed_while_it_stands_ends_the_job(machines):
    first = machines.start(0, PYTHON, "-c", SLEEP)
    member = machines.start(1, PYTHON, "-c", SLEEP, job_control=True)
    first.said("[rank 1 machine1] ready")
    first.said("[rank 0 machine0] ready")
    os.kill(member.pid, signal.SIGTSTP)
    os.waitpid(member.pid, os.WUNTRACED)
    member.process.kill()
    member.process.wait()
    assert first.finish().status == 69 and "the connection of its llmlaunch ended" in first.err, str(first)
    machines.nothing_left()
