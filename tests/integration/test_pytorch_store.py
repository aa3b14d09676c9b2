"""PyTorch scripts that know nothing of llmlaunch find the store that their launcher serves (the TCPStore dialect of the
rendezvous). Real PyTorch: that of scripts/python_env.sh, or what LLMLAUNCH_TEST_TORCH names (scripts/interop_pytorch.sh
runs this file with several releases)."""
import os
import pathlib
import re
import struct
import subprocess

import pytest

from conftest import BIN, PYTHON, ROOT
from test_per_node import ended, machines  # noqa: F401, the fixture

HOSTS = 2
SCRIPTS = pathlib.Path(__file__).parent / "pytorch"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
VENV = pathlib.Path(os.environ.get("LLMLAUNCH_PYTHON_ENV") or CACHE / "llmlaunch-tests" / "python")  # as python_env.sh
# Gloo looks for the address of the host's name, which here is all hosts' name.
ENV = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TORCH_CPP_LOG_LEVEL": "ERROR"}
VALIDATE = b"\x00" + struct.pack("<I", 0x3C85F7CE)


@pytest.fixture(scope="module")
def python():
    if given := os.environ.get("LLMLAUNCH_TEST_TORCH"):
        return given
    there = subprocess.run([ROOT / "scripts" / "python_env.sh", "--check"], capture_output=True, text=True, check=False)
    if there.returncode != 0:
        if os.environ.get("LLMLAUNCH_PYTHON_REQUIRED"):
            pytest.fail(there.stderr.strip())
        pytest.skip(there.stderr.strip())
    return str(VENV / "bin" / "python")


def config(hosts, slots=2, only=None, **rendezvous):
    def change(data):
        data["llmlaunch"]["env"] = ENV
        data["llmlaunch"].setdefault("rendezvous", {}).update(rendezvous)

    return hosts.config(change, slots=slots, only=only)


def said(run, what):
    """{rank: the rest of the line} of the lines `what: …`."""
    return {int(rank): rest for rank, rest in re.findall(rf"^\[rank (\d+) test\d+\] {what}: (.*)$", run.out, re.M)}


def test_a_world_on_two_hosts_is_served_by_the_head(hosts, python, via):
    run = hosts.run(python, str(SCRIPTS / "world.py"), config=config(hosts), timeout=240)
    assert run.status == 0, str(run)
    shown = said(run, "shown")
    assert sorted(shown) == [0, 1, 2, 3], str(run)
    assert all(words.startswith("init all_reduce new_group monitored_barrier objects ddp ") for words in shown.values()), str(run)
    port = re.search(r"rendezvous port (\d+)", run.err).group(1)
    for address, store_port, rendezvous, agent in (words.split() for words in said(run, "store").values()):
        assert (f"{address}:{store_port}", agent) == (rendezvous, "True"), str(run)
        assert (address == "127.0.0.1" and store_port != port) if via == "ssh" else store_port == port, str(run)
    assert "PyTorch's store" not in run.err, str(run)
    hosts.nothing_left(run)


@pytest.mark.usefixtures("via")
def test_the_store_answers_as_pytorch_expects(hosts, python):
    run = hosts.run(python, str(SCRIPTS / "store_cases.py"), config=config(hosts, slots=1, only=["test02"]), timeout=240)
    assert run.status == 0, str(run)
    held = re.findall(r"^\[rank 0 test02\] (\w+): (holds|this release has no \w+)$", run.out, re.M)
    cases = re.findall(r"^def (\w+)\(store, other\)", (SCRIPTS / "store_cases.py").read_text(), re.M)
    assert sorted(name for name, _ in held) == sorted(cases), str(run)
    if not os.environ.get("LLMLAUNCH_TEST_TORCH"):
        assert {words for _, words in held} == {"holds"}, str(run)
    # Those who asked for what cannot be are named, with the reason.
    assert "cannot add to key '/text': its value 'no number' is not a number" in run.err, str(run)
    assert re.search(r"SET: a value of 8388609 bytes; the limit is 8388608", run.err), str(run)
    hosts.nothing_left(run)


WAITS = """\
import datetime, os, signal, sys
import torch.distributed as dist
signal.signal(signal.SIGTERM, signal.SIG_IGN)
rank = int(os.environ["RANK"])
store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), None, False,
                      datetime.timedelta(seconds=600), wait_for_workers=False)
if rank == 3:
    store.wait(["here 0", "here 1", "here 2"])
    sys.exit(7)
store.set(f"here {rank}", "yes")
try:
    store.get("never")
except RuntimeError:
    print("ended: the wait", flush=True)
"""


@pytest.mark.usefixtures("via")
def test_ranks_that_wait_in_the_store_end_with_the_job(hosts, python):
    """They do not hear SIGTERM: what ends them is the end of their connections, long before the grace is over."""
    script = hosts.head / "waits.py"
    script.write_text(WAITS)
    text = config(hosts).replace("llmlaunch:\n", "llmlaunch:\n  timeouts: {grace: 100}\n", 1)
    run = hosts.run(python, str(script), config=text, timeout=90)
    assert run.status == 7, str(run)
    assert sorted(said(run, "ended")) == [0, 1, 2], str(run)
    hosts.nothing_left(run)


@pytest.mark.usefixtures("via")
def test_rank_0_serves_the_store_where_it_is_asked_to(hosts, python):
    run = hosts.run(python, str(SCRIPTS / "world.py"), config=config(hosts, use_agent_store=False), timeout=240)
    assert run.status == 0, str(run)
    assert sorted(said(run, "shown")) == [0, 1, 2, 3], str(run)
    port = re.search(r"rendezvous port (\d+)", run.err).group(1)
    for _, store_port, _, agent in (words.split() for words in said(run, "store").values()):
        assert store_port != port and agent == "False", str(run)
    hosts.nothing_left(run)


SPEAKS = """\
import os, socket, sys
address, port = os.environ["LLMLAUNCH_RENDEZVOUS"].rsplit(":", 1)
peer = socket.create_connection((address, int(port)), 60)
peer.sendall(bytes.fromhex(sys.argv[1]))
answer = b""
try:
    while piece := peer.recv(4096):
        answer += piece
        if answer.endswith(bytes.fromhex(sys.argv[2]) or b"more"):
            break
except ConnectionError:
    pass
print("answer:", answer.hex() or "closed")
"""
PING = "0d01020304"


def speak(hosts, request, until="", **rendezvous):
    """What a rank of one host hears that sends these bytes."""
    script = hosts.head / "speaks.py"
    script.write_text(SPEAKS)
    run = hosts.run(PYTHON, str(script), request, until, config=config(hosts, 1, ["test01"], **rendezvous))
    assert run.status == 0, str(run)
    hosts.nothing_left(run)
    return said(run, "answer")[0], run


@pytest.mark.usefixtures("via")
def test_a_pytorch_of_before_the_handshake_is_told_apart(hosts):
    add_init = b"\x03" + struct.pack("<Q", 5) + b"init/" + struct.pack("<q", 1)
    answer, run = speak(hosts, add_init.hex())
    assert answer == "closed", str(run)
    assert "it may be a PyTorch before 2.1" in run.err, str(run)
    assert "hint: set llmlaunch.rendezvous.use_agent_store: false" in run.err, str(run)


@pytest.mark.usefixtures("via")
def test_the_dialect_can_be_switched_off(hosts):
    answer, run = speak(hosts, VALIDATE.hex() + PING, "01020304")
    assert answer == "01020304", str(run)
    answer, run = speak(hosts, VALIDATE.hex() + PING, "01020304", use_agent_store=False)
    assert not answer.endswith("01020304"), str(run)


def test_machines_that_are_started_one_by_one_have_it_too(machines, python):  # noqa: F811
    ended(machines.start_all(python, str(SCRIPTS / "world.py"), processes=4, env=ENV), 0, 0)
    shown = re.findall(r"^\[rank \d machine\d\] shown: init (.*) ddp ", machines.runs[0].out, re.M)
    assert len(shown) == 4, machines.runs[0]
    machines.nothing_left()


@pytest.mark.usefixtures("via")
def test_a_person_sees_the_keys_of_a_pytorch_job_and_lets_its_ranks_go_on(hosts, python):
    code = ("import torch.distributed as dist\n"
            "dist.init_process_group('gloo')\n"
            "store = dist.distributed_c10d._get_default_store()\n"
            "store.set(f'here/{dist.get_rank()}', b'\\x00\\xff')\n"
            "print('ready', flush=True)\n"
            "print('got', store.get('go').decode())\n"
            "dist.destroy_process_group()")
    run = hosts.start(python, "-c", code, config=config(hosts, slots=1))
    run.said("[rank 0 test01] ready")
    run.said("[rank 1 test02] ready")

    def store(verb, *words):
        done = subprocess.run([BIN / "llmlaunch", "store", verb, "--pytorch", "--log-dir", hosts.directory / "logs", "latest",
                               *words], capture_output=True, timeout=60, check=True)
        return done.stdout

    keys = re.findall(r"^ +\d+  pytorch  (\S+)$", store("list").decode(), re.M)
    # Before 2.6 PyTorch puts the attempt in front, as torchrun counts them.
    begin = "//worker/attempt_0" if any(key.startswith("//worker/attempt_0") for key in keys) else ""
    assert {f"{begin}/default_pg/0//here/0", f"{begin}/default_pg/0//cpu//0/1"} < set(keys), keys
    (mine,) = (key for key in keys if key.endswith("here/1"))
    assert store("get", mine) == b"\x00\xff"
    store("set", mine.replace("here/1", "go"), "on")
    assert run.finish().status == 0 and run.out.count("got on") == 2, (keys, str(run))
    hosts.nothing_left(run)
