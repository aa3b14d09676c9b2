"""What the end-to-end tests share: real sshd's from scripts/test_hosts.sh, llmlaunch run against them, and the proof
that a job left nothing behind.

ctest gives LLMLAUNCH_BIN_DIR (the build under test) and LLMLAUNCH_TEST_SCALE (a divisor of volumes, above 1 for
sanitizer builds). By hand:  LLMLAUNCH_BIN_DIR=build/dev/bin /usr/bin/python3 -m pytest tests/integration
"""
import copy
import fcntl
import glob
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time
import uuid

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("LLMLAUNCH_BIN_DIR", ROOT / "build" / "dev" / "bin")).resolve()
SCALE = max(1, int(os.environ.get("LLMLAUNCH_TEST_SCALE", "1")))
MARK = "LLMLAUNCH_TEST_MARK"  # in the environment of the head and of every rank, unique for each run
WORKERS = "LLMLAUNCH_TEST_SSH_WORKERS"  # so many threads for ssh sessions, whatever the cores and hosts
PYTHON = "/usr/bin/python3"   # for ranks: the system's own, whatever a user's PATH has first


def wait_until(condition, what, timeout=30.0):
    """Waits for an event that can only be seen by looking: returns the condition's first true value."""
    deadline = time.monotonic() + timeout * (2 if SCALE > 1 else 1)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not seen within {timeout:g} s: {what}")
        time.sleep(0.01)


def processes_with(*entries):
    """{pid: command line} of the processes that have one of these NAME=value entries in their environment."""
    wanted = {os.fsencode(entry) for entry in entries}
    found = {}
    for file in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(file, "rb") as stream:
                if wanted.isdisjoint(stream.read().split(b"\0")):
                    continue
            with open(file.replace("environ", "cmdline"), "rb") as stream:
                found[int(file.split("/")[2])] = stream.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def children_of(pid):
    found = []
    for file in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            found += [int(child) for child in pathlib.Path(file).read_text().split()]
        except OSError:
            pass
    return found


def kill_all(pids):
    """SIGKILL for each; some of them end with another."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _as_a_shell_does():
    """A process group of its own in the session of its parent, which can continue it."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)


class Run:
    """One llmlaunch that was started. Its output is taken off by threads, so that it never waits for the test."""

    def __init__(self, command, env, cwd, mark, stdout=None, stderr=None, terminal=None, job_control=False):
        self.mark = mark
        self.command = [os.fsdecode(word) for word in command]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout or subprocess.PIPE,
            stderr=stderr or subprocess.PIPE, start_new_session=not job_control,
            preexec_fn=(lambda: fcntl.ioctl(terminal.theirs, termios.TIOCSCTTY, 0)) if terminal
            else _as_a_shell_does if job_control else None)
        self.pid = self.process.pid
        self.out_bytes, self.err_bytes = bytearray(), bytearray()
        self._readers = []
        if stderr is None:
            self._readers.append(
                threading.Thread(target=self._take, args=(self.process.stderr, self.err_bytes), daemon=True))
        if stdout is None:
            self._readers.append(
                threading.Thread(target=self._take, args=(self.process.stdout, self.out_bytes), daemon=True))
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _take(stream, into):
        while True:
            piece = stream.read1(1 << 16)
            if not piece:
                return
            into += piece

    @property
    def out(self):
        return bytes(self.out_bytes).decode(errors="surrogateescape")

    @property
    def err(self):
        return bytes(self.err_bytes).decode(errors="surrogateescape")

    def said(self, text, timeout=60.0):
        """Waits until this text is in the output."""

        def look():
            return text in self.out or text in self.err or (self.process.poll() is not None and "ended")

        if wait_until(look, f"{text!r} in the output of {self}", timeout) == "ended":
            self.finish()
            if text not in self.out and text not in self.err:
                pytest.fail(f"it ended with {self.status} and never said {text!r}\n{self}")

    def press_again(self, number):
        """A second signal that is a second wish: what comes within 0.1 s of the first is one with it."""
        time.sleep(0.15)
        self.process.send_signal(number)

    def press_on(self, number, timeout=60.0):
        """Somebody presses Ctrl-C again and again, until it ends."""
        def ended():
            self.process.send_signal(number)
            return self.process.poll() is not None

        wait_until(ended, f"that it ends by more of {number.name}\n{self}", timeout)
        return self.finish()

    def finish(self, timeout=120.0):
        """Waits for the end and returns self. A run that does not end is a failure, and is ended."""
        try:
            self.process.wait(timeout * (3 if SCALE > 1 else 1))
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
            pytest.fail(f"no end within {timeout:g} s\n{self}")
        self.seconds = time.monotonic() - self.started
        for reader in self._readers:
            reader.join(10)
        return self

    @property
    def status(self):
        """As a shell tells it."""
        ended = self.process.returncode
        return ended if ended is None or ended >= 0 else 128 - ended

    @property
    def ended_by(self):
        """The signal that it died of; None: it ended with its status."""
        ended = self.process.returncode
        return signal.Signals(-ended) if ended is not None and ended < 0 else None

    def __str__(self):
        def clipped(text):
            return text if len(text) < 6000 else text[:3000] + "\n  [ … ]\n" + text[-3000:]

        # What went wrong is said on stderr, and who shows a failure may cut it short.
        return f"$ {' '.join(self.command)}\n--- stderr\n{clipped(self.err)}\n--- stdout\n{clipped(self.out)}"


class Refusing:
    """A port of this address at which nobody listens, and that nobody else can take meanwhile."""

    def __init__(self, address):
        self.socket = socket.socket()
        self.socket.bind((address, 0))
        self.port = self.socket.getsockname()[1]

    def __enter__(self):
        return self.port

    def __exit__(self, *_):
        self.socket.close()


class Terminal:
    """A terminal to sit at: what the program writes to /dev/tty is in `shown`."""

    def __init__(self):
        self.ours, self.theirs = os.openpty()
        self.bytes = bytearray()
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self):
        while True:
            try:
                self.bytes += os.read(self.ours, 4096)
            except OSError:
                return

    @property
    def shown(self):
        return bytes(self.bytes).decode(errors="replace")

    def type(self, text):
        os.write(self.ours, text.encode())

    def asks(self, text, times=1):
        wait_until(lambda: self.shown.count(text) >= times, f"{times} × {text!r} on the terminal, which shows {self.shown!r}")
        # The prompt is written when echo is off already.
        assert not self.echoes(), self.shown

    def echoes(self):
        return bool(termios.tcgetattr(self.theirs)[3] & termios.ECHO)

    def close(self):
        os.close(self.theirs)
        os.close(self.ours)


class Hosts:
    """N pretend hosts and the head's side of them. `base` is the parsed YAML that test_hosts.sh wrote."""

    def __init__(self, directory, head):
        self.directory, self.head = directory, head
        self.base = yaml.safe_load((directory / "config.yaml").read_text())
        self.runs = []
        self.via = None  # llmlaunch.rendezvous.via of all configurations; see `via`

    @property
    def names(self):
        return [host["name"] for host in self.base["llmlaunch"]["hosts"]]

    def home(self, name):
        return self.directory / name / "home"

    def sshd_pid(self, name):
        return int((self.directory / name / "sshd.pid").read_text())

    def port(self, name):
        return next(host["port"] for host in self.base["llmlaunch"]["hosts"] if host["name"] == name)

    def config(self, change=None, slots=None, only=None):
        """The text of a YAML for these hosts; `change(dict)` may edit it first."""
        data = copy.deepcopy(self.base)
        data["llmlaunch"]["forward_env"] = [MARK]
        hosts = data["llmlaunch"]["hosts"]
        if only:
            hosts[:] = [host for host in hosts if host["name"] in only]
        for host in hosts:
            if slots:
                host["slots"] = slots
        data["num_machines"] = len(hosts)
        data["num_processes"] = sum(host.get("slots", 1) for host in hosts)
        if self.via:
            data["llmlaunch"].setdefault("rendezvous", {})["via"] = self.via
        if change:
            change(data)
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)

    def start(self, *arguments, config=None, options=(), env=None, stdout=None, stderr=None, terminal=None,
              command="run", under=()):
        """Starts `[under] llmlaunch run [options] --config … arguments` and returns at once."""
        mark = uuid.uuid4().hex
        text = self.config() if config is None else config
        file = self.head / f"cfg-{mark[:8]}.yaml"
        file.write_text(text)
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith("LLMLAUNCH_") or key == WORKERS}
        environment.pop("SSH_AUTH_SOCK", None)
        environment.update({"HOME": str(self.head / "home"), "TMPDIR": str(self.head / "tmp"), MARK: mark})
        environment.update(env or {})
        command = [*under, str(BIN / "llmlaunch"), command, "--config", str(file), *options, *arguments]
        run = Run(command, environment, self.head, mark, stdout, stderr, terminal)
        run.config_file = file
        self.runs.append(run)
        return run

    def run(self, *arguments, timeout=120.0, **more):
        return self.start(*arguments, **more).finish(timeout)

    def processes_on(self, name):
        """{pid: command line} of what runs on one host."""
        here = processes_with(f"LLMLAUNCH_TEST_HOST={name}")
        return {pid: here[pid] for pid in self.processes() if pid in here}

    def run_directory(self, run=None):
        """The one directory below log_dir whose job.json belongs to this run (default: the newest)."""
        found = sorted((self.directory / "logs").glob("*/job.json"), key=lambda file: file.stat().st_mtime)
        assert found, "no run directory with a job.json was written"
        return found[-1].parent

    def processes(self, run=None):
        """Every process on the hosts, and with `run` also what it left on the head."""
        entries = [f"LLMLAUNCH_TEST_HOSTS={self.directory}"] + ([f"{MARK}={run.mark}"] if run else [])
        return processes_with(*entries)

    def nothing_left(self, run=None, within=3.0):
        """Proves that no process, ssh session or file of a job remains. Only the program cache may stay on a host."""
        deadline = time.monotonic() + within * (2 if SCALE > 1 else 1)
        while True:
            left = self.processes(run)
            sessions = {name: children_of(self.sshd_pid(name)) for name in self.names if self.alive(name)}
            sessions = {name: pids for name, pids in sessions.items() if pids}
            if not left and not sessions:
                break
            if time.monotonic() > deadline:
                pytest.fail(f"left after {within:g} s: processes {left}, ssh sessions {sessions}\n{run or ''}")
            time.sleep(0.02)
        files = []
        for name in self.names:
            for top in ("home", "run", "tmp"):
                for file in (self.directory / name / top).rglob("*"):
                    inside = file.relative_to(self.directory / name).as_posix()
                    if inside.startswith("home/.cache/llmlaunch/") and ".tmp" not in inside and ".part" not in inside:
                        continue
                    if file.is_file() and inside not in ("home/.bashrc", "home/.hushlogin"):
                        files.append(f"{name}:{inside}")
        files += [f"head:{file}" for file in (self.head / "tmp").rglob("*")]
        assert files == [], f"files left: {files}\n{run or ''}"

    def alive(self, name):
        return pathlib.Path(f"/proc/{self.sshd_pid(name)}").exists()


class ExtraSshd:
    """One more sshd beside the hosts: the first host's own, with another port, key and log, and lines of its own."""

    number = 0

    def __init__(self, hosts, *lines, name=None, under=(), address=None):
        ExtraSshd.number += 1
        self.hosts, self.address = hosts, address or f"127.0.9.{ExtraSshd.number}"
        self.name = name or f"extra{ExtraSshd.number}"
        self.folder = hosts.head / f"sshd-{ExtraSshd.number}"
        self.folder.mkdir()
        key = self.folder / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1" if address else self.address, 0))
            self.port = probe.getsockname()[1]
        shown = f"[{self.address}]" if ":" in self.address else self.address
        theirs = {"ListenAddress": f"{shown}:{self.port}", "HostKey": str(key), "LogLevel": "DEBUG1",
                  "PidFile": str(self.folder / "pid")}
        theirs.update(line.split(" ", 1) for line in lines)
        base = (hosts.directory / "test01" / "sshd.conf").read_text().splitlines()
        kept = [line for line in base if line.split(" ", 1)[0] not in theirs]
        (self.folder / "sshd.conf").write_text("\n".join([f"{k} {v}" for k, v in theirs.items()] + kept) + "\n")
        self.log = self.folder / "log"
        self.process = subprocess.Popen(
            [*under, "/usr/sbin/sshd", "-D", "-E", str(self.log), "-f", str(self.folder / "sshd.conf")],
            start_new_session=True)
        wait_until((self.folder / "pid").exists, "the extra sshd's pid file")
        self.known = f"[{self.address}]:{self.port} " + " ".join(key.with_suffix(".pub").read_text().split()[:2])

    def said(self, text):
        return self.log.read_text(errors="replace").count(text)

    def stanza(self, *lines):
        return "\n  ".join([f"Host {self.name}", f"HostName {self.address}", f"Port {self.port}", *lines]) + "\n"

    def as_host(self):
        """An entry for `hosts`."""
        return {"name": self.name, "address": self.address, "port": self.port, "slots": 1,
                "user": self.hosts.base["llmlaunch"]["hosts"][0]["user"]}

    def stop(self):
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def extra_sshd(hosts):
    """Starts more sshd's: extra_sshd("AllowTcpForwarding no", name="gate")."""
    made = []

    def make(*lines, **more):
        made.append(ExtraSshd(hosts, *lines, **more))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def bring_up(count, *options):
    """Starts hosts and returns (Hosts, function that takes them down and fails when a process was left on one)."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="llmlaunch-it-"))
    script, directory = str(ROOT / "scripts" / "test_hosts.sh"), top / "hosts"
    made = subprocess.run(["bash", script, "up", str(count), "--dir", str(directory), *options],
                          capture_output=True, text=True, timeout=60)
    if made.returncode == 77:
        shutil.rmtree(top)
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stdout + made.stderr
    head = top / "head"
    for sub in ("home", "tmp"):
        (head / sub).mkdir(parents=True)
    hosts = Hosts(directory, head)

    def down():
        for run in hosts.runs:
            if run.process.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.process.wait()
        ended = subprocess.run(["bash", script, "down", "--dir", str(directory)], capture_output=True, text=True,
                               timeout=60)
        shutil.rmtree(top, ignore_errors=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr

    return hosts, down


@pytest.fixture(params=["direct", "ssh"])
def via(request, hosts):
    """Each test once for each way to the rendezvous."""
    hosts.via = request.param
    yield request.param
    hosts.via = None


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    made.close()


@pytest.fixture(scope="module")
def hosts(request):
    """Real ssh hosts for one test file; a file that wants another number than 2 says HOSTS = n."""
    made, down = bring_up(getattr(request.module, "HOSTS", 2), *getattr(request.module, "HOST_OPTIONS", ()))
    yield made
    down()


@pytest.fixture(scope="session", autouse=True)
def programs():
    for name in ("llmlaunch", "llmlaunch-agent"):
        assert os.access(BIN / name, os.X_OK), f"{BIN / name} is not built; set LLMLAUNCH_BIN_DIR"


def pytest_sessionfinish(session, exitstatus):
    """A file whose tests were all skipped ends with 77, which ctest counts as skipped and not as passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and reporter.stats.get("skipped") and not reporter.stats.get("passed"):
        session.exitstatus = 77
