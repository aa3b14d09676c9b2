"""Progress bars of ranks on a terminal: one line below all others, and an ordinary line when they end."""
import fcntl
import os
import re
import signal
import struct
import termios

from conftest import PYTHON, wait_until
from test_roll_call import Screen, with_terminal

HOSTS = 2

# Says what the test writes into its FIFO, piece by piece: "o" and "e" are stdout and stderr.
OBEDIENT = r"""
import os, sys
rank, where = os.environ["RANK"], sys.argv[1]
print("columns", os.environ.get("LLMLAUNCH_COLUMNS"), flush=True)
with open(f"{where}/{rank}") as orders:
    for order in orders:
        text = eval(order[1:])
        os.write(1 if order[0] == "o" else 2, text.encode())
"""


class Ranks:
    """Two ranks that say what they are told."""

    def __init__(self, hosts, screen, **more):
        self.folder = hosts.head / "orders"
        self.folder.mkdir()
        for rank in range(2):
            os.mkfifo(self.folder / str(rank))
        self.run = with_terminal(hosts, screen, PYTHON, "-c", OBEDIENT, str(self.folder), **more)
        self.orders = [open(self.folder / str(rank), "w") for rank in range(2)]

    def say(self, rank, text, stream="e"):
        self.orders[rank].write(f"{stream}{text!r}\n")
        self.orders[rank].flush()

    def end(self):
        for orders in self.orders:
            orders.close()
        self.run.finish()
        for rank in range(2):
            (self.folder / str(rank)).unlink()
        self.folder.rmdir()


def lowest_is(screen, row):
    wait_until(lambda: screen.rows[-1] == row, f"{row!r} as the lowest line; there are {screen.rows}")


def of_ranks(rows):
    return [row for row in rows if row.startswith("[rank")]


def test_a_bar_of_two_ranks_is_one_line_below_all_others(hosts):
    screen = Screen(columns=70)
    ranks = Ranks(hosts, screen)
    wait_until(lambda: sum("columns" in row for row in screen.rows) == 2, "two ranks that run")
    ranks.say(1, "\r10%|#         | of rank 1")
    lowest_is(screen, "[rank 1 test02] 10%|#         | of rank 1")
    ranks.say(0, "\r\x1b[32m10%|█         | of rank 0\x1b[0m")
    lowest_is(screen, "[rank 0 test01] 10%|█         | of rank 0 (+1 more)")
    for number in range(20):
        ranks.say(1, f"line {number}\n", "o")
        ranks.say(0, f"\r{number}%|█         | of rank 0 ")
    wait_until(lambda: "[rank 1 test02] line 19" in screen.rows, "lines that pass above the bar")
    lowest_is(screen, "[rank 0 test01] 19%|█         | of rank 0  (+1 more)")
    # What a terminal that became narrower wraps is its own; the next drawing has its width.
    fcntl.ioctl(screen.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 35, 0, 0))
    ranks.say(0, "\r50%|█████     | of rank 0 ")
    lowest_is(screen, "[rank 0 test01] 50%|█ (+1 more)")
    ranks.say(0, "\r100%|█████████| of rank 0 \n")
    lowest_is(screen, "[rank 1 test02] 10%|#         |")
    ranks.say(1, "\r99%")
    lowest_is(screen, "[rank 1 test02] 99%")
    ranks.end()
    screen.close()
    assert ranks.run.status == 0, screen.rows
    rows = of_ranks(screen.rows)
    assert sorted(rows[:2]) == ["[rank 0 test01] columns 50", "[rank 1 test02] columns 50"], rows
    assert rows[2:] == [f"[rank 1 test02] line {number}" for number in range(20)] \
        + ["[rank 0 test01] 100%|█████████| of rank 0 ", "[rank 1 test02] 99%"], screen.rows
    assert len(set(screen.states)) < 60 and max(len(state) for state in screen.states) <= 66, screen.states
    hosts.nothing_left(ranks.run)


def test_a_pipe_has_lines_only_and_the_bar_is_on_the_terminal(hosts):
    screen = Screen(columns=70)
    read_end, write_end = os.pipe()
    ranks = Ranks(hosts, screen, stdout=write_end)
    os.close(write_end)
    ranks.say(0, "\r10%", "o")
    lowest_is(screen, "[rank 0 test01] 10%")
    ranks.say(1, "a line\n", "o")
    ranks.say(0, "\r20%", "o")
    lowest_is(screen, "[rank 0 test01] 20%")
    ranks.say(0, "\r100%\n", "o")
    ranks.end()
    screen.close()
    with os.fdopen(read_end, "rb") as stream:
        lines = stream.read().decode().splitlines()
    assert ranks.run.status == 0 and of_ranks(screen.rows) == [], screen.rows
    assert sorted(lines) == ["[rank 0 test01] 100%", "[rank 0 test01] columns None", "[rank 1 test02] a line",
                             "[rank 1 test02] columns None"]
    hosts.nothing_left(ranks.run)


BAR = re.compile(r"\[rank 0 test01\] step \d+/\d+( loss \d\.\d{4})? \(\d+ samples/s, [\d:]+ left\)")


def train(hosts, screen, *words):
    return with_terminal(hosts, screen, "train", "--use_cpu", "--train_samples", "64", "--eval_samples", "40",
                         "--per_device_train_batch_size", "8", *words)


def test_training_on_a_terminal_is_one_line_that_its_last_step_takes_away(hosts):
    screen = Screen(columns=100)
    run = train(hosts, screen, "--num_train_epochs", "100000")
    wait_until(lambda: len({state for state in screen.states if BAR.fullmatch(state)}) >= 3, f"a bar that moves\n{run}")
    run.press_on(signal.SIGINT)
    screen.close()
    assert run.status == 130 and len([row for row in screen.rows if "left)" in row]) <= 1, screen.rows
    hosts.nothing_left(run)

    screen = Screen(columns=100)
    run = train(hosts, screen)
    run.finish(300)
    screen.close()
    assert run.status == 0, screen.rows
    steps = [row for row in screen.rows if " step " in row]
    assert len(steps) == 1 and re.fullmatch(r"\[rank 0 test01\] step 4/4 loss \d\.\d{4} \(\d+ samples/s\)", steps[0]), screen.rows
    assert of_ranks(screen.rows)[-1].startswith("[rank 0 test01] test accuracy "), screen.rows
    hosts.nothing_left(run)
