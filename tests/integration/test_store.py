"""`llmlaunch store`: a person at the head looks into a job that runs, and the way in is gone when the job is."""
import base64
import json
import os
import pathlib
import re
import signal
import stat
import subprocess

import pytest

from conftest import BIN, MARK, PYTHON, SCALE, Run, Terminal, processes_with, wait_until
from machines import ended, machines  # noqa: F401 (a fixture)

HOSTS = 2
RANK = pathlib.Path(__file__).with_name("store_rank.py")
WAITS = [PYTHON, str(RANK), "set", "default_pg/0//rank{rank}", r"\xff\n\0here", "say", "ready", "get", "go"]


def command(*words, log_dir=None):
    return [str(BIN / "llmlaunch"), "store", *words[:1], *(["--log-dir", str(log_dir)] if log_dir else []), *words[1:]]


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMLAUNCH_")}
    return {**kept, "HOME": "/nonexistent", **more}


def ask(*words, log_dir=None, status=0, stdin=b"", cwd="/"):
    """stdout, or with a status stderr as text."""
    done = subprocess.run(command(*words, log_dir=log_dir), input=stdin, capture_output=True, timeout=120, cwd=cwd,
                          env=environment())
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr.decode()


class Job:
    """A job whose ranks wait for the key "go" of PyTorch's store, and the way into it."""

    def __init__(self, hosts, *program, **more):
        self.hosts, self.log_dir = hosts, hosts.directory / "logs"
        before = set(self.log_dir.glob("*"))
        self.run = hosts.start(*(program or WAITS), **more)
        self.run.said("[rank 0 test01] ready")
        self.run.said("[rank 1 test02] ready")
        (self.directory,) = set(self.log_dir.glob("*")) - before
        self.pass_file = self.directory / "rendezvous.json"

    def ask(self, *words, **more):
        return ask(words[0], str(self.directory), *words[1:], **more)

    def keys(self, *words):
        listed = json.loads(self.ask("list", "--json", *words))["keys"]
        return {(key["store"], key["key"]): key["bytes"] for key in listed}

    def start(self, *words, **more):
        """A store command that goes on; `more` as Run's."""
        return Run(command(words[0], str(self.directory), *words[1:]), environment(**{MARK: self.run.mark}), "/",
                   self.run.mark, **more)

    def watch(self, *words):
        watch = self.start("watch", *words)
        watch.said("watching ")
        return watch

    def go(self, status=0):
        self.ask("set", "go", "now", "--pytorch")
        assert self.run.finish().status == status, str(self.run)


@pytest.mark.usefixtures("via")
def test_keys_of_both_kinds_are_listed_got_set_added_and_deleted(hosts):
    job = Job(hosts)
    assert job.keys() == {("pytorch", f"default_pg/0//rank{rank}"): 7 for rank in (0, 1)}
    assert job.ask("get", "default_pg/0//rank1") == b"\xff\n\0here"
    assert job.ask("set", "mine", "value") == b""
    assert job.ask("add", "count", "5") == b"5\n"
    assert job.ask("add", "count", "-7") == b"-2\n"
    assert job.ask("list") == (b"         2  native   count\n         5  native   mine\n"
                               b"         7  pytorch  default_pg/0//rank0\n         7  pytorch  default_pg/0//rank1\n")
    assert job.keys("--native") == {("native", "count"): 2, ("native", "mine"): 5}
    assert job.keys("default_pg/0//rank1") == {("pytorch", "default_pg/0//rank1"): 7}
    assert job.ask("get", "mine", "count") == b"value-2"
    assert job.ask("delete", "mine") == b""
    assert "key 'mine' is not set" in job.ask("delete", "mine", status=1)
    assert "key 'mine' is not set" in job.ask("get", "mine", status=1)
    assert "hint: PyTorch's keys are meant with --pytorch" in job.ask("delete", "default_pg/0//rank0", status=1)
    assert "cannot add to key 'default_pg/0//rank0': its value '\\xff\\x0a\\x00here' is not a number" in (
        job.ask("add", "--pytorch", "default_pg/0//rank0", "1", status=1))
    job.go()
    assert job.run.out.count("got now") == 2, str(job.run)
    hosts.nothing_left(job.run)


@pytest.mark.usefixtures("via")
def test_a_queue_is_called_a_queue_and_not_missing(hosts):
    job = Job(hosts, PYTHON, str(RANK), "push", "q/{rank}", "a", "push", "q/{rank}", "b", "set", "there/{rank}", "yes",
              "wait", "there/{rank}", "say", "ready", "get", "go")
    assert b"  pytorch  q/0  (a queue of 2)\n" in job.ask("list")
    queue = "key 'q/0' is a queue of 2 values, which belong to who takes them out"
    for words in (["q/0"], ["--pytorch", "q/0"], ["--wait", "100", "q/0"]):
        said = job.ask("get", *words, status=1)
        assert queue in said and "not set" not in said, said
    assert "key 'q/0' is not set" in job.ask("get", "--native", "q/0", status=1)
    several = subprocess.run(command("get", str(job.directory), "none", "q/0", "there/1", "q/1"), capture_output=True,
                             timeout=120, env=environment())
    assert several.returncode == 1 and several.stdout == b"yes", several
    for words in ("key 'none' is not set", queue, queue.replace("q/0", "q/1")):
        assert several.stderr.decode().count(words) == 1, several.stderr.decode()
    assert job.ask("list", "q/").count(b"(a queue of 2)") == 2  # nobody took any
    job.go()


@pytest.mark.usefixtures("via")
def test_values_come_and_go_byte_for_byte(hosts):
    job = Job(hosts)
    value = bytes(range(256)) * 4096
    assert job.ask("set", "all", "-", stdin=value) == b""
    assert job.ask("get", "all") == value
    assert job.ask("set", "empty", "") == b"" and job.ask("get", "empty") == b""
    assert job.ask("set", "--", "-dashed", "-") == b"" and job.ask("get", "--", "-dashed") == b""
    shown = json.loads(job.ask("get", "--json", "all"))
    assert base64.b64decode(shown["value_base64"]) == value and shown["bytes"] == len(value)
    assert json.loads(job.ask("get", "--json", "--pytorch", "default_pg/0//rank0"))["store"] == "pytorch"
    too_much = job.ask("set", "big", "-", stdin=bytes(8 * 1024 * 1024 + 1), status=1)
    assert "stdin has more than 8388608 bytes, the limit of a value" in too_much
    job.go()


@pytest.mark.usefixtures("via")
def test_on_a_terminal_a_value_is_one_line_that_steers_nothing(hosts):
    job = Job(hosts)
    job.ask("set", "steer", "a\x1b[2J\\\nb")
    terminal = Terminal()
    got = job.start("get", "steer", "default_pg/0//rank0", stdout=terminal.theirs).finish()
    assert got.status == 0, str(got)
    wait_until(lambda: terminal.shown.count("\n") == 2, "two lines")
    assert terminal.shown.replace("\r\n", "\n") == ("steer: a\\x1b[2J\\\\\\nb\n"
                                                   "default_pg/0//rank0: \\xff\\n\\x00here\n")
    terminal.close()
    job.go()


@pytest.mark.usefixtures("via")
def test_a_key_is_waited_for(hosts):
    job = Job(hosts)
    native, theirs = job.start("get", "--wait", "100", "later"), job.start("get", "--wait", "100", "other")
    vain = job.ask("get", "--wait", "200ms", "never", status=124)
    assert "key 'never' was not set in time" in vain
    assert native.process.poll() is None and theirs.process.poll() is None
    job.ask("set", "later", "1")
    job.ask("set", "--pytorch", "other", "2")
    assert native.finish().out == "1" and theirs.finish().out == "2"
    assert job.ask("get", "--wait", "5", "later") == b"1"  # there already
    waits = job.start("get", "--wait", "100", "later", "never")
    waits.said("1")  # and waits for the other one
    job.go()
    assert waits.finish().status == 69 and f"job {job.directory.name} has ended with status 0 at 20" in waits.err, str(waits)


@pytest.mark.usefixtures("via")
def test_a_watch_sees_each_change_as_it_is_made_and_ends_with_the_job(hosts):
    job = Job(hosts)
    everything, lines = job.watch("--json"), job.watch("k")
    exact, theirs = job.watch("k1", "--exact", "--json"), job.watch("--pytorch", "--json")
    job.ask("set", "k1", "\x07one")
    everything.said('"key":"k1"')  # while the job goes on
    lines.said("k1")
    job.ask("set", "k12", "x" * 300)
    job.ask("delete", "k1")
    job.go()
    for watch in (everything, lines, exact, theirs):
        assert watch.finish().status == 0, str(watch)
        assert f"job {job.directory.name} has ended" in watch.err, str(watch)
    seen = [json.loads(line) for line in everything.out.splitlines()]
    assert [(change["store"], change["change"], change["key"], change["value"]) for change in seen] == [
        ("native", "set", "k1", "\x07one"), ("native", "set", "k12", "x" * 300), ("native", "deleted", "k1", None),
        ("pytorch", "set", "go", "now")], str(everything)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", change["time"]) for change in seen)
    shown = [re.sub(r"^\d\d:\d\d:\d\d\.\d{3}  ", "", line) for line in lines.out.splitlines()]
    assert shown == ["set      native   k1  \\x07one", "set      native   k12  " + "x" * 200 + "… (300 bytes)",
                     "deleted  native   k1"], str(lines)
    assert [json.loads(line)["key"] for line in exact.out.splitlines()] == ["k1", "k1"]
    assert [json.loads(line)["key"] for line in theirs.out.splitlines()] == ["go"]
    hosts.nothing_left(job.run)


@pytest.mark.usefixtures("via")
def test_a_watch_says_why_the_generation_ended_when_a_rank_fails(hosts):
    job = Job(hosts, PYTHON, str(RANK), "say", "ready", "get", "go", "exit", "3")
    watch = job.watch()
    job.go(status=3)
    assert watch.finish().status == 0, str(watch)
    assert re.search(r"generation 0 has ended: .*rank \d", watch.err), str(watch)


@pytest.mark.usefixtures("via")
def test_a_watch_ends_when_nobody_reads_it_any_more(hosts):
    job = Job(hosts)
    ours, theirs = os.pipe()
    watch = job.start("watch", stdout=theirs)
    os.close(theirs)
    watch.said("watching ")
    os.close(ours)
    watch.finish()  # though nothing has changed
    interrupted = job.watch()
    interrupted.process.send_signal(signal.SIGINT)
    assert interrupted.finish().ended_by == signal.SIGINT, str(interrupted)
    job.go()


@pytest.mark.skipif(SCALE > 1, reason="Python cannot load a library with a sanitizer in it")
@pytest.mark.usefixtures("via")
def test_set_wakes_a_rank_that_waits_by_the_c_library(hosts):
    library = next(path for path in BIN.parent.rglob("libllmlaunch_rendezvous.so*") if path.is_file())
    code = ("import ctypes, os, sys; lib = ctypes.CDLL(sys.argv[1]); job = ctypes.c_void_p()\n"
            "value, size = ctypes.c_void_p(), ctypes.c_size_t()\n"
            "assert lib.llmlaunch_rdv_join_environment(0, ctypes.byref(job)) == 0\n"
            "rank = os.environ['RANK'].encode()\n"
            "assert lib.llmlaunch_rdv_set(job, b'ready/' + rank, b'yes', ctypes.c_size_t(3)) == 0\n"
            "print('ready', flush=True)\n"
            "assert lib.llmlaunch_rdv_get(job, b'go', ctypes.c_int64(-1), ctypes.byref(value), ctypes.byref(size)) == 0\n"
            "print('got', ctypes.string_at(value, size.value).decode())\n"
            "lib.llmlaunch_rdv_leave.argtypes = [ctypes.c_void_p]; lib.llmlaunch_rdv_leave(job)")
    job = Job(hosts, PYTHON, "-c", code, str(library))
    assert job.ask("get", "--wait", "60", "ready/0", "ready/1") == b"yesyes"
    assert job.keys() == {("native", f"ready/{rank}"): 3 for rank in (0, 1)}
    job.ask("set", "go", "from outside")
    assert job.run.finish().status == 0 and job.run.out.count("got from outside") == 2, str(job.run)
    hosts.nothing_left(job.run)


@pytest.mark.usefixtures("via")
def test_the_way_in_is_for_the_owner_alone_and_gone_at_the_end(hosts):
    job = Job(hosts)
    assert stat.S_IMODE(job.pass_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(job.directory.stat().st_mode) == 0o700
    token = json.loads(job.pass_file.read_text())["token"]
    job.ask("list")
    watch = job.watch()
    with_token = [pid for pid, line in processes_with(f"{MARK}={job.run.mark}").items() if token in line]
    assert with_token == []
    job.pass_file.chmod(0o640)
    assert f"{job.pass_file} has mode 0640: others may change or read it" in job.ask("list", status=69)
    job.pass_file.chmod(0o600)
    job.directory.chmod(0o770)
    assert f"{job.directory} has mode 0770: others may change or read it" in job.ask("list", status=69)
    job.directory.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(job.pass_file, 12345, -1)
        assert f"{job.pass_file} belongs to user 12345, and this is user 0" in job.ask("list", status=69)
        os.chown(job.pass_file, 0, -1)
    job.go()
    watch.finish()
    assert not job.pass_file.exists() and not list(job.directory.glob("*.new"))
    said = [path.name for path in job.directory.rglob("*") if token in path.read_text(errors="replace")]
    assert said == [] and token not in job.run.err + job.run.out + watch.err + watch.out
    ended_so = job.ask("list", status=69)
    assert re.search(rf"job {job.directory.name} has ended with status 0 at \d{{4}}-", ended_so), ended_so


def test_a_job_that_cannot_start_leaves_no_way_in(hosts):
    run = hosts.run("true", config=hosts.config(lambda data: data["llmlaunch"]["hosts"][1].update(user="no-such-user")))
    assert run.status == 69, str(run)
    assert not list((hosts.directory / "logs").glob("*/rendezvous.json"))
    stopped = Job(hosts)
    stopped.run.process.send_signal(signal.SIGINT)
    assert stopped.run.finish().status == 130
    assert not stopped.pass_file.exists()


@pytest.mark.usefixtures("via")
def test_a_head_that_was_killed_is_said_to_be_dead(hosts):
    job = Job(hosts, options=["--set", "llmlaunch.timeouts.head=2"])
    watch, waits = job.watch(), job.start("get", "--wait", "100", "default_pg/0//rank0", "never")
    waits.said("here")  # and waits for the other one
    job.run.process.kill()
    job.run.finish()
    for asked in (watch, waits):
        assert asked.finish().status == 69, str(asked)
        assert (f"job {job.directory.name} ended without a word: its llmlaunch, process {job.run.pid}, was killed"
                in asked.err), str(asked)
    assert f"the last: job {job.directory.name} no longer runs: its llmlaunch" in ask("list", log_dir=job.log_dir, status=69)
    said = job.ask("list", status=69)
    assert f"job {job.directory.name} no longer runs: its llmlaunch ended without a word" in said
    assert job.directory.name not in ask("list", "nothing", log_dir=job.log_dir, status=69)
    hosts.nothing_left(within=60)


@pytest.mark.usefixtures("via")
def test_a_head_that_stands_still_is_named(hosts):
    job = Job(hosts)
    job.run.process.send_signal(signal.SIGSTOP)
    said = job.ask("list", status=69)
    assert "within 5 s" in said, said
    assert f"hint: llmlaunch of job {job.directory.name} is process {job.run.pid} on " in said, said
    job.run.process.send_signal(signal.SIGCONT)
    job.go()


@pytest.mark.usefixtures("via")
def test_jobs_are_named_by_id_by_path_and_latest(hosts):
    first, second = Job(hosts), Job(hosts)
    log_dir, name = first.log_dir, first.directory.name
    second.ask("set", "which", "second")
    assert ask("get", "latest", "which", log_dir=log_dir) == b"second"
    assert ask("list", log_dir=log_dir) == ask("list", second.directory.name, log_dir=log_dir)
    assert b"which" not in ask("list", name, log_dir=log_dir)
    assert ask("list", f"./{name}", cwd=log_dir) == ask("list", ".", cwd=first.directory) == first.ask("list")
    config = ["-c", str(second.run.config_file)]
    assert ask("get", *config, "latest", "which", cwd=hosts.head) == b"second"
    wrong = ask("get", "20261124-101530-4f2a0b1c", "which", log_dir=log_dir, status=69)
    assert f"there is no job 20261124-101530-4f2a0b1c below {log_dir}" in wrong
    assert f"hint: running below {log_dir}: {second.directory.name}, {name}\n" in wrong
    second.go()
    assert "which" not in ask("get", "latest", "default_pg/0//rank0", log_dir=log_dir).decode(errors="replace")
    first.go()
    nothing = ask("list", log_dir=log_dir, status=69)
    assert f"no job runs below {log_dir}" in nothing


def test_on_another_machine_it_says_where_the_job_runs(hosts):
    job = Job(hosts)
    text = job.pass_file.read_text()
    job.pass_file.write_text(text.replace(json.loads(text)["head"], "gpu07"))
    assert re.search(r"job \S+ is run by llmlaunch on gpu07, and this is ", job.ask("list", status=69))
    job.pass_file.write_text(text.replace("\"port\"", "\"harbour\""))
    assert 'its "port" is missing or not what llmlaunch writes there' in job.ask("list", status=69)
    job.pass_file.write_text(text)
    job.go()


def test_through_ssh_and_without_pytorchs_store_there_is_a_way_in(hosts):
    through = Job(hosts, config=hosts.config(
        lambda data: data["llmlaunch"].setdefault("rendezvous", {}).update(via="ssh")))
    assert through.keys() == {("pytorch", f"default_pg/0//rank{rank}"): 7 for rank in (0, 1)}
    through.go()
    own = Job(hosts, "sh", "-c", "echo ready; sleep 600", config=hosts.config(
        lambda data: data["llmlaunch"].setdefault("rendezvous", {}).update(use_agent_store=False)))
    own.ask("set", "k", "v")
    assert own.keys() == {("native", "k"): 1}
    assert "PyTorch's store is not served by this rendezvous" in own.ask("list", "--pytorch", status=69)
    watch = own.watch()
    own.run.process.send_signal(signal.SIGTERM)
    assert own.run.finish().status == 143 and watch.finish().status == 0
    hosts.nothing_left(own.run)


def test_machine_0_of_machines_that_are_started_one_by_one_has_the_way_in(machines):
    runs = machines.start_all(*WAITS)
    for rank in (0, 1):
        runs[0].said(f"[rank {rank} machine{rank}] ready")
    log_dir = machines.top / "logs"
    assert ask("get", "latest", "default_pg/0//rank1", log_dir=log_dir) == b"\xff\n\0here"
    ask("set", "latest", "go", "now", "--pytorch", log_dir=log_dir)
    ended(runs, 0, 0)
    assert not list(log_dir.glob("*/rendezvous.json"))
    machines.nothing_left()


def test_a_command_on_all_hosts_has_no_store(hosts):
    run = hosts.start("sh", "-c", "echo here; sleep 600", command="exec",
                      options=["--log-dir", str(hosts.directory / "exec-logs"), "-L"])
    run.said("here")
    (directory,) = (hosts.directory / "exec-logs").glob("*")
    assert re.search(r"job \S+ serves no store now: .* or is an exec", ask("list", str(directory), status=69))
    run.process.send_signal(signal.SIGINT)
    run.finish()
