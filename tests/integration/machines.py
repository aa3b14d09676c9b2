"""Machines that are started one by one, for the tests of that: processes on loopback, each with a directory and an
environment of its own. Not a test."""
import json
import os
import pathlib
import random
import re
import secrets
import shutil
import socket
import tempfile
import uuid

import pytest

from conftest import BIN, MARK, Run, kill_all, processes_with, wait_until


def free_port():
    """None that the kernel gives to another test's connection before this one's machine 0 has it."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first = int(file.read().split()[0])
    low = max(1024, min(first - 10_000, 20_000))
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.randrange(low, first) if low < first else 0))
                return probe.getsockname()[1]
            except OSError:
                continue


class Machines:
    """What the machines of one test have in common: a port, a token, and the mark of all their processes."""

    def __init__(self, top):
        self.top, self.mark, self.runs = top, uuid.uuid4().hex, []
        self.token = top / "token"
        self.token.write_text(secrets.token_hex(32) + "\n")
        self.token.chmod(0o600)
        self.port = free_port()

    def start(self, rank, *program, machines=2, processes=None, options=(), address="127.0.0.1", **more):
        """As accelerate wants it: each with its number."""
        words = ["--num_machines", str(machines), "--machine_rank", str(rank), "--main_process_ip", address,
                 "--main_process_port", str(self.port), "-n", str(processes or machines)]
        return self._start(str(rank), [*words, *options], program, **more)

    def start_alike(self, *program, machines=2, ranks=1, options=(), address="127.0.0.1", **more):
        """As torchrun's dynamic rendezvous wants it: the same words on every machine."""
        words = ["--nnodes", str(machines), "--nproc-per-node", str(ranks), "--rdzv-backend", "c10d",
                 "--rdzv-endpoint", f"{address}:{self.port}", "--rdzv-id", "x"]
        return self._start(f"-any{len(self.runs)}", [*words, *options], program, **more)

    def _start(self, name, words, program, token=None, env=None, under=(), job_control=False):
        home = self.top / f"machine{name}-{len(self.runs)}"
        (home / "tmp").mkdir(parents=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home / "tmp"), MARK: self.mark,
                       "MACHINE": f"m{name}"}
        environment.update({name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")})
        environment.update(env or {})
        secret = ["--token-file", str(self.token if token is None else token)] if token != "" else []
        command = [*under, str(BIN / "llmlaunch"), "run", "--log-dir", str(self.top / "logs"), *secret, *words, *program]
        run = Run(command, environment, home, self.mark, job_control=job_control)
        self.runs.append(run)
        return run

    def start_all(self, *program, machines=2, **more):
        return [self.start(rank, *program, machines=machines, **more) for rank in range(machines)]

    def record(self):
        (file,) = (self.top / "logs").glob("*/job.json")
        return json.loads(file.read_text())

    def nothing_left(self, within=20.0):
        wait_until(lambda: not processes_with(f"{MARK}={self.mark}"),
                   f"the end of all processes; there are {processes_with(f'{MARK}={self.mark}')}", within)


@pytest.fixture
def machines():
    top = pathlib.Path(tempfile.mkdtemp(prefix="llmlaunch-nodes-"))
    made = Machines(top)
    yield made
    kill_all(processes_with(f"{MARK}={made.mark}"))
    for run in made.runs:
        run.process.wait()
    shutil.rmtree(top, ignore_errors=True)


def ended(runs, *statuses):
    for run in runs:
        run.finish()
    text = "\n".join(str(run) for run in runs)
    assert [run.status for run in runs] == list(statuses), text
    return text


def catches(run, number):
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", pathlib.Path(f"/proc/{run.pid}/status").read_text())
    return int(caught[1], 16) >> (number - 1) & 1
