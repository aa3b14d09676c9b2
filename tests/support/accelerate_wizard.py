#!/usr/bin/env python3
"""Drives `accelerate config` in a pseudo-terminal and keeps the files that it writes: tests/fixtures/accelerate/wizard.

    scripts/python_env.sh && tests/support/accelerate_wizard.py

Each run is a list of answers in the order of the questions: (words of the question, keys). DOWN(n) chooses the n-th
item below the first of a menu. A question that does not come within a minute, or one without an answer, ends the script
with what the terminal showed.
"""
import os
import pathlib
import pty
import re
import select
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
VENV = pathlib.Path(os.environ.get("LLMLAUNCH_PYTHON_ENV") or CACHE / "llmlaunch-tests" / "python")  # as python_env.sh
FOLDER = ROOT / "tests" / "fixtures" / "accelerate" / "wizard"
ENTER = "\r"


def DOWN(times):
    return "\x1b[B" * times + ENTER


def text(words):
    return words + ENTER


HERE = ("In which compute environment", DOWN(0))
GPUS = ("Which type of machine", DOWN(4))
ALONE = ("How many different machines", text(""))
QUIET = ("Should distributed operations be checked", text("no"))
NO_DYNAMO = ("torch dynamo", text("no"))
NO_DEEPSPEED = ("Do you want to use DeepSpeed", text("no"))
NO_FSDP = ("FullyShardedDataParallel", text("no"))
NO_MEGATRON = ("Megatron-LM", text("no"))
IDS = ("What GPU(s)", text("all"))
NO_NUMA = ("numa efficiency", text("no"))


def processes(count):
    return ("How many GPU(s) should be used", text(str(count)))


def precision(item):
    return ("use mixed precision", DOWN(item))


RUNS = {
    "no_cpu": [HERE, ("Which type of machine", DOWN(0)), ("CPU only", text("yes")), NO_DYNAMO, NO_DEEPSPEED, precision(0)],
    "no_dynamo": [HERE, ("Which type of machine", DOWN(0)), ("CPU only", text("yes")),
                  ("torch dynamo", text("yes")), ("Which dynamo backend", DOWN(2)), ("customize the defaults", text("yes")),
                  ("Which mode", DOWN(1)), ("fullgraph", text("yes")), ("dynamic shape", text("no")),
                  ("regional compilation", text("yes")), NO_DEEPSPEED, precision(2)],
    "multi_cpu": [HERE, ("Which type of machine", DOWN(1)), ALONE, QUIET, ("mpirun", text("no")), NO_DYNAMO,
                  ("How many processes", text("2")), precision(0)],
    "multi_gpu": [HERE, GPUS, ALONE, QUIET, NO_DYNAMO, NO_DEEPSPEED, NO_FSDP, NO_MEGATRON, processes(4), IDS,
                  ("numa efficiency", text("yes")), precision(1)],
    "multi_gpu_two_machines": [HERE, GPUS, ("How many different machines", text("2")), ("rank of this machine", DOWN(0)),
                               ("IP address", text("192.0.2.1")), ("What is the port", text("29500")),
                               ("same local network", text("no")), ("rendezvous backend", text("c10d")),
                               ("Should distributed operations be checked", text("yes")), NO_DYNAMO, NO_DEEPSPEED,
                               NO_FSDP, NO_MEGATRON, processes(16), IDS, NO_NUMA, precision(2)],
}


class Wizard:
    """One `accelerate config` at its terminal."""

    def __init__(self, path):
        self.shown = ""
        self.seen = 0
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            env = dict(os.environ, TERM="xterm", COLUMNS="200", HF_HUB_OFFLINE="1")
            program = str(VENV / "bin" / "accelerate")
            os.execve(program, [program, "config", "--config_file", str(path)], env)

    def read(self, seconds):
        if not select.select([self.terminal], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self.terminal, 65536)
        except OSError:  # the other end is closed
            return None
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", piece.decode(errors="replace"))
        return True if piece else None

    def asks(self, words):
        deadline = time.monotonic() + 60
        while words.lower() not in self.shown[self.seen:].lower():
            if time.monotonic() > deadline or self.read(1.0) is None:
                return False
        # A menu reads keys when it is drawn in full: nothing more comes then.
        while self.read(0.5):
            pass
        self.seen = len(self.shown)
        return True

    def end(self):
        while self.read(60.0):
            pass
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def drive(name, answers):
    wizard = Wizard(FOLDER / f"{name}.yaml")
    for words, keys in answers:
        if not wizard.asks(words):
            os.kill(wizard.pid, signal.SIGKILL)
            sys.exit(f"{name}: not asked: {words!r}; the terminal shows:\n{wizard.shown[-1500:]}")
        os.write(wizard.terminal, keys.encode())
    status = wizard.end()
    if status != 0:
        sys.exit(f"{name}: accelerate config ended with {status}:\n{wizard.shown[-1500:]}")
    print(f"{name}.yaml")


def main():
    if not (VENV / "bin" / "accelerate").exists():
        sys.exit(f"no accelerate in {VENV}: run scripts/python_env.sh first")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or RUNS:
        drive(name, RUNS[name])


if __name__ == "__main__":
    main()
