"""Random kills: agent, watchman, rank, sshd's process of a connection, head. After each nothing is left on any host.

LLMLAUNCH_NEMESIS_KILLS says how many (default 12; 500 take a quarter of an hour), LLMLAUNCH_NEMESIS_SEED repeats a run.
"""
import collections
import os
import random
import signal

from conftest import PYTHON, children_of, processes_with, wait_until

HOSTS = 2

KILLS = int(os.environ.get("LLMLAUNCH_NEMESIS_KILLS", "12"))
SEED = int(os.environ.get("LLMLAUNCH_NEMESIS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)

# A rank with a child of its own group, a daemon in a session of its own, and more lines than anybody waits for.
RANK = """
import os, subprocess, sys, time
subprocess.Popen(['sleep', '600'])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
n = 0
while True:
    print('line', n, flush=True)
    n += 1
    time.sleep(0.002)
"""


def change(data):
    data["llmlaunch"]["timeouts"] = {"head": 3, "grace": 1}


def agents_of(hosts, name):
    here = processes_with(f"LLMLAUNCH_TEST_HOST={name}")
    ours = processes_with(f"LLMLAUNCH_TEST_HOSTS={hosts.directory}")
    return [pid for pid, line in here.items() if pid in ours and "agent" in line]


def leads_its_group(pid):
    try:
        return os.getpgid(pid) == pid and os.getsid(pid) != pid
    except ProcessLookupError:
        return False


def ranks_of(hosts, run):
    """Main processes, not what they have forked."""
    return [pid for pid, line in hosts.processes(run).items() if PYTHON in line and leads_its_group(pid)]


def victim_of(dice, hosts, run):
    """(what, pid) of a process that is there now; the head always is."""
    name = dice.choice(hosts.names)
    there = {"agent": agents_of(hosts, name), "rank": ranks_of(hosts, run), "sshd": children_of(hosts.sshd_pid(name)),
             "head": [run.pid]}
    what = dice.choice([kind for kind, pids in there.items() if pids])
    return what, dice.choice(there[what])


def test_whatever_is_killed_nothing_is_left(hosts):
    dice = random.Random(SEED)
    killed = collections.Counter()
    while killed.total() < KILLS:
        run = hosts.start(PYTHON, "-c", RANK, config=hosts.config(change, slots=2))
        # Somewhere between the first connection and lines of all ranks.
        wanted = dice.choice(["rendezvous", "line 0", "line 5"])
        wait_until(lambda: wanted in run.out + run.err or run.process.poll() is not None, f"{wanted}\n{run}")
        what, pid = victim_of(dice, hosts, run)
        try:
            os.kill(pid, signal.SIGKILL)
            killed[what] += 1
        except ProcessLookupError:  # it has ended meanwhile
            pass
        if what == "sshd":  # a connection is made again; the job goes on until somebody ends it
            os.kill(run.pid, signal.SIGTERM)
        try:
            run.finish(60)
            assert run.status != 0, str(run)
            hosts.nothing_left(run, within=20)
        except BaseException:
            print(f"kill {killed.total()} of {KILLS}, seed {SEED}: {what} {pid}")
            raise
    print(f"seed {SEED}: {dict(killed)}")
