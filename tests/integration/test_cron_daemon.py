"""The crontab of scripts/ as Debian's cron runs it. The daemon lives in mount and PID namespaces of its own, in which the
machine's crontabs, pid file and mailer are others: nothing of the machine runs or changes, and all ends with the namespace.
cron starts jobs at full minutes, so that this takes one. Both lines start in the same."""
import contextlib
import email
import json
import os
import re
import signal
import subprocess
import uuid

import pytest

from conftest import BIN, MARK, ROOT, children_of, processes_with, wait_until

CRON = "/usr/sbin/cron"
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a cron daemon in namespaces of its own"),
    pytest.mark.skipif(not os.path.exists(CRON), reason="Debian's package cron is not there")]

# The first process of the namespaces: the mounts, then cron in the foreground.
NAMESPACE = r"""
set -e
mount -t tmpfs none /run
mount -t tmpfs none /etc/cron.d
mount --bind "$PLACE/crontabs" /var/spool/cron/crontabs
[ ! -e /etc/crontab ] || mount --bind /dev/null /etc/crontab
mount -t overlay -o "lowerdir=$PLACE/sbin:/usr/sbin" none /usr/sbin
exec /usr/sbin/cron -f
"""
MAILER = """#!/bin/sh
cat > "{place}/mail/$$.part" && mv "{place}/mail/$$.part" "{place}/mail/$$.eml"
"""
# The first rank that fails ends the other, which must have come here before.
TRAINING = """import os, sys, time
name = "ran-" + os.environ["RANK"]
open(name + ".part", "w").write(" ".join(sys.argv[1:]))
os.rename(name + ".part", name)
if "--fail" in sys.argv:
    while not all(map(os.path.exists, ("ran-0", "ran-1"))):
        time.sleep(0.01)
    print(*("line %d" % number for number in range(100)), sep="\\n", file=sys.stderr)
    sys.exit(7)
"""


@pytest.fixture
def place(tmp_path):
    for name in ("home", "good", "bad", "crontabs", "sbin", "mail"):
        (tmp_path / name).mkdir()
    mailer = tmp_path / "sbin" / "sendmail"
    mailer.write_text(MAILER.format(place=tmp_path))
    mailer.chmod(0o755)
    for name in ("good", "bad"):
        (tmp_path / name / "train.py").write_text(TRAINING)
        (tmp_path / "home" / f"{name}.yaml").write_text(
            f"num_processes: 2\nllmlaunch: {{log_dir: '{tmp_path}/logs-{name}', timeouts: {{grace: 1}}}}\n")
    return tmp_path


def crontab(place, mark):
    """The example's lines with this test's paths and each minute; the second run fails."""
    lines = []
    for line in (ROOT / "scripts" / "llmlaunch.crontab").read_text().splitlines():
        job = re.match(r"(\S+ ){5}(llmlaunch run .*)$", line)
        if not job:
            lines.append(line)
            continue
        lines += [f"HOME={place}/home", f"{MARK}={mark}"]
        for name, more in (("good", ""), ("bad", " --fail")):
            command = job[2].replace("llmlaunch run", f"{BIN}/llmlaunch run").replace("train.yaml", f"{name}.yaml")
            lines.append("* * * * * " + command.replace("/data/run", f"{place}/{name}") + more)
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def cron_in_namespaces(place):
    """The pid of a cron that reads $PLACE/crontabs. All that it started has ended afterwards."""
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", NAMESPACE]
    process = subprocess.Popen(words, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PLACE": str(place)},
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        def running():
            assert process.poll() is None, process.stdout.read()
            return [pid for pid in children_of(process.pid) if os.readlink(f"/proc/{pid}/exe") == CRON]
        yield wait_until(running, "cron in its namespace")[0]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def run_directory(place, name):
    found = list((place / f"logs-{name}").glob("*/job.json"))
    assert len(found) < 2, found
    return found[0].parent if found else None


def test_the_crontab_example_mails_a_failed_run_and_nothing_of_a_good_one(place):
    mark = uuid.uuid4().hex
    table = place / "crontabs" / "root"
    table.write_text(crontab(place, mark))
    table.chmod(0o600)
    with cron_in_namespaces(place) as cron:
        wait_until(lambda: run_directory(place, "good") and run_directory(place, "bad"), "both runs", 90)
        table.unlink()  # before the next minute
        wait_until(lambda: not children_of(cron), "the end of both jobs and of their mails", 60)
    directory = run_directory(place, "bad")
    assert json.loads((run_directory(place, "good") / "job.json").read_text())["exit_status"] == 0
    assert json.loads((directory / "job.json").read_text())["exit_status"] == 7
    for name, words in (("good", "--epochs 1"), ("bad", "--epochs 1 --fail")):
        assert [(place / name / f"ran-{rank}").read_text() for rank in (0, 1)] == [words, words]

    (mail,) = (place / "mail").iterdir()  # of the failed run; a run that prints nothing has none
    message = email.message_from_bytes(mail.read_bytes())
    assert message["To"] == "me@example.org" and "bad.yaml" in message["Subject"], message
    lines = message.get_payload(decode=True).decode().splitlines()
    assert len(lines) <= 40, message
    assert re.match(r"llmlaunch: error: rank [01] .*\b7\b", lines[0]) and any("line 99" in line for line in lines), message
    assert lines[-2:] == ["exit status: 7", f"logs:        {directory}"], message
    assert processes_with(f"{MARK}={mark}") == {}
