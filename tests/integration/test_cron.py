"""llmlaunch run without anybody who watches: --cron, --lock, logs.keep_runs, the events for programs, and the examples for cron
and systemd. Everything runs on this machine alone."""
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess

import pytest

from conftest import BIN, ROOT, Run, wait_until

CRON_ENV = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}


@pytest.fixture
def place(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "train.yaml").write_text("num_processes: 2\nllmlaunch: {log_dir: logs, timeouts: {grace: 1}}\n")
    return tmp_path


def start(place, *words, config="train.yaml", env=None, mark="cron", **more):
    environment = {**CRON_ENV, "HOME": str(place / "home"), **(env or {})}
    configured = ["--config", config] if config else []
    return Run([str(BIN / "llmlaunch"), "run", *configured, *words], environment, place, mark, **more)


def run(place, *words, **more):
    return start(place, *words, **more).finish()


def run_directories(place):
    """The oldest first; names tell seconds alone."""
    def age(path):
        record = path / "job.json"
        return (record.stat().st_mtime_ns if record.exists() else 0, path.name)
    return sorted((place / "logs").iterdir(), key=age) if (place / "logs").exists() else []


def events_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_cron_prints_nothing_when_all_went_well(place):
    done = run(place, "--cron", "sh", "-c", "echo out; echo err >&2")
    assert (done.status, done.out, done.err) == (0, "", ""), str(done)
    (directory,) = run_directories(place)
    assert sorted((directory / "merged.log").read_text().split()) == sorted(
        "[rank 0 localhost] out [rank 0 localhost] err [rank 1 localhost] out [rank 1 localhost] err".split())


def test_cron_prints_one_summary_when_something_failed(place):
    script = 'i=0; while [ $i -lt 100 ]; do echo "line $i" >&2; i=$((i+1)); done; [ $RANK = 0 ] && exec sleep 1000; exit 7'
    done = run(place, "--cron", "sh", "-c", script)
    assert done.status == 7 and done.out == "", str(done)
    lines = done.err.splitlines()
    (directory,) = run_directories(place)
    assert len(lines) <= 40, str(done)
    assert lines[0].startswith("llmlaunch: error: rank 1") and "7" in lines[0], str(done)
    assert "line 99" in done.err, str(done)
    assert lines[-2:] == ["exit status: 7", f"logs:        {directory}"], str(done)
    assert f"job:         {directory.name}, 2 ranks on localhost" in lines, str(done)


def test_cron_says_a_wrong_configuration_and_what_was_said_before(place):
    (place / "train.yaml").write_text("num_proceses: 2\n")
    done = run(place, "--cron", "true")
    assert done.status == 78 and "did you mean 'num_processes'?" in done.err, str(done)
    (place / "train.yaml").write_text("rdzv_backend: c10d\n")
    done = run(place, "--cron", "false")
    assert done.status == 1 and "rdzv_backend 'c10d' has no effect" in done.err, str(done)
    done = run(place, "--cron", "true")
    assert (done.status, done.err) == (0, ""), str(done)


def test_the_summary_has_what_was_said_while_the_job_ran(place):
    job = start(place, "--cron", "sh", "-c", ": >started-$RANK; exec sleep 1000")
    wait_until(lambda: all((place / f"started-{rank}").exists() for rank in (0, 1)), "both ranks")
    os.kill(job.pid, signal.SIGTERM)
    done = job.finish()
    directory = max(run_directories(place), key=lambda path: path.stat().st_mtime_ns)
    assert (done.status, done.out) == (143, ""), str(done)
    assert done.err.splitlines()[-4:] == [
        "llmlaunch: warning: caught SIGTERM: stopping 2 ranks (once more: kill at once)",
        f"job:         {directory.name}, 2 ranks on localhost", "exit status: 143", f"logs:        {directory}"], str(done)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file system that is full")
@pytest.mark.parametrize("status", [0, 3])
def test_the_summary_tells_of_a_full_disk(place, status):
    (place / "logs").mkdir()
    full = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k none "$0" && exec "$@"', str(place / "logs")]
    done = Run([*full, str(BIN / "llmlaunch"), "run", "--config", "train.yaml", "--cron", "sh", "-c",
                f"seq 30000; exit {status}"], {**CRON_ENV, "HOME": str(place / "home")}, place, "cron").finish()
    lines = done.err.splitlines()
    assert done.status == (status or 74) and done.out == "" and len(lines) <= 40, str(done)
    assert lines[0].startswith("llmlaunch: error: " + ("rank " if status else "all ranks ended well, but")), str(done)
    (gone,) = [line for line in lines if line.endswith("; the job goes on, its log files are INCOMPLETE from here")]
    assert gone.startswith("llmlaunch: error: ") and "No space left on device" in gone, str(done)
    assert lines.index(gone) < lines.index(f"exit status: {status or 74}"), str(done)


def test_the_second_run_with_a_lock_is_told_who_has_it(place):
    first = start(place, "--lock", "sh", "-c", "echo started; exec sleep 1000", env={"XDG_RUNTIME_DIR": "/nowhere"})
    first.said("started")
    os.symlink("train.yaml", place / "other-name.yaml")
    second = run(place, "--lock", "true", config="other-name.yaml")
    (directory,) = run_directories(place)
    assert second.status == 75, str(second)
    assert re.search(rf"another run of {place}/train.yaml holds the lock: pid {first.pid}, job {directory.name}, "
                     r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", second.err), str(second)
    shutil.copy(place / "train.yaml", place / "another.yaml")
    assert run(place, "--lock", "true", config="another.yaml").status == 0  # another configuration
    assert run(place, "true").status == 0  # does not ask for the lock
    os.kill(first.pid, signal.SIGKILL)  # and leaves nothing that would have to be removed
    first.finish()
    assert run(place, "--lock", "true").status == 0
    locks = list((place / "home/.local/state/llmlaunch/locks").iterdir())
    assert len(locks) == 2 and all(stat.S_IMODE(lock.stat().st_mode) == 0o600 for lock in locks)


def test_old_runs_are_removed_and_nothing_else(place):
    (place / "train.yaml").write_text("llmlaunch: {log_dir: logs, logs: {keep_runs: 2}}\n")
    for _ in range(2):
        assert run(place, "true").status == 0
    first, second = run_directories(place)
    mine = place / "logs" / "20200101-000000-0badcafe"
    mine.mkdir()
    (mine / "notes").write_text("mine")
    other = place / "logs" / "20200101-000000-00000001"
    shutil.copytree(first, other)  # its job.json names another job
    (place / "logs" / "20200101-000000-00000002").symlink_to(second)
    (place / "logs" / "keep-me").mkdir()
    running = start(place, "sh", "-c", "echo started; exec sleep 1000")
    running.said("started")
    record = next(path for path in run_directories(place)
                  if path not in (first, second, mine, other) and (path / "job.json").exists() and not path.is_symlink())
    assert not first.exists() and second.exists()  # two: the new one and the one before
    for _ in range(3):
        assert run(place, "true").status == 0
    assert record.exists(), "the directory of a run that goes on was removed"
    os.kill(running.pid, signal.SIGTERM)
    running.finish()
    assert mine.exists() and other.exists() and (place / "logs" / "keep-me").exists()
    assert (place / "logs" / "20200101-000000-00000002").is_symlink()
    assert not second.exists()
    (place / "train.yaml").write_text("llmlaunch: {log_dir: logs, logs: {keep_runs: 30d}}\n")
    before = set(run_directories(place))
    old = record / "job.json"
    os.utime(old, (0, 0))
    assert run(place, "true").status == 0
    assert before - set(run_directories(place)) == {record}


def validator(name):
    jsonschema = pytest.importorskip("jsonschema", reason="no python3-jsonschema here")
    return jsonschema.Draft202012Validator(json.loads((ROOT / "launcher" / name).read_text()))


def test_events_and_record_are_as_their_schemas_say(place):
    events_schema, job_schema = validator("events.schema.json"), validator("job.schema.json")
    for words, status in ((["true"], 0), (["sh", "-c", "[ $RANK = 1 ] && exit 3; exec sleep 1000"], 3), (["/no/such"], 127)):
        done = run(place, "--json-events", "events", *words)
        assert done.status == status, str(done)
        directory = max(run_directories(place), key=lambda path: path.stat().st_mtime_ns)
        assert (directory / "events.jsonl").read_text() == (place / "events").read_text()
        for file in (directory / "events.jsonl", place / "events"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for event in events_of((place / "events").read_text()):
            events_schema.validate(event)
        job_schema.validate(json.loads((directory / "job.json").read_text()))
    assert list(events_schema.iter_errors({"seq": 0, "time": "now", "event": "host"})), "the schema takes everything"


def test_events_tell_the_story_of_a_job_in_order(place):
    done = run(place, "--json-events", "events", "sh", "-c", "[ $RANK = 1 ] && exit 3; exec sleep 1000",
               "--token=secret-value")
    assert done.status == 3, str(done)
    text = (place / "events").read_text()
    events = events_of(text)
    assert [event["seq"] for event in events] == list(range(len(events)))
    names = [event["event"] for event in events]
    assert names[0] == "job_start" and names[-1] == "job_end" and names.count("stop") == 1
    assert names.count("rank_start") == 2 and names.count("rank_exit") == 2
    assert "secret-value" not in text
    stop = events[names.index("stop")]
    assert "rank 1" in stop["first_failure"], stop
    exits = [event for event in events if event["event"] == "rank_exit"]
    assert (exits[0]["rank"], exits[0]["status"], exits[0]["stopped"]) == (1, 3, False)
    assert (exits[1]["rank"], exits[1]["signal"], exits[1]["stopped"]) == (0, "SIGTERM", True)
    assert events[-1]["exit_status"] == 3 and "rank 1" in events[-1]["failure"]
    assert [event["state"] for event in events if event["event"] == "host"][-1] == "exited"


def test_a_reader_of_events_that_goes_away_or_stands_still_stops_nothing(place):
    os.mkfifo(place / "pipe")
    assert run(place, "--json-events", "pipe", "true").status == 0  # nobody reads
    reading, writing = os.pipe()
    os.close(reading)  # gone already
    os.set_inheritable(writing, True)
    command = [str(BIN / "llmlaunch"), "run", "--config", "train.yaml", "--json-events", str(writing), "true"]
    done = subprocess.run(command, cwd=place, env={**CRON_ENV, "HOME": str(place)}, pass_fds=[writing],
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done
    os.close(writing)
    ours, theirs = socket.socketpair()  # full, and never read
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            theirs.send(b"x" * 65536)
    command[5] = str(theirs.fileno())
    done = subprocess.run(command, cwd=place, env={**CRON_ENV, "HOME": str(place)}, pass_fds=[theirs.fileno()],
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done
    ours.close()
    theirs.close()


def test_a_descriptor_that_is_not_open_is_a_wrong_command_line(place):
    done = run(place, "--json-events", "77", "true")
    assert done.status == 64 and "descriptor 77 is not open for writing" in done.err, str(done)
    assert run_directories(place) == []
    done = run(place, "--json-events", "no/such/folder", "true")
    assert done.status == 74 and run_directories(place) == [], str(done)


def test_nothing_of_a_login_is_needed(place):
    done = Run([str(BIN / "llmlaunch"), "run", "sh", "-c", "echo here"], {"PATH": "/usr/bin:/bin"}, place, "cron").finish()
    assert done.status == 0 and "here" in done.out, str(done)


def test_the_crontab_example_works_as_cron_runs_it(place):
    example = (ROOT / "scripts" / "llmlaunch.crontab").read_text()
    entries = [line for line in example.splitlines() if line and not line.startswith("#") and not re.match(r"\w+=", line)]
    (entry,) = entries
    match = re.match(r"(\S+ \S+ \S+ \S+ \S+) (.*)$", entry)
    command = match[2].replace("/data/run", str(place)).replace("%", "\n")
    command = command.replace("llmlaunch run", str(BIN / "llmlaunch") + " run")
    shutil.copy(place / "train.yaml", place / "home" / "train.yaml")
    (place / "train.py").write_text("import sys, os\nopen('ran-' + os.environ['RANK'], 'w').write(' '.join(sys.argv[1:]))\n")
    done = subprocess.run(["env", "-i", *[f"{k}={v}" for k, v in CRON_ENV.items()], f"HOME={place}/home", "/bin/sh", "-c",
                           command], cwd=place / "home", capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr
    assert (place / "ran-0").read_text() == (place / "ran-1").read_text() == "--epochs 1"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there")
def test_the_units_are_accepted_by_systemd(place):
    service = (ROOT / "scripts" / "llmlaunch.service").read_text().replace("/usr/local/bin/llmlaunch", str(BIN / "llmlaunch"))
    (place / "llmlaunch.service").write_text(service)
    shutil.copy(ROOT / "scripts" / "llmlaunch.timer", place)
    for unit in ("llmlaunch.service", "llmlaunch.timer"):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(place / unit)], capture_output=True, text=True,
                              timeout=60)
        ours = [line for line in done.stderr.splitlines() if "llmlaunch" in line]
        assert done.returncode == 0 and not ours, done.stderr


# What a service of the system finds, for root without User=: no HOME, no SHELL, no TERM.
SYSTEMD_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8",
               "INVOCATION_ID": "0" * 32, "JOURNAL_STREAM": "9:1"}


@pytest.fixture
def no_lock_stays():
    """A run without HOME keeps its lock in the home of the password file, which is that of whoever tests."""
    folder = pathlib.Path(pwd.getpwuid(os.getuid()).pw_dir) / ".local/state/llmlaunch/locks"
    before = set(folder.glob("*.lock"))
    yield lambda: set(folder.glob("*.lock")) - before
    for lock in set(folder.glob("*.lock")) - before:
        lock.unlink()


def test_the_unit_runs_as_systemd_starts_it(place, no_lock_stays):
    unit = (ROOT / "scripts" / "llmlaunch.service").read_text()
    value = {name: re.search(rf"^{name}=(.*)$", unit, re.M)[1] for name in ("ExecStart", "WorkingDirectory",
                                                                           "SuccessExitStatus", "UMask")}
    words = value["ExecStart"].split()
    assert words[0] == "/usr/local/bin/llmlaunch" and value["WorkingDirectory"] == "/data/run"
    words[0] = str(BIN / "llmlaunch")
    words[words.index("--config") + 1] = str(place / "train.yaml")
    (place / "train.py").write_text("""
import os, sys, time
open("ran-" + os.environ["RANK"], "w").write(" ".join(sys.argv[1:]))
while os.path.exists("hold"): time.sleep(0.01)
""")
    (place / "hold").touch()

    def started():
        return Run(["sh", "-c", f'umask {value["UMask"]}; exec "$@"', "sh", *words], SYSTEMD_ENV, place, "cron")

    first = started()
    wait_until(lambda: all((place / f"ran-{rank}").exists() and (place / f"ran-{rank}").read_text() for rank in (0, 1)),
               "both ranks")
    second = started().finish()
    assert str(second.status) == value["SuccessExitStatus"] and "holds the lock" in second.err, str(second)
    (place / "hold").unlink()
    first.finish()
    assert (first.status, first.out, first.err) == (0, "", ""), str(first)
    assert (place / "ran-0").read_text() == (place / "ran-1").read_text() == "--epochs 1"
    assert stat.S_IMODE((place / "ran-0").stat().st_mode) == 0o600
    assert len(no_lock_stays()) == 1
    assert sorted(path.name for path in place.iterdir()) == ["home", "logs", "ran-0", "ran-1", "train.py", "train.yaml"]
