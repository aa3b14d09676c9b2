"""Every line once, whole, in order; memory stays flat; a slow terminal slows the ranks down."""
import os
import re
import signal
import subprocess
import threading

import pytest

from conftest import BIN, PYTHON, SCALE, processes_with, wait_until

HOSTS = 4
LINES = 1_000_000 // (20 if SCALE > 1 else 1)
HEAD_LIMIT_KIB = 64 * 1024

COUNT = r"""
import os, sys
rank, total = int(os.environ["RANK"]), int(sys.argv[1])
write, text = sys.stdout.write, "the quick brown fox jumps over the lazy dog"
for number in range(total):
    write(f"{rank}:{number}:{text}\n")
"""


def peak_kib(pid):
    """The largest resident size this process has had so far, as the kernel keeps it."""
    try:
        return int(re.search(r"VmHWM:\s+(\d+) kB", open(f"/proc/{pid}/status").read())[1])
    except (OSError, TypeError):
        return 0


def check_complete(text_lines, per_rank):
    """Each of 4 ranks: every number once and in order, every line whole and with the right prefix."""
    following = [0] * 4
    pattern = re.compile(rb"\[rank (\d) test0(\d)\] (\d):(\d+):the quick brown fox jumps over the lazy dog")
    for line in text_lines:
        match = pattern.fullmatch(line)
        assert match, f"not a whole line of a rank: {line!r}"
        rank = int(match[1])
        assert int(match[3]) == rank and int(match[2]) == rank + 1, line
        assert int(match[4]) == following[rank], f"rank {rank}: {match[4]} came where {following[rank]} was next"
        following[rank] += 1
    assert following == [per_rank] * 4


def test_a_million_lines_from_four_hosts_arrive_complete_in_order_and_in_small_memory(hosts):
    per_rank = LINES // 4
    read_end, write_end = os.pipe()
    run = hosts.start(PYTHON, "-c", COUNT, str(per_rank), stdout=write_end)
    os.close(write_end)
    received, peaks = bytearray(), []
    with os.fdopen(read_end, "rb", buffering=0) as stream:
        while piece := stream.read(1 << 20):
            received += piece
            peaks.append(peak_kib(run.pid))  # while it runs: the last look is at most one piece before the end
    run.finish()
    assert run.status == 0, str(run)
    check_complete(received.splitlines(), per_rank)
    peak = max(peaks)
    print(f"{LINES} lines in {run.seconds:.2f} s, head's peak {peak} KiB")
    assert peak > 0
    if SCALE == 1:  # sanitizers keep shadow memory of their own
        assert peak < HEAD_LIMIT_KIB, f"the head grew to {peak} KiB"
    directory = hosts.run_directory()
    for rank in range(4):
        lines = (directory / f"rank-{rank:05}.out").read_bytes().splitlines()
        assert len(lines) == per_rank
        assert lines[0].startswith(b"%d:0:" % rank) and lines[-1].startswith(b"%d:%d:" % (rank, per_rank - 1))
    with open(directory / "merged.log", "rb") as merged:
        assert sum(1 for _ in merged) == LINES
    hosts.nothing_left(run)


TELLING = r"""
import os, sys
rank, total, where = int(os.environ["RANK"]), int(sys.argv[1]), sys.argv[2]
progress = os.open(f"{where}/progress-{rank}", os.O_CREAT | os.O_WRONLY)
for number in range(total):
    os.write(1, b"%d:%d:the quick brown fox jumps over the lazy dog\n" % (rank, number))
    if number % 100 == 99:
        os.pwrite(progress, b"%12d" % (number + 1), 0)
"""


def progress_files(hosts):
    return [int((hosts.head / f"progress-{rank}").read_bytes() or b"0") for rank in range(4)
            if (hosts.head / f"progress-{rank}").exists()]


def rank_pids(run):
    """{rank: pid} of the Python ranks: those whose environment has the run's mark and a RANK."""
    found = {}
    for pid in processes_with(f"LLMLAUNCH_TEST_MARK={run.mark}"):
        try:
            entries = open(f"/proc/{pid}/environ", "rb").read().split(b"\0")
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
        if "python" in program:
            found.update({int(entry[5:]): pid for entry in entries if entry.startswith(b"RANK=")})
    return found


def waits_in_write(pid):
    """True when the process sleeps inside write() on its stdout, as the kernel says."""
    try:
        state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
        call = open(f"/proc/{pid}/syscall").read().split()
    except OSError:
        return False
    return state == "S" and call[:2] in (["1", "0x1"], ["64", "0x1"])  # write(1, …) of x86-64 and arm64


def all_ranks_stuck(run, progress):
    """Waits until every rank sleeps in write() and none moves on any more; returns how far each came.

    Each may wait for a moment while others still drain, so the same picture must be seen many times in a row.
    """
    def four():
        found = rank_pids(run)
        return found if len(found) == 4 else None

    pids = wait_until(four, f"four ranks\n{run}")
    seen = {"progress": None, "times": 0}

    def stuck():
        now = progress()
        same = now == seen["progress"] and all(waits_in_write(pid) for pid in pids.values())
        seen["progress"], seen["times"] = now, seen["times"] + 1 if same else 0
        return seen["times"] >= 50

    wait_until(stuck, f"all ranks to wait in write()\n{run}", 60)
    return seen["progress"]


def test_a_terminal_that_reads_slowly_slows_the_ranks_down_and_loses_nothing(hosts):
    per_rank = 400_000 // 4 // (5 if SCALE > 1 else 1)
    read_end, write_end = os.pipe()
    run = hosts.start(PYTHON, "-c", TELLING, str(per_rank), str(hosts.head), stdout=write_end)
    os.close(write_end)
    received = bytearray(os.read(read_end, 1000))  # it has begun; now nobody reads

    paused = all_ranks_stuck(run, lambda: progress_files(hosts))
    assert max(paused) < per_rank, f"a rank was not slowed down: {paused} of {per_rank}"
    before = peak_kib(run.pid)
    if SCALE == 1:
        assert before < HEAD_LIMIT_KIB, f"the head holds {before} KiB for a reader that does not read"
    with os.fdopen(read_end, "rb", buffering=0) as stream:
        while piece := stream.read(1 << 20):
            received += piece
    run.finish()
    assert run.status == 0, str(run)
    check_complete(bytes(received).splitlines(), per_rank)
    hosts.nothing_left(run)


QUIET = r"""
import os, sys, time
rank, where = int(os.environ["RANK"]), sys.argv[1]
if rank == 0:
    while not os.path.exists(where + "/enough-said"): os.write(1, b"flood " * 1000 + b"\n")
else:
    progress = os.open(f"{where}/quiet-{rank}", os.O_CREAT | os.O_WRONLY)
    number = 0
    while not os.path.exists(where + "/enough-said"):
        number += 1
        os.pwrite(progress, b"%12d" % number, 0)
        time.sleep(0.02)
"""


def test_a_terminal_that_stands_still_costs_no_host_its_head_and_no_silent_rank_its_time(hosts):
    """For longer than timeouts.head: signs of life do not queue behind output, and training that prints little goes on."""
    patience = 3 * (2 if SCALE > 1 else 1)

    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": patience}

    read_end, write_end = os.pipe()
    run = hosts.start(PYTHON, "-c", QUIET, str(hosts.head), stdout=write_end, config=hosts.config(change))
    os.close(write_end)
    os.read(read_end, 1000)  # it has begun; now nobody reads
    wait_until(lambda: 0 in rank_pids(run) and waits_in_write(rank_pids(run)[0]), f"rank 0 in write()\n{run}")

    def ticks():
        return [int((hosts.head / f"quiet-{rank}").read_bytes() or b"0") for rank in (1, 2, 3)]

    wait_until(lambda: all((hosts.head / f"quiet-{rank}").exists() for rank in (1, 2, 3)), "three quiet ranks")
    wanted = [number + 60 * patience for number in ticks()]  # 50 ticks take a second or more
    wait_until(lambda: all(now >= then for now, then in zip(ticks(), wanted)), f"quiet ranks that go on\n{run}")
    assert run.process.poll() is None and "connection lost" not in run.err, str(run)
    (hosts.head / "enough-said").touch()
    with os.fdopen(read_end, "rb", buffering=0) as stream:
        while stream.read(1 << 20):
            pass
    run.finish()
    (hosts.head / "enough-said").unlink()
    assert run.status == 0 and "connection lost" not in run.err, str(run)
    hosts.nothing_left(run)


def test_a_flood_of_one_rank_is_bounded_and_keeps_nobody_elses_lines_back(hosts):
    """As much as it can write, for as long as another rank needs for fifty lines of its own."""
    script = ("import os, sys, time\n"
              "if os.environ['RANK'] != '1':\n"
              "  while True: os.write(1, b'flood ' * 10_000 + b'\\n')\n"
              "for number in range(50):\n"
              "  print('calm', number, flush=True)\n"
              "  time.sleep(0.02)\n"
              "sys.exit(7)\n")
    read_end, write_end = os.pipe()
    run = hosts.start(PYTHON, "-c", script, stdout=write_end, config=hosts.config(only=["test01", "test02"]))
    os.close(write_end)
    calm, flood, peak = [], 0, 0
    with os.fdopen(read_end, "rb", buffering=1 << 20) as stream:
        for line in stream:
            flood += len(line)
            if b"] calm " in line:
                calm.append(int(line.split()[-1]))
                peak = max(peak, peak_kib(run.pid))
    run.finish()
    assert run.status == 7, str(run)[-3000:]
    assert calm == list(range(50))
    assert flood > 10_000_000 // SCALE, f"no flood: {flood} bytes"
    if SCALE == 1:
        assert 0 < peak < HEAD_LIMIT_KIB, f"the head grew to {peak} KiB"
    hosts.nothing_left(run)


def test_ctrl_c_works_while_the_terminal_does_not_read(hosts):
    read_end, write_end = os.pipe()
    run = hosts.start(PYTHON, "-c", TELLING, str(10_000_000), str(hosts.head), stdout=write_end)
    os.close(write_end)
    os.read(read_end, 1000)
    all_ranks_stuck(run, lambda: progress_files(hosts))
    os.kill(run.pid, signal.SIGINT)
    # Whoever presses Ctrl-C then looks at the terminal again: the rest is read, and the end comes.
    rest = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(read_end, 1 << 16), b"")], daemon=True)
    rest.start()
    run.finish(60)
    rest.join(10)
    os.close(read_end)
    assert run.status == 130, str(run)
    hosts.nothing_left(run)


def test_long_lines_binary_bytes_and_carriage_returns_arrive(hosts):
    """A line of 300 kB may be cut into marked pieces; no byte of it is lost. Bytes that are no text pass as they are."""
    script = ("import sys\n"
              "out = sys.stdout.buffer\n"
              "out.write(b'A' * 300_000 + b'\\n')\n"
              "out.write(bytes(b for b in range(256) if b != 10) + b'\\n')\n"
              "out.write(b'50%\\r100%\\n')\n"
              "out.write(b'the end')\n")
    run = hosts.run(PYTHON, "-c", script, config=hosts.config(only=["test01"]))
    assert run.status == 0, str(run)
    file = (hosts.run_directory() / "rank-00000.out").read_bytes()
    assert file == b"A" * 300_000 + b"\n" + bytes(b for b in range(256) if b != 10) + b"\n50%\r100%\nthe end"
    assert bytes(run.out_bytes).count(b"A") == 300_000 + 1  # one is among the 255 bytes
    assert b"the end\n" in bytes(run.out_bytes)
    hosts.nothing_left(run)


def test_stdout_and_stderr_of_a_rank_stay_apart_and_complete(hosts):
    per_stream = 20_000 // (4 if SCALE > 1 else 1)
    script = (f"import sys\nfor n in range({per_stream}):\n"
              "  sys.stdout.write(f'o{n}\\n')\n  sys.stderr.write(f'e{n}\\n')\n")
    run = hosts.run(PYTHON, "-c", script)
    assert run.status == 0, str(run)
    for letter, text in (("o", run.out), ("e", run.err)):
        numbers = {rank: [] for rank in range(4)}
        for rank, found, number in re.findall(r"^\[rank (\d) test0\d\] ([oe])(\d+)$", text, re.M):
            assert found == letter
            numbers[int(rank)].append(int(number))
        assert numbers == {rank: list(range(per_stream)) for rank in range(4)}
    hosts.nothing_left(run)


def test_a_text_for_a_stdout_that_is_closed_is_not_taken_for_written():
    for words in (["version"], ["--help"], ["hosts", "n[1-3]"]):
        ended = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', str(BIN / "llmlaunch"), *words],
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60)
        assert ended.returncode == 74 and "stdout: Bad file descriptor" in ended.stderr, ended


@pytest.mark.skipif(SCALE > 1, reason="sanitizers keep shadow memory, more than the limit")
def test_a_thread_that_cannot_be_made_is_no_defect_of_llmlaunch(tmp_path):
    """Stacks for which there is no room; `ulimit -u` says the same to those who are not root."""
    limits = 'ulimit -s 4000000; ulimit -v 900000; exec "$0" "$@"'
    ended = subprocess.run(["sh", "-c", limits, str(BIN / "llmlaunch"), "run", "-n", "1", "--log-dir", str(tmp_path),
                            "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 69, ended
    assert "llmlaunch: error: a thread cannot be made: Resource temporarily unavailable\n   hint: see ulimit -u" \
        in ended.stderr, ended


@pytest.mark.skipif(SCALE > 1, reason="sanitizers keep shadow memory, more than the limit")
@pytest.mark.parametrize("kilobytes", [30000, 40000, 50000, 60000, 80000])
def test_a_head_without_room_for_its_threads_says_so_and_does_not_wait_for_them(hosts, tmp_path, kilobytes):
    """asio's pool waited for ever for those that it had."""
    (tmp_path / "cfg.yaml").write_text(hosts.config())
    ended = subprocess.run(["sh", "-c", f'ulimit -v {kilobytes}; exec "$0" "$@"', str(BIN / "llmlaunch"), "run", "--config",
                            str(tmp_path / "cfg.yaml"), "echo", "hi"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert ended.returncode in (69, 70, 71) and "llmlaunch: error: " in ended.stderr, ended


@pytest.mark.parametrize("blocks", [1, 4])
def test_a_limit_of_the_size_of_files_is_an_error_and_no_signal(hosts, tmp_path, blocks):
    (tmp_path / "cfg.yaml").write_text(hosts.config())
    program = 'i=0; while [ $i -lt 400 ]; do echo "a line of about thirty bytes $i"; i=$((i+1)); done'
    ended = subprocess.run(["sh", "-c", f'ulimit -f {blocks}; exec "$0" "$@"', str(BIN / "llmlaunch"), "run", "--config",
                            str(tmp_path / "cfg.yaml"), "sh", "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 74 and "File too large" in ended.stderr, ended


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_with_standard_descriptors_closed_the_files_hold_each_line_once_and_nothing_else(closed, tmp_path):
    """merged.log would get the number of stderr, and with it what llmlaunch says and every line of stderr again."""
    config = tmp_path / "two.yaml"
    config.write_text(f"num_processes: 2\nllmlaunch: {{log_dir: {tmp_path}/logs}}\n")
    program = "import os, sys; print('out', os.environ['RANK']); print('err', os.environ['RANK'], file=sys.stderr)"
    command = [str(BIN / "llmlaunch"), "run", "--config", str(config), PYTHON, "-c", program]
    ended = subprocess.run(["sh", "-c", f'exec "$0" "$@" {closed}', *command], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 0 and ended.stderr == "", ended
    lines = sorted(f"[rank {rank} localhost] {stream} {rank}" for rank in (0, 1) for stream in ("out", "err"))
    if closed == "2>&-":
        assert sorted(ended.stdout.splitlines()) == [line for line in lines if "out" in line]
    directory, = (tmp_path / "logs").iterdir()
    assert sorted((directory / "merged.log").read_text().splitlines()) == lines
    for rank in (0, 1):
        assert (directory / f"rank-{rank:05}.out").read_text() == f"out {rank}\n"
        assert (directory / f"rank-{rank:05}.err").read_text() == f"err {rank}\n"
