"""What the console shows of the ranks' lines, and what the run directory keeps of them, end to end."""
import hashlib
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import PYTHON, SCALE, wait_until
from test_output import HEAD_LIMIT_KIB, peak_kib

HOSTS = 2


def python(body):
    return PYTHON, "-c", "import os, sys, time\nrank = int(os.environ['RANK'])\n" + body


def with_logs(hosts, **logs):
    def change(data):
        data["llmlaunch"]["logs"] = logs

    return hosts.config(change, slots=2)


def test_prefix_ranks_and_folding_change_the_console_and_no_file(hosts):
    body = "print('same')\nprint('own', rank)\nprint('bad', file=sys.stderr)"
    run = hosts.run(*python(body), config=with_logs(hosts, fold_lines=True),
                    options=("--prefix", "{time} [{rank}/{world_size} {local_rank} {node_rank} {host} {stream}] ",
                             "--ranks", "0,2-3"))
    assert run.status == 0, str(run)
    assert "[0,2-3] ×3 same\n" in run.out and "[0,2-3] ×3 bad\n" in run.err, str(run)
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d \[3/4 1 1 test02 out\] own 3$", run.out, re.M), str(run)
    assert "own 1" not in run.out
    assert run.err.splitlines()[-1].startswith("llmlaunch: 4 ranks ended well"), str(run)
    directory = hosts.run_directory()
    assert (directory / "rank-00001.out").read_text() == "same\nown 1\n"
    merged = (directory / "merged.log").read_text()
    assert merged.count("same") == 4 and re.search(r" \[1/4 1 0 test01 err\] bad$", merged, re.M)
    hosts.nothing_left(run)

    run = hosts.run("echo", "bare", config=with_logs(hosts, prefix="none"))
    assert run.out == "bare\n" * 4, str(run)
    assert "[rank 3 test02] bare\n" in (hosts.run_directory() / "merged.log").read_text()


def test_names_and_ranks_that_do_not_exist_are_refused_before_any_host_is_asked(hosts):
    run = hosts.run("true", options=("--prefix", "{hots} "))
    assert run.status == 64 and "did you mean '{host}'?" in run.err, str(run)
    run = hosts.run("true", options=("--ranks", "0,8-15"))
    assert run.status == 64 and "rank 8 does not exist: the job has 2 ranks, 0-1" in run.err, str(run)


def test_colours_are_for_terminals_unless_they_are_asked_for(hosts):
    run = hosts.run(*python("print('x')\nprint('y', file=sys.stderr)"), options=("--color", "always"))
    assert "\x1b[36m[rank 0 test01] \x1b[0mx\n" in run.out and "\x1b[32m[rank 1 test02] \x1b[0mx\n" in run.out, str(run)
    assert "\x1b[36m[rank 0 test01] \x1b[0m\x1b[1;31m!\x1b[0m y\n" in run.err
    assert "\x1b" not in (hosts.run_directory() / "merged.log").read_text()
    run = hosts.run(*python("print('\\x1b[31mred')\nprint('more')\nprint('\\x1b[0mend')"))
    rank_0 = [line for line in run.out.split("\n") if line.startswith("[rank 0 ")]  # rank 1's come between as they will
    assert rank_0[:2] == ["[rank 0 test01] \x1b[31mred\x1b[0m", "[rank 0 test01] \x1b[31mmore\x1b[0m"], str(run)


BARS = r"""
from time import monotonic
end = monotonic() + 1.5
count = 0
while monotonic() < end:                       # two bars below each other, as tqdm draws them, far too often
    sys.stderr.write(f"\router {count}\n\rinner {count}\x1b[A")
    sys.stderr.flush()
    print("line", count)
    count += 1
    time.sleep(0.001)
sys.stderr.write(f"\router done\n\rinner done\n")
open(os.path.expanduser("~/count"), "w").write(str(count))
"""


def test_progress_bars_are_slowed_down_and_move_over_no_line(hosts):
    run = hosts.run(*python(BARS), options=("--updates-per-second", "4"))
    assert run.status == 0, str(run)
    for rank, name in ((0, "test01"), (1, "test02")):
        count = int((hosts.home(name) / "count").read_text())
        (hosts.home(name) / "count").unlink()
        shown = re.findall(rf"^\[rank {rank} {name}\] (outer|inner) (\w+)$", run.err, re.M)
        updates = [number for bar, number in shown if bar == "outer"]
        assert updates[-1] == "done" and ("inner", "done") in shown, str(run)
        # 4 a second in 1.5 s or a little more, the line before anybody knew that it is a bar, and the end.
        assert 2 < len(updates) <= 12 * (3 if SCALE > 1 else 1), updates
        assert [line for line in run.out.splitlines() if line.startswith(f"[rank {rank} ")] == [
            f"[rank {rank} {name}] line {number}" for number in range(count)]
        file = (hosts.run_directory() / f"rank-{rank:05}.err").read_bytes().decode()
        assert file == "".join(f"\router {n}\n\rinner {n}\x1b[A" for n in range(count)) + "\router done\n\rinner done\n"
    assert "\r" not in run.err and "\x1b" not in run.err, str(run)
    hosts.nothing_left(run)


def test_two_bars_of_the_real_tqdm_end_with_their_last_states(hosts):
    body = ("from tqdm import tqdm\n"
            "for outer in tqdm(range(20), desc='outer', ascii=True, ncols=60):\n"
            "  for inner in tqdm(range(2000), desc='inner', ascii=True, ncols=60, leave=False, mininterval=0): pass\n"
            "  print('step', outer, flush=True)")
    if subprocess.run([PYTHON, "-c", "import tqdm"], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("python3-tqdm is not installed: scripts/install_deps.sh")
    run = hosts.run(*python(body))
    assert run.status == 0, str(run)
    for rank in range(2):
        name = f"[rank {rank} test0{rank + 1}] "
        bars = [line.removeprefix(name) for line in run.err.splitlines() if line.startswith(name)]
        assert any(bar.startswith("outer: 100%|") and "| 20/20 [" in bar for bar in bars), str(run)
        assert all(bar.startswith(("outer: ", "inner: ")) for bar in bars) and len(bars) < 60, str(run)
        assert [line for line in run.out.splitlines() if line.startswith(name)] == [f"{name}step {n}" for n in range(20)]
    assert "\r" not in run.err and "\x1b" not in run.err, str(run)
    hosts.nothing_left(run)


def test_a_bar_that_pauses_is_seen_and_leaves_other_ranks_lines_alone(hosts):
    """A bar of rank 0 that pauses is seen while it pauses; rank 1's lines are whole between its states."""
    body = ("gate = os.path.expanduser('~/gate')\n"
            "if rank == 0:\n"
            "  sys.stderr.write('\\r 50%|#####     |'); sys.stderr.flush()\n"
            "else: print('ready', flush=True)\n"
            "open(gate).read()\n"
            "if rank == 0: sys.stderr.write('\\r100%|##########|\\n')")
    gates = [hosts.home(name) / "gate" for name in hosts.names]
    for gate in gates:
        os.mkfifo(gate)
    run = hosts.start(*python(body))
    run.said("[rank 0 test01]  50%|#####     |\n")
    run.said("[rank 1 test02] ready\n")
    for gate in gates:
        gate.write_text("go")
        gate.unlink()
    run.finish()
    assert run.status == 0, str(run)
    bars = [line for line in run.err.splitlines() if line.startswith("[rank 0")]
    assert bars == ["[rank 0 test01]  50%|#####     |", "[rank 0 test01] 100%|##########|"], str(run)
    hosts.nothing_left(run)


def test_files_are_rotated_at_their_limit_and_the_oldest_is_removed(hosts):
    lines = 5_000
    body = f"for n in range({lines}): print(rank, n, 'x' * 20)"
    run = hosts.run(*python(body), config=with_logs(hosts, max_file_bytes="20KB", keep=3, merged=False))
    assert run.status == 0, str(run)
    assert run.err.count("from here on the oldest part of such a file is removed") == 1, str(run)
    directory = hosts.run_directory()
    assert not (directory / "merged.log").exists()
    for rank in range(4):
        files = [directory / f"rank-{rank:05}.out{end}" for end in (".3", ".2", ".1", "")]
        assert all(file.stat().st_size <= 20_000 for file in files)
        kept = "".join(file.read_text() for file in files)
        # The first line may be the rest of one: a file is parted where the bytes at hand have a line end.
        numbers = [int(line.split()[1]) for line in kept.splitlines()[1:]]
        assert numbers == list(range(numbers[0], lines)) and 0 < numbers[0] < lines
        assert not (directory / f"rank-{rank:05}.out.4").exists()
    assert run.out.count("\n") == 4 * lines  # the console had all of them
    hosts.nothing_left(run)

    run = hosts.run(*python(body), config=with_logs(hosts, max_file_bytes="20KB", keep=100, per_rank=False))
    directory = hosts.run_directory()
    assert "oldest" not in run.err and not list(directory.glob("rank-*")), str(run)
    rotated = sorted(directory.glob("merged.log.*"), key=lambda file: -int(file.suffix[1:]))
    merged = "".join(file.read_text() for file in [*rotated, directory / "merged.log"])
    assert len(rotated) > 10 and merged.count("\n") == 4 * lines
    for rank in range(4):
        numbers = [int(n) for n in re.findall(rf"^\[rank {rank} test0\d\] {rank} (\d+) x+$", merged, re.M)]
        assert numbers == list(range(lines))


def test_a_line_of_100_mb_is_bounded_in_memory_and_whole_in_its_file(hosts):
    size = 100_000_000 // (20 if SCALE > 1 else 1)
    body = ("import hashlib\n"
            "piece, digest = bytes(b for b in range(256) if b not in (10, 13, 27)) * 4001, hashlib.sha256()\n"
            f"left = {size}\n"
            "while left > 0:\n"
            "  written = os.write(1, piece[:left])\n"
            "  digest.update(piece[:written])\n"
            "  left -= written\n"
            "print(digest.hexdigest(), file=sys.stderr)\n")
    read_end, write_end = os.pipe()
    run = hosts.start(*python(body), config=hosts.config(only=["test01"]), stdout=write_end)
    os.close(write_end)
    shown, peak, longest = 0, 0, 0
    with os.fdopen(read_end, "rb", buffering=1 << 20) as stream:
        while line := stream.readline():
            shown += len(line)
            longest = max(longest, len(line))
            peak = max(peak, peak_kib(run.pid))
    run.finish()
    assert run.status == 0, str(run)
    assert shown > size * 0.98 and longest < 70_000  # SO and SI, of 253 bytes, are left out on the console
    if SCALE == 1:
        assert 0 < peak < HEAD_LIMIT_KIB, f"the head grew to {peak} KiB"
    written = (hosts.run_directory() / "rank-00000.out").read_bytes()
    assert len(written) == size
    assert f"[rank 0 test01] {hashlib.sha256(written).hexdigest()}\n" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_rank_that_is_killed_in_the_middle_of_a_line_loses_and_doubles_nothing(hosts):
    body = ("import signal\n"
            "for n in range(1000): print('line', n)\n"
            "sys.stdout.write('half a li'); sys.stdout.flush()\n"
            "sys.stderr.write('\\r10%\\r2'); sys.stderr.flush()\n"
            "os.kill(os.getpid(), signal.SIGKILL)")
    run = hosts.run(*python(body), config=hosts.config(only=["test01"]))
    assert run.status == 137, str(run)
    expected = [f"line {n}" for n in range(1000)] + ["half a li"]
    assert run.out.splitlines() == [f"[rank 0 test01] {line}" for line in expected], str(run)
    assert re.findall(r"^\[rank 0 test01\] (.*)$", run.err, re.M) in (["2"], ["10%", "2"]), str(run)
    directory = hosts.run_directory()
    assert (directory / "rank-00000.out").read_text() == "\n".join(expected)
    assert (directory / "rank-00000.err").read_bytes() == b"\r10%\r2"
    hosts.nothing_left(run)


def test_a_pager_that_stands_still_and_is_then_quit_ends_nothing(hosts):
    lines = 200_000 // (5 if SCALE > 1 else 1)
    read_end, write_end = os.pipe()
    run = hosts.start(*python(f"for n in range({lines}): print(n)"), stdout=write_end)
    os.close(write_end)
    pager = subprocess.Popen(["sh", "-c", "read line; kill -STOP $$; cat > /dev/null"], stdin=read_end)
    os.close(read_end)
    wait_until(lambda: open(f"/proc/{pager.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T", "a stopped pager")
    assert run.process.poll() is None, str(run)  # far more lines than a pipe holds: it waits
    pager.kill()
    pager.wait()
    run.finish()
    assert run.status == 0, str(run)
    assert run.err.count("nobody reads it any more; the job goes on, all lines are in ") == 1, str(run)
    for rank in range(2):
        assert (hosts.run_directory() / f"rank-{rank:05}.out").read_text().splitlines() == [
            str(n) for n in range(lines)]
    hosts.nothing_left(run)


def test_the_timeline_has_a_track_for_each_host_whose_stages_add_up(hosts):
    """Twice: with the agent pushed to both hosts, and found there."""
    for name in hosts.names:
        shutil.rmtree(hosts.home(name) / ".cache" / "llmlaunch", ignore_errors=True)
    for pushed in (["push"], []):
        run = hosts.run("echo", "x", options=("--timeline", "t.json"))
        assert run.status == 0, str(run)
        events = json.loads((hosts.head / "t.json").read_text())["traceEvents"]
        names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
        assert names == {1: "test01", 2: "test02"}
        table = (hosts.head / "t.json.txt").read_text()
        for track in names:
            stages = [event for event in events if event["ph"] == "X" and event["tid"] == track]
            wanted = ["wait", "resolve", "TCP", "key exchange", "host key", "authentication", "shell start", *pushed,
                      "agent hello", "ready", "go", "first line", "end"]
            assert [stage["name"] for stage in stages] == wanted
            at = 0.0
            for stage in stages:
                assert abs(stage["ts"] - at) < 1 and stage["dur"] >= 0, stages
                at = stage["ts"] + stage["dur"]
            total = at / 1000
            row = next(line for line in table.splitlines() if line.startswith(names[track]))
            assert abs(float(row.split()[-1]) - total) < 0.2 and total < 1000 * run.seconds
        assert re.search(r"^\(median\) ", table, re.M) and re.search(r"^\(slowest\) ", table, re.M)
        hosts.nothing_left(run)
