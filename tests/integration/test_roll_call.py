"""The roll call: on a terminal one line that is drawn again and goes away; elsewhere a sentence now and then."""
import fcntl
import os
import re
import signal
import socket
import struct
import termios
import threading

from conftest import PYTHON, wait_until

HOSTS = 2


class Screen:
    """A terminal that remembers each state of its lowest line. Knows what llmlaunch uses: \\r, \\n, erase, colours."""

    def __init__(self, columns=100):
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.columns = columns
        self.rows, self.column, self.states, self.raw = [""], 0, [], bytearray()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            try:
                piece = os.read(self.master, 1 << 16)
            except OSError:  # the last one who had it open is gone
                return
            if not piece:
                return
            self.raw += piece
            for token in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", piece.decode(errors="replace")):
                self._take(token)
            self.states.append(self.rows[-1])

    def _take(self, token):
        row = self.rows[-1]
        if token == "\n":
            self.rows.append("")
        elif token == "\r":
            self.column = 0
        elif token == "\x1b[K":
            self.rows[-1] = row[:self.column]
        elif token.startswith("\x1b"):
            assert token.endswith("m"), f"the cursor was moved: {token!r}"
        else:
            self.rows[-1] = row[:self.column] + token + row[self.column + len(token):]
            self.column += len(token)

    def close(self):
        os.close(self.slave)
        self.reader.join(10)
        os.close(self.master)


def with_terminal(hosts, screen, *arguments, **more):
    env = {"TERM": "xterm", "NO_COLOR": "1", **more.pop("env", {})}
    return hosts.start(*arguments, **{"stdout": screen.slave, "stderr": screen.slave, **more}, env=env)


def gate_of(hosts, name):
    """The host's login shell waits until somebody writes into the gate."""
    gate = hosts.home(name) / "gate"
    os.mkfifo(gate)
    (hosts.home(name) / ".bashrc").write_text("read line < ~/gate\n")
    return gate


def open_gate(hosts, name, gate):
    gate.write_text("go\n")
    gate.unlink()
    (hosts.home(name) / ".bashrc").unlink()


def test_a_terminal_shows_who_keeps_the_job_and_nothing_of_it_stays(hosts):
    gate = gate_of(hosts, "test02")
    screen = Screen()
    run = with_terminal(hosts, screen, "echo", "hello")
    wait_until(lambda: any("waiting for 1 of 2: test02 starting agent 3 s" in state for state in screen.states),
               "the slow host on the screen")
    open_gate(hosts, "test02", gate)
    run.finish()
    screen.close()
    assert run.status == 0, screen.rows
    lines = [state for state in screen.states if state.startswith("llmlaunch: 1 starting agent, 1 ready")]
    assert lines and max(len(line) for line in screen.states) < screen.columns
    rows = [row for row in screen.rows if row and "OMP_NUM_THREADS" not in row]
    assert re.fullmatch(r"llmlaunch: 2 hosts, 2 ranks; rendezvous port \d+; logs in .*", rows[0]), rows
    assert sorted(rows[1:3]) == ["[rank 0 test01] hello", "[rank 1 test02] hello"], rows
    assert re.fullmatch(r"llmlaunch: 2 ranks ended well after [\d.]+ s", rows[3]) and len(rows) == 4, rows
    hosts.nothing_left(run)


def test_a_failure_takes_the_line_away_before_it_speaks(hosts):
    with socket.create_server(("127.0.0.3", 0)) as silent:
        def change(data):
            data["llmlaunch"]["hosts"][1]["port"] = silent.getsockname()[1]
            data["llmlaunch"]["timeouts"] = {"connect": 4}

        screen = Screen(columns=60)
        run = with_terminal(hosts, screen, "echo", "hello", config=hosts.config(change))
        run.finish()
        screen.close()
    assert run.status == 69, screen.rows
    assert any(re.fullmatch(r"llmlaunch: waiting for 1 of 2: test02 connecting 3 s", state)
               for state in screen.states), screen.states  # the counts have no room beside it
    assert not any("connecting" in row and "waiting for" in row for row in screen.rows), screen.rows
    assert any(row.startswith("llmlaunch: error: host test02") for row in screen.rows), screen.rows
    hosts.nothing_left(run)


def test_a_stop_that_takes_long_is_shown_too(hosts):
    def change(data):
        data["llmlaunch"]["timeouts"] = {"grace": 60}

    body = ("import os, signal\nif os.environ['RANK'] == '1': signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('on', flush=True)\nwhile True: signal.pause()")
    screen = Screen()
    run = with_terminal(hosts, screen, PYTHON, "-c", body, config=hosts.config(change))
    wait_until(lambda: sum(row.endswith("] on") for row in screen.rows) == 2, "two ranks that run")
    wait_until(lambda: screen.rows[-1] == "", "a screen that is the ranks' own")
    os.kill(run.pid, signal.SIGINT)
    wait_until(lambda: any("stopping: 1 running, 1 exited; waiting for 1 of 2: test02 running 3 s" in state
                           for state in screen.states), f"who is waited for\n{screen.rows}")
    os.kill(run.pid, signal.SIGINT)
    run.finish()
    screen.close()
    assert run.status == 130, screen.rows
    assert not any("stopping: " in row and "exited" in row for row in screen.rows), screen.rows
    hosts.nothing_left(run)


def test_no_progress_and_no_terminal_mean_plain_lines(hosts):
    """Three runs at once, as each is silent for five seconds."""
    gate = hosts.home("test02") / "open"
    (hosts.home("test02") / ".bashrc").write_text("until [ -e ~/open ]; do sleep 0.05; done\n")
    sentence = "llmlaunch: waiting for 1 of 2 hosts: test02 starting agent (5 s)"
    piped = hosts.start("true", env={"TERM": "xterm"})
    screens = [Screen(columns=200), Screen(columns=200)]
    runs = [with_terminal(hosts, screens[0], "true", options=("--no-progress",)),
            with_terminal(hosts, screens[1], "true", env={"TERM": "dumb"})]
    piped.said(sentence + "\n")
    for screen in screens:
        wait_until(lambda: sentence in screen.rows, "the sentence on the screen")
    gate.touch()
    for run in [piped, *runs]:
        assert run.finish().status == 0, str(run)
    gate.unlink()
    (hosts.home("test02") / ".bashrc").unlink()
    assert "\x1b" not in piped.err and "\r" not in piped.err, str(piped)
    for screen in screens:
        screen.close()
        assert b"\x1b" not in screen.raw, screen.raw
    for run in [piped, *runs]:
        hosts.nothing_left(run)


def test_a_terminal_has_colours_unless_it_says_no(hosts):
    for env, coloured in (({"NO_COLOR": ""}, True), ({}, False), ({"NO_COLOR": "", "TERM": "dumb"}, False)):
        screen = Screen()
        run = with_terminal(hosts, screen, "echo", "hello", env=env)
        run.finish()
        screen.close()
        assert run.status == 0, screen.rows
        assert (b"\x1b[36m[rank 0 test01] \x1b[0mhello" in screen.raw) == coloured, screen.raw
        assert "[rank 0 test01] hello" in screen.rows
    screen = Screen()
    run = with_terminal(hosts, screen, "echo", "hello", env={"NO_COLOR": "1"}, options=("--color", "always"))
    run.finish()
    screen.close()
    assert b"\x1b[36m[rank 0 test01] \x1b[0mhello" in screen.raw, screen.raw


def test_exec_tells_which_hosts_still_run_and_then_what_they_said(hosts):
    gate = hosts.home("test02") / "gate"
    os.mkfifo(gate)
    screen = Screen()
    script = "case $LLMLAUNCH_HOST in test02) read line < ~/gate;; esac; echo done"
    trace = hosts.head / "trace.json"
    run = with_terminal(hosts, screen, "--shell", script, command="exec", options=("--timeline", str(trace)))
    wait_until(lambda: any("1 running, 1 exited; waiting for 1 of 2: test02 running 3 s" in state
                           for state in screen.states), "the host that still runs")
    gate.write_text("go\n")
    run.finish()
    screen.close()
    gate.unlink()
    assert run.status == 0, screen.rows
    rule = "-" * 16
    assert [row for row in screen.rows if row] == [rule, "test[01-02] (2)", rule, "done"], screen.rows
    assert "first line" in trace.with_name("trace.json.txt").read_text()
    hosts.nothing_left(run)


def test_a_host_whose_connections_are_dropped_is_named_with_the_reason(hosts):
    """What sshd's MaxStartups looks like from here: accepted, and closed before a word."""
    with socket.create_server(("127.0.0.3", 0)) as dropping:
        def drop():
            while True:
                try:
                    dropping.accept()[0].close()
                except OSError:  # the end of the test
                    return

        threading.Thread(target=drop, daemon=True).start()

        def change(data):
            data["llmlaunch"]["hosts"][1]["port"] = dropping.getsockname()[1]

        screen = Screen(columns=200)
        run = with_terminal(hosts, screen, "true", config=hosts.config(change))
        run.finish()
        screen.close()
        dropping.shutdown(socket.SHUT_RDWR)
    assert run.status == 69, screen.rows
    assert any(re.search(r"waiting for 1 of 2: test02 connecting \d s \(.+\)$", state) for state in screen.states), \
        screen.states
