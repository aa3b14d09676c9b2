"""scripts/quickstart.sh as a newcomer runs it, on programs that are built: accuracy, time, and nothing left."""
import os
import re
import subprocess
import time

import pytest

from conftest import BIN, ROOT, SCALE, processes_with

SECONDS_ALLOWED = 60  # after the build, on 2 cores


@pytest.mark.skipif(SCALE > 1, reason="a whole epoch takes minutes under sanitizers")
def test_the_quickstart_trains_on_two_hosts_and_cleans_up(tmp_path):
    mark = f"LLMLAUNCH_TEST_QUICKSTART={tmp_path}"
    environment = dict(os.environ, HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path / "tmp"))
    environment.update([mark.split("=", 1)])
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    before = {file.name for file in ROOT.iterdir()}
    started = time.monotonic()
    ended = subprocess.run(["bash", str(ROOT / "scripts" / "quickstart.sh"), "--bin", str(BIN)], env=environment,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    seconds = time.monotonic() - started
    assert ended.returncode == 0, ended.stdout + ended.stderr
    print(ended.stdout)
    last = re.search(r"^test accuracy ([\d.]+) % after one epoch on 2 hosts, status 0", ended.stdout, re.M)
    assert last and float(last[1]) >= 97.0, ended.stdout + ended.stderr
    assert "[rank 1 test02]" in ended.stdout, ended.stdout
    assert seconds <= SECONDS_ALLOWED, f"{seconds:.1f} s"
    assert processes_with(mark) == {}
    hosts = str(tmp_path / "tmp")
    commands = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True).stdout
    assert hosts not in commands, "an sshd or a program of the quickstart is still there"
    assert list((tmp_path / "tmp").iterdir()) == [] and list((tmp_path / "home").rglob("*")) == []
    assert {file.name for file in ROOT.iterdir()} == before
