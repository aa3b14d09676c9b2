"""Sessions on threads of their own. ctest runs whole other files in this way too (integration_on_workers_…); here is what
only shows with threads: that they are there and share the work, and that nothing that is said crosses over."""
import hashlib
import os
import pathlib
import signal

import pytest

from conftest import PYTHON, SCALE, WORKERS, wait_until

HOSTS = 17  # one more than it takes for sessions to have threads, on a head that has the cores


@pytest.fixture(autouse=True)
def workers(monkeypatch):
    monkeypatch.setenv(WORKERS, "3")


def cpu_of_threads(pid):
    """Clock ticks of each thread of a process, the first one's first."""
    used = []
    for thread in sorted(pathlib.Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name)):
        fields = (thread / "stat").read_text().rsplit(")", 1)[1].split()
        used.append(int(fields[11]) + int(fields[12]))
    return used


def test_every_thread_has_its_share(hosts):
    """All hosts print for as long as the test wants; then three threads beside the loop have used a core."""
    body = "import sys\nwhile True: sys.stdout.write('x' * 99 + '\\n')"
    with open(os.devnull, "w") as nowhere:
        run = hosts.start(PYTHON, "-c", body, config=hosts.config(slots=1), stdout=nowhere)
        wait_until(lambda: sum(ticks > 3 for ticks in cpu_of_threads(run.pid)) >= 5, f"loop, writer and 3 workers\n{run}")
        os.kill(run.pid, signal.SIGINT)
        run.finish()
    assert run.status == 130, run
    hosts.nothing_left(run)


def test_each_host_prints_its_own_bytes_and_all_of_them(hosts):
    lines = 20_000 // SCALE
    body = (f"import os\nrank = os.environ['RANK']\n"
            f"for i in range({lines}): print(rank, i, 'y' * (i % 150))")
    run = hosts.run(PYTHON, "-c", body, config=hosts.config(slots=1))
    assert run.status == 0, run
    for rank in range(HOSTS):
        wanted = "".join(f"{rank} {i} {'y' * (i % 150)}\n" for i in range(lines)).encode()
        got = (hosts.run_directory() / f"rank-{rank:05d}.out").read_bytes()
        assert hashlib.sha256(got).digest() == hashlib.sha256(wanted).digest(), rank
    hosts.nothing_left(run)


def test_what_rc_files_say_is_said_once_with_the_hosts_name(hosts):
    for name in hosts.names[:4]:
        (hosts.home(name) / ".bashrc").write_text(f"echo out of {name}; echo err of {name} >&2\n")
    run = hosts.run("true", config=hosts.config(slots=1))
    assert run.status == 0, run
    for name in hosts.names[:4]:
        assert run.err.count(f"{name} said: out of {name}\n") == 1, run
        assert run.err.count(f"{name} said: err of {name}\n") == 1, run
        (hosts.home(name) / ".bashrc").unlink()
    hosts.nothing_left(run)


def test_ctrl_c_while_hosts_log_in_ends_all_threads(hosts):
    for name in hosts.names:
        (hosts.home(name) / ".bashrc").write_text("touch ~/in\nwhile [ -e ~/in ]; do sleep 0.05; done\n")
    run = hosts.start("true", config=hosts.config(slots=1))
    wait_until(lambda: all((hosts.home(name) / "in").exists() for name in hosts.names), "all login shells")
    os.kill(run.pid, signal.SIGINT)
    run.finish(timeout=20)
    assert run.status == 130, run
    for name in hosts.names:
        (hosts.home(name) / "in").unlink()
        (hosts.home(name) / ".bashrc").unlink()
    hosts.nothing_left(run)


def test_a_number_that_is_none_is_refused(hosts, monkeypatch):
    monkeypatch.setenv(WORKERS, "many")
    run = hosts.run("true")
    assert run.status == 64, run
    assert "LLMLAUNCH_TEST_SSH_WORKERS must be a number from 0 to 8, not 'many'" in run.err, run
