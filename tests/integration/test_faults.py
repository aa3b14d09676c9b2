"""Each thing that goes wrong has its message, its exit status, and nothing left running: on real sshd hosts."""
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import BIN, PYTHON, SCALE, Refusing, children_of, processes_with, wait_until

HOSTS = 3

# A rank that would stay for ten minutes, unless it is the one that the test wants to fail.
STAY = "import os, signal, sys, time\nrank = int(os.environ['RANK'])\n"


def rank_program(body):
    return [PYTHON, "-c", STAY + body + "\nprint('staying', flush=True)\ntime.sleep(600)\n"]


def llmlaunch_lines(run):
    return [line for line in run.err.splitlines() if not line.startswith("[rank")]


def headline(run):
    found = [line for line in llmlaunch_lines(run) if re.match(r"llmlaunch: error: ", line)]
    assert found, f"no error line\n{run}"
    return found[-1]


# --- ranks ---------------------------------------------------------------------------------------------------------
def test_a_rank_that_exits_3_is_named_and_gives_its_status(hosts):
    run = hosts.run(*rank_program("if rank == 1: print('no such file: data.bin', file=sys.stderr); sys.exit(3)"))
    assert run.status == 3, str(run)
    said = "\n".join(llmlaunch_lines(run))
    assert re.search(r"rank 1\b.*test02|test02.*rank 1\b", said), str(run)
    assert re.search(r"exit(ed|s)?( with)?( status| code)? 3\b", said), str(run)
    assert "   its last line on stderr:\n     | no such file: data.bin\n" in said, str(run)
    assert re.search(r"\b2 (other )?ranks?\b.*stopped", said), str(run)
    hosts.nothing_left(run)


def test_a_rank_killed_by_sigsegv_is_named_with_the_signal(hosts):
    run = hosts.run(*rank_program("if rank == 2: os.kill(os.getpid(), signal.SIGSEGV)"))
    assert run.status == 128 + signal.SIGSEGV, str(run)
    said = "\n".join(llmlaunch_lines(run))
    assert re.search(r"rank 2\b.*test03|test03.*rank 2\b", said), str(run)
    assert "SIGSEGV" in said, str(run)
    hosts.nothing_left(run)


def test_the_first_failure_is_the_headline_and_what_followed_is_counted(hosts):
    """Ranks 0 and 2 fail because rank 1 did: they answer the stop with statuses of their own."""
    body = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(77))\nif rank == 1: sys.exit(5)"
    run = hosts.run(*rank_program(body))
    assert run.status == 5, str(run)
    said = "\n".join(llmlaunch_lines(run))
    assert re.search(r"rank 1\b", said) and not re.search(r"\b77\b", said), str(run)
    hosts.nothing_left(run)


def test_a_rank_that_ignores_sigterm_is_killed_after_the_grace(hosts):
    def change(data):
        data["llmlaunch"]["timeouts"] = {"grace": 1}

    body = ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "open(os.path.expanduser('~/ready'), 'w').close()\n"
            "if rank == 0:\n"
            f"  while not all(os.path.exists(f'{hosts.directory}/test0{{n}}/home/ready') for n in (2, 3)): time.sleep(0.02)\n"
            "  sys.exit(4)")
    run = hosts.run(*rank_program(body), config=hosts.config(change))
    for name in hosts.names:
        (hosts.home(name) / "ready").unlink()
    assert run.status == 4, str(run)
    hosts.nothing_left(run)


# --- hosts ---------------------------------------------------------------------------------------------------------
def started_nowhere(hosts, run):
    """Gang start: when one host is not ready, no rank runs anywhere."""
    assert "started-anyway" not in run.out, f"a rank was started although a host was missing\n{run}"


def test_a_host_that_is_down_is_named_and_no_rank_is_started(hosts):
    with Refusing("127.0.0.3") as dead_port:
        def change(data):
            data["llmlaunch"]["hosts"][1]["port"] = dead_port

        run = hosts.run("echo", "started-anyway", config=hosts.config(change))
    assert run.status == 69, str(run)
    assert headline(run) == ("llmlaunch: error: host test02 (node_rank 1, rank 1): connection refused by "
                             f"127.0.0.3:{dead_port}"), str(run)
    assert "   no rank was started on any host\n" in run.err, str(run)
    # A refusal needs no deadline: 10 s by default.
    assert run.seconds < 8 * (3 if SCALE > 1 else 1), f"{run.seconds:.1f} s"
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def test_a_host_that_accepts_and_never_answers_is_given_up_at_the_deadline(hosts):
    with socket.create_server(("127.0.0.3", 0)) as silent:
        def change(data):
            data["llmlaunch"]["hosts"][1]["port"] = silent.getsockname()[1]
            data["llmlaunch"]["timeouts"] = {"connect": 1}

        run = hosts.run("echo", "started-anyway", config=hosts.config(change))
    assert run.status == 69, str(run)
    assert "test02" in headline(run) and re.search(r"within|timed out", run.err), str(run)
    assert run.seconds < 10 * (3 if SCALE > 1 else 1), f"{run.seconds:.1f} s for a deadline of 1 s"
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def other_key(hosts, name):
    file = hosts.head / name
    if not file.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


def fingerprint(public_key):
    """As ssh-keygen -l shows it."""
    shown = subprocess.run(["ssh-keygen", "-l", "-f", "-"], input=public_key, capture_output=True, text=True, check=True)
    return shown.stdout.split()[1]


def known_hosts_with(hosts, change_line):
    """A copy of known_hosts in which test02's line went through `change_line` (None removes it)."""
    lines = []
    for line in (hosts.directory / "known_hosts").read_text().splitlines():
        line = change_line(line) if "test02" in line.split()[0] else line
        lines += [line] if line else []
    file = hosts.head / f"known_hosts-{len(list(hosts.head.iterdir()))}"
    file.write_text("\n".join(lines) + "\n")
    return file


def run_with_known_hosts(hosts, file, **ssh):
    def change(data):
        data["llmlaunch"]["ssh"]["known_hosts_file"] = str(file)
        data["llmlaunch"]["ssh"].update(ssh)

    return hosts.run("echo", "started-anyway", config=hosts.config(change))


def test_a_wrong_host_key_is_refused_with_both_fingerprints_place(hosts):
    wrong = (other_key(hosts, "wrong_host_key").with_suffix(".pub")).read_text().split()
    file = known_hosts_with(hosts, lambda line: f"{line.split()[0]} {wrong[0]} {wrong[1]}")
    number = next(n for n, line in enumerate(file.read_text().splitlines(), 1) if "test02" in line)
    run = run_with_known_hosts(hosts, file)
    assert run.status == 69, str(run)
    right = (hosts.directory / "test02" / "host_key.pub").read_text()
    assert headline(run) == (
        f"llmlaunch: error: host test02 (node_rank 1, rank 1): the host key has changed: it shows ssh-ed25519 "
        f"{fingerprint(right)}, {file}:{number} has {fingerprint(' '.join(wrong))}"), str(run)
    assert re.search(rf"^   hint: .*; if it is the host: ssh-keygen -R \S+ -f {file}$", run.err, re.M), str(run)
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def test_an_unknown_host_key_is_refused_with_the_command_that_accepts_it(hosts):
    file = known_hosts_with(hosts, lambda line: None)
    before = file.read_text()
    run = run_with_known_hosts(hosts, file)
    assert run.status == 69, str(run)
    right = (hosts.directory / "test02" / "host_key.pub").read_text()
    assert headline(run) == (f"llmlaunch: error: host test02 (node_rank 1, rank 1): the host key is not known: "
                             f"ssh-ed25519 {fingerprint(right)}"), str(run)
    assert re.search(rf"^   hint: compare this fingerprint with the host's own, then: ssh-keyscan -p {hosts.port('test02')} "
                     rf"-t ed25519 127.0.0.3 >> {file}; ", run.err, re.M), str(run)
    assert "; or set llmlaunch.ssh.host_key_policy: accept-new, to trust hosts at their first contact\n" in run.err
    assert file.read_text() == before
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def test_accept_new_takes_an_unknown_key_down_and_never_a_changed_one(hosts):
    file = known_hosts_with(hosts, lambda line: None)
    run = run_with_known_hosts(hosts, file, host_key_policy="accept-new")
    assert run.status == 0, str(run)
    key = (hosts.directory / "test02" / "host_key.pub").read_text().split()[1]
    assert key in file.read_text(), f"the new key was not written down\n{file.read_text()}"
    assert run_with_known_hosts(hosts, file).status == 0

    wrong = (other_key(hosts, "wrong_host_key").with_suffix(".pub")).read_text().split()
    file = known_hosts_with(hosts, lambda line: f"{line.split()[0]} {wrong[0]} {wrong[1]}")
    before = file.read_text()
    run = run_with_known_hosts(hosts, file, host_key_policy="accept-new")
    assert run.status == 69 and "changed" in run.err.lower(), str(run)
    assert file.read_text() == before
    hosts.nothing_left(run)


def test_a_refused_key_is_named_with_what_was_tried(hosts):
    key = other_key(hosts, "stranger_key")

    def change(data):
        data["llmlaunch"]["ssh"]["identity_file"] = str(key)

    run = hosts.run("echo", "started-anyway", config=hosts.config(change))
    assert run.status == 69, str(run)
    assert "3 hosts test[01-03]" in headline(run), str(run)
    assert str(key) in run.err, str(run)
    assert re.search(r"publickey|public key", run.err), str(run)
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


# --- what was asked for --------------------------------------------------------------------------------------------
def test_a_command_that_does_not_exist_is_named_with_the_host(hosts):
    run = hosts.run("no-such-program-here", "argument")
    assert run.status == 127, str(run)
    assert "no-such-program-here" in headline(run) and "3 hosts test[01-03]" in headline(run), str(run)
    assert "PATH" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_file_that_may_not_be_executed_is_126(hosts):
    file = hosts.head / "not-executable"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o644)
    run = hosts.run(str(file))
    assert run.status == 126, str(run)
    assert str(file) in headline(run), str(run)
    hosts.nothing_left(run)


def test_a_workdir_that_does_not_exist_is_named_with_the_host(hosts):
    def change(data):
        data["llmlaunch"]["hosts"][2]["workdir"] = "/no/such/directory"

    run = hosts.run("echo", "started-anyway", config=hosts.config(change))
    assert run.status == 69, str(run)
    assert "test03" in headline(run) and "/no/such/directory" in run.err, str(run)
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def test_a_yaml_typo_is_shown_with_its_line_and_what_was_meant(hosts):
    text = hosts.config().replace("num_machines:", "num_machine:")
    number = next(n for n, line in enumerate(text.splitlines(), 1) if line.startswith("num_machine:"))
    before = {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names}
    run = hosts.run("echo", "started-anyway", config=text)
    assert run.status == 78, str(run)
    assert f"{run.config_file}:{number}:1: unknown key 'num_machine'" in run.err, str(run)
    assert "did you mean 'num_machines'?" in run.err, str(run)
    assert re.search(rf"^ *{number} \| num_machine:", run.err, re.M), str(run)
    assert {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names} == before
    hosts.nothing_left(run)


def test_ranks_that_cannot_be_shared_out_equally_are_an_error(hosts):
    def change(data):
        data["num_processes"] = 4
        for host in data["llmlaunch"]["hosts"]:
            host.pop("slots", None)

    run = hosts.run("true", config=hosts.config(change))
    assert run.status == 78, str(run)
    assert "num_processes" in run.err and "4" in run.err and "3" in run.err, str(run)


def test_a_config_file_that_is_not_there_is_named(hosts):
    command = [str(BIN / "llmlaunch"), "run", "--config", "/no/such/config.yaml", "true"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=hosts.head)
    assert ended.returncode == 78, ended
    assert "/no/such/config.yaml" in ended.stderr


# --- interruptions -------------------------------------------------------------------------------------------------
def staying(hosts, body="", **more):
    """A run whose ranks all stay, once all of them said so."""
    run = hosts.start(*rank_program(body), **more)
    wait_until(lambda: run.out.count("staying") == 3 or run.process.poll() is not None, f"three ranks\n{run}", 60)
    assert run.process.poll() is None, str(run)
    return run


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129),
                                            (signal.SIGQUIT, 131)])
def test_a_signal_to_the_head_stops_every_rank(hosts, number, status):
    run = staying(hosts)
    os.kill(run.pid, number)
    run.finish(30)
    assert run.status == status, str(run)
    assert f"llmlaunch: warning: caught {number.name}: stopping 3 ranks (once more: kill at once)\n" in run.err, str(run)
    assert headline(run) == f"llmlaunch: error: interrupted by {number.name}", str(run)
    hosts.nothing_left(run)


def test_the_time_limit_stops_every_rank_with_124(hosts):
    run = staying(hosts, options=("--timeout", "3"))
    run.finish(60)
    assert run.status == 124, str(run)
    assert headline(run) == "llmlaunch: error: the job did not end within 3 s (its time limit)", str(run)
    hosts.nothing_left(run)


def test_a_second_ctrl_c_does_not_wait_for_the_grace(hosts):
    def change(data):
        data["llmlaunch"]["timeouts"] = {"grace": 300}

    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, lambda *_: print('got it', flush=True))"
    run = staying(hosts, body + "\nif True:\n  print('staying', flush=True)\n  while True: time.sleep(600)",
                  config=hosts.config(change))
    os.kill(run.pid, signal.SIGINT)
    # The head says that it stops, or a rank says that it got the signal: then comes the second press.
    wait_until(lambda: "SIGINT" in run.err or "nterrupt" in run.err or "got it" in run.out, f"the first press\n{run}")
    assert run.press_on(signal.SIGINT).status == 130, str(run)
    assert headline(run) == "llmlaunch: error: interrupted by SIGINT", str(run)
    hosts.nothing_left(run)


def test_timeout_signals_twice_and_the_ranks_have_their_grace(hosts, tmp_path):
    """coreutils' timeout passes a signal on to its child and then to its group, which the child is in: one stop."""
    go_on = tmp_path / "go-on"
    body = f"""
def save(*_):
    print("saving", flush=True)
    while not os.path.exists({str(go_on)!r}): time.sleep(0.01)
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)"""

    def change(data):
        data["llmlaunch"]["timeouts"] = {"grace": 300}

    run = staying(hosts, body, config=hosts.config(change), under=("timeout", "600"))
    os.kill(run.pid, signal.SIGTERM)
    wait_until(lambda: run.out.count("saving") == 3 or run.process.poll() is not None, f"three ranks that save\n{run}")
    go_on.touch()
    run.finish(60)
    assert run.status == 143 and run.out.count("saved") == 3, str(run)
    hosts.nothing_left(run)


def test_ctrl_c_while_hosts_are_still_connecting_ends_at_once(hosts):
    with socket.create_server(("127.0.0.3", 0)) as silent:
        def change(data):
            data["llmlaunch"]["hosts"][1]["port"] = silent.getsockname()[1]
            data["llmlaunch"]["timeouts"] = {"connect": 300}

        run = hosts.start("echo", "started-anyway", config=hosts.config(change))
        silent.settimeout(30)
        connection, _ = silent.accept()  # the head is connecting now
        connection.recv(1)
        os.kill(run.pid, signal.SIGINT)
        pressed = time.monotonic()
        run.finish(30)
        ended_after = time.monotonic() - pressed
        connection.close()
    assert run.status == 130, str(run)
    # The job's end once waited for a signal that never came, until a limit of 5 s.
    assert ended_after < 4 * (3 if SCALE > 1 else 1), f"{ended_after:.1f} s after Ctrl-C\n{run}"
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def test_timeout_while_hosts_are_still_connecting_does_not_cut_off_the_last_words(hosts):
    """Its second signal comes when the job has ended by the first, and the process not."""
    with socket.create_server(("127.0.0.3", 0)) as silent:
        def change(data):
            data["llmlaunch"]["hosts"][1]["port"] = silent.getsockname()[1]
            data["llmlaunch"]["timeouts"] = {"connect": 300}

        run = hosts.start("echo", "started-anyway", config=hosts.config(change), under=("timeout", "600"))
        silent.settimeout(30)
        connection, _ = silent.accept()
        connection.recv(1)
        os.kill(run.pid, signal.SIGTERM)
        run.finish(30)
        connection.close()
    assert run.status == 143 and headline(run) == "llmlaunch: error: interrupted by SIGTERM", str(run)
    started_nowhere(hosts, run)
    hosts.nothing_left(run)


def test_kill_9_of_the_head_leaves_no_rank_on_any_host(hosts):
    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": 2, "grace": 2}

    run = staying(hosts, config=hosts.config(change))
    os.kill(run.pid, signal.SIGKILL)
    run.finish(30)
    assert run.status == 128 + signal.SIGKILL
    hosts.nothing_left(run, within=15)


def test_kill_9_of_the_head_ends_ranks_that_ignore_sigterm_too(hosts):
    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": 2, "grace": 1}

    run = staying(hosts, "signal.signal(signal.SIGTERM, signal.SIG_IGN)", config=hosts.config(change))
    os.kill(run.pid, signal.SIGKILL)
    run.finish(30)
    hosts.nothing_left(run, within=15)


def agent_and_watchman(hosts, name):
    """The two processes of the agent on a host: the watchman is the other one's parent."""
    found = processes_with(f"LLMLAUNCH_TEST_HOST={name}")
    here = processes_with(f"LLMLAUNCH_TEST_HOSTS={hosts.directory}")
    pids = [pid for pid, line in found.items() if pid in here and "RANK" not in line and "agent" in line]
    assert len(pids) == 2, f"agent and watchman on {name}: {pids}"
    return (pids[1], pids[0]) if pids[1] in children_of(pids[0]) else (pids[0], pids[1])


def wait_in(hosts, name):
    """Waits until nothing runs on a host any more; seconds."""
    began = time.monotonic()
    wait_until(lambda: not hosts.processes_on(name), f"the end of {hosts.processes_on(name)}")
    return time.monotonic() - began


def test_kill_9_of_an_agent_ends_its_ranks_at_once_and_the_job_with_its_name(hosts):
    """The watchman ends the ranks; the head starts an agent anew, which finds that there is nothing to go on with. No
    timeout has a part in it: they are all far away."""
    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": 60, "grace": 60}

    body = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0) if rank != 1 else None)"
    run = staying(hosts, body, config=hosts.config(change))
    os.kill(agent_and_watchman(hosts, "test02")[0], signal.SIGKILL)
    assert wait_in(hosts, "test02") < 5 * (3 if SCALE > 1 else 1)
    run.finish(20)
    assert run.status == 69, str(run)
    assert re.search(r"error: host test02 \(node_rank 1, rank 1\): connection lost: .*; connected again: the agent that had "
                     r"started the ranks is gone, and its ranks with it$", headline(run)), str(run)
    assert ("\n   the last lines from there:\n     rank 1 | staying\n"
            f"   all of it: {hosts.run_directory(run)}\n"
            "   2 ranks stopped by llmlaunch, 1 rank lost with its connection\n"
            "   hint: it was killed there (`dmesg` tells of a kernel that was out of memory), the host was started anew "
            "(`uptime`), or it heard nothing from the head for llmlaunch.timeouts.head. No process with the job's "
            "LLMLAUNCH_JOB_ID is found on the host: it can be run again\n") in run.err, str(run)
    assert (hosts.run_directory(run) / "rank-00001.out").read_text() == "staying\n"
    hosts.nothing_left(run, within=15)


def test_kill_9_of_agent_and_watchman_leaves_nothing_that_a_rank_had_started(hosts):
    """A rank itself dies with its agent; what it has started is nobody's then. The head comes again and looks for it. The
    ranks of the other host, with the same job, get their grace."""
    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": 60, "grace": 60}

    program = hosts.head / "parent.sh"
    program.write_text("#!/bin/sh\ntrap 'echo in order; exit 0' TERM\nsetsid sleep 600 &\nsleep 600 &\necho started\nwait\n")
    program.chmod(0o755)
    run = hosts.start(str(program), config=hosts.config(change))
    for rank in (0, 1):
        run.said(f"[rank {rank} test0{rank + 1}] started")
    wait_until(lambda: sum("sleep 600" in line for line in hosts.processes_on("test02").values()) == 2, "both sleeps")
    agent, watchman = agent_and_watchman(hosts, "test02")
    os.kill(watchman, signal.SIGSTOP)  # as if both died at once
    os.kill(agent, signal.SIGKILL)
    os.kill(watchman, signal.SIGKILL)
    run.finish(30)
    assert run.status == 69, str(run)
    assert "No process with the job's LLMLAUNCH_JOB_ID is found on the host: it can be run again\n" in run.err, str(run)
    assert "[rank 0 test01] in order" in run.out, str(run)
    assert not [line for line in hosts.processes_on("test02").values() if "sleep 600" in line], str(run)
    hosts.nothing_left(run, within=15)


def test_an_agent_that_stands_still_is_told_as_such_and_ends_its_ranks_when_it_goes_on(hosts):
    """It was told as a host that is down, and as one where nothing is left."""
    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": 8}

    run = staying(hosts, config=hosts.config(change))
    agent, _ = agent_and_watchman(hosts, "test02")
    os.kill(agent, signal.SIGSTOP)
    try:
        run.finish(60)
    finally:
        os.kill(agent, signal.SIGCONT)
    assert run.status == 69, str(run)
    assert re.search(r"it could not be reached again within \d+ s: the agent that had started the ranks does not answer: it stands "
                     r"still$", headline(run)), str(run)
    assert "\n   hint: somebody has stopped it there, or its file system hangs" in run.err, str(run)
    assert "\n   processes may be left on test02: nothing more was heard from there." in run.err, str(run)
    hosts.nothing_left(run, within=40)


def test_kill_9_of_a_watchman_during_setup_leaves_nothing_that_setup_had_started(hosts):
    def change(data):
        data["llmlaunch"].update(setup=["echo begun", "sleep 600"], timeouts={"start": 20})

    run = hosts.start("true", config=hosts.config(change))
    wait_until(lambda: any("sleep 600" in line for line in hosts.processes_on("test02").values()), "setup on test02")
    os.kill(agent_and_watchman(hosts, "test02")[1], signal.SIGKILL)
    wait_until(lambda: not hosts.processes_on("test02"), f"the end of {hosts.processes_on('test02')}")
    os.kill(run.pid, signal.SIGINT)
    run.finish(30)
    hosts.nothing_left(run, within=15)


def test_kill_9_of_a_watchman_is_seen_at_once_and_the_agent_tells_how_its_ranks_ended(hosts):
    """sshd has waited for the watchman and not for the agent: half a connection is left, which the agent ends itself. Where
    the head's Bye came too late for that half, the agent waits for the head to come back, for timeouts.head."""
    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": 60}

    run = staying(hosts, config=hosts.config(change))
    os.kill(agent_and_watchman(hosts, "test02")[1], signal.SIGKILL)
    run.finish(20)  # half of timeouts.head, for a host that has fallen silent, would be 30 s
    assert run.status == 69, str(run)
    assert re.search(r"error: rank 1 \(test02, pid \d+\) was killed by SIGTERM: its agent was told to end on the host "
                     r"\(by SIGTERM, or its watchman was killed\)$", headline(run)), str(run)
    hosts.nothing_left(run, within=65)


def test_a_reader_that_goes_away_is_told_and_the_job_goes_on(hosts):
    """`llmlaunch run … | less`, and q: hours of training do not end for that. The run directory gets every line."""
    read_end, write_end = os.pipe()
    count = 20_000
    run = hosts.start(PYTHON, "-c", f"for n in range({count}): print('line', n)", stdout=write_end)
    os.close(write_end)
    assert os.read(read_end, 10)
    os.close(read_end)
    run.finish(60)
    assert run.status == 0, str(run)
    assert run.err.count("nobody reads it any more") == 1 and "merged.log" in run.err, str(run)
    assert (hosts.run_directory() / "merged.log").read_text().count("line ") == 3 * count
    hosts.nothing_left(run)
