"""What people read when something is wrong, as they would read it: one line for one reason, a command that works when it
is pasted, and nothing that holds them or is left behind."""
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import time

from conftest import BIN, Refusing, wait_until

HOSTS = 3


def test_hosts_that_fail_for_one_reason_are_one_line(hosts):
    with Refusing("127.0.0.9") as port:

        def refused(data):
            for host in data["llmlaunch"]["hosts"]:
                host["port"] = port

        for command in ("run", "exec"):
            run = hosts.run("true", config=hosts.config(refused), command=command)
            assert run.status == 69, run
            assert run.err.count("connection refused by") == 1 and "test[01-03]" in run.err, run
            assert "(that is test01; the others alike)" in run.err and run.err.count("hint:") == 1, run


def test_a_setup_line_that_fails_everywhere_is_one_line(hosts):
    def broken(data):
        data["llmlaunch"]["setup"] = ["no-such-command --here"]
        # Scripts of other lengths, so that the shells name other lines.
        for place, host in enumerate(data["llmlaunch"]["hosts"]):
            host["env"] = {f"FILLER_{n}": "x" for n in range(place * 3)}

    run = hosts.run("true", config=hosts.config(broken))
    assert run.status == 69, run
    assert run.err.count("setup line 1") == 1 and "3 hosts test[01-03]" in run.err, run
    hosts.nothing_left(run)


def test_the_command_for_an_unknown_host_key_works_when_it_is_pasted(hosts, tmp_path):
    known = tmp_path / "not there" / "known_hosts"

    def unknown(data):
        data["llmlaunch"]["ssh"]["known_hosts_file"] = str(known)

    run = hosts.run("true", config=hosts.config(unknown, only=["test01"]))
    assert run.status == 69 and "the host key is not known" in run.err, run
    command = re.search(r"then: (.*?); or set", run.err)[1]
    subprocess.run(["sh", "-c", command], check=True, timeout=60, stderr=subprocess.DEVNULL)
    assert known.stat().st_size > 0
    again = hosts.run("true", config=hosts.config(unknown, only=["test01"]))
    assert again.status == 0, again


def test_without_a_home_a_run_on_this_machine_leaves_no_folder(tmp_path):
    env = {key: value for key, value in os.environ.items()
           if key not in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME") and not key.startswith("LLMLAUNCH_")}
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run([str(BIN / "llmlaunch"), "run", "--log-dir", str(tmp_path / "logs"), "true"],
                          env={**env, "TMPDIR": str(temporary)}, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == []


def stopped_with_a_reader_that_stands_still(hosts, command, words, stdout, stderr):
    """Ctrl-C while a pipe that nobody reads is full. How long the end takes."""
    ours, theirs = os.pipe()

    def short_grace(data):
        data["llmlaunch"]["timeouts"] = {"grace": 2}

    run = hosts.start(*words, config=hosts.config(short_grace), command=command[0], options=command[1:],
                      stdout=theirs if stdout else None, stderr=theirs if stderr else None)
    os.close(theirs)
    try:
        def waiting():
            return struct.unpack("i", fcntl.ioctl(ours, termios.FIONREAD, b"\0" * 4))[0]

        wait_until(lambda: waiting() > 60_000, "a full pipe")
        began = time.monotonic()
        os.kill(run.pid, signal.SIGINT)
        run.finish(25)
        assert run.status == 130, run
        return time.monotonic() - began
    finally:
        os.close(ours)


def test_a_stop_waits_for_a_reader_no_longer_than_its_grace(hosts):
    took = stopped_with_a_reader_that_stands_still(hosts, ["run"], ["yes"], True, False)
    assert took < 10, took
    took = stopped_with_a_reader_that_stands_still(hosts, ["exec", "-L"], ["yes"], True, False)
    assert took < 10, took
    hosts.nothing_left()


def test_a_stop_waits_no_longer_for_a_reader_of_what_is_said(hosts):
    took = stopped_with_a_reader_that_stands_still(hosts, ["run"], ["sh", "-c", "yes >&2"], True, True)
    assert took < 10, took
    hosts.nothing_left()


def test_what_cannot_be_printed_is_an_error_of_a_file(hosts, tmp_path):
    for words in (["--help"], ["version"], ["hosts", "n1"], ["docs", "man"], ["run", "--dry-run", "true"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([str(BIN / "llmlaunch"), *words], stdout=full, stderr=subprocess.PIPE, text=True,
                                  cwd=tmp_path, timeout=60)
        assert done.returncode == 74 and "No space left on device" in done.stderr, (words, done)


def test_exec_on_a_full_disk_is_no_broken_pipe(hosts):
    with open("/dev/full", "wb") as full:
        run = hosts.run("hostname", command="exec", options=["-L"], stdout=full)
    assert run.status == 74 and "stdout: write: No space left on device" in run.err, run
    hosts.nothing_left(run)
