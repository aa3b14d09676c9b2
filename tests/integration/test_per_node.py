"""One `llmlaunch run --machine_rank R` for each machine, as srun, systemd or a person starts them: no hosts, no ssh. Here
the machines are processes with a directory and an environment of their own on loopback."""
import json
import pathlib
import re
import secrets
import signal
import socket
import ssl
import subprocess

import pytest

from conftest import PYTHON, Refusing, wait_until
from machines import catches, ended, machines  # noqa: F401 (a fixture)

PLACE = ("import os; print(*(os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', "
         "'GROUP_RANK', 'MASTER_ADDR')), os.environ['MASTER_PORT'].isdigit(), os.environ['MACHINE'], "
         "'LLMLAUNCH_JOIN_TOKEN' in os.environ)")
SLEEP = "import time; print('ready', flush=True); time.sleep(600)"


def test_ranks_of_three_machines_find_their_place(machines):
    runs = machines.start_all(PYTHON, "-c", PLACE, machines=3, processes=6)
    text = ended(runs, 0, 0, 0)
    said = sorted(re.findall(r"^\[rank \d machine\d\] (.*)$", runs[0].out, re.M))
    assert said == [f"{rank} 6 {rank % 2} 2 {rank // 2} 127.0.0.1 True m{rank // 2} False" for rank in range(6)], text
    assert [run.out for run in runs[1:]] == ["", ""], "all output is on machine 0"
    assert "machine 2 of 3 has joined the job" in runs[2].err and "the job ended well" in runs[2].err, text
    assert [host["name"] for host in machines.record()["hosts"]] == ["machine0", "machine1", "machine2"]
    machines.nothing_left()


def test_the_built_in_trainer_trains_over_machines_that_were_started_one_by_one(machines):
    runs = machines.start_all("train", "--max_steps", "3", "--train_samples", "600", "--eval_samples", "100")
    text = ended(runs, 0, 0)
    assert "accuracy" in runs[0].out, text
    machines.nothing_left()


def test_machine_1_may_be_started_before_machine_0(machines):
    second = machines.start(1, "true")
    wait_until(lambda: socket_state_seen(second), "an attempt of machine 1")
    ended([machines.start(0, "true"), second], 0, 0)
    machines.nothing_left()


def socket_state_seen(run):
    """It tries again and again from its start on; that it runs is all that can be waited for."""
    return pathlib.Path(f"/proc/{run.pid}/stat").exists()


def test_the_token_may_come_from_a_variable_and_does_not_reach_the_ranks(machines):
    env = {"LLMLAUNCH_JOIN_TOKEN": machines.token.read_text()}
    runs = machines.start_all(PYTHON, "-c", PLACE, token="", env=env)
    text = ended(runs, 0, 0)
    assert "1 2 0 1 1 127.0.0.1 True m1 False" in runs[0].out, text


def test_another_token_is_refused_on_both_sides(machines):
    other = machines.top / "other"
    other.write_text(secrets.token_hex(32))
    other.chmod(0o600)
    first = machines.start(0, "true", options=["--set", "llmlaunch.timeouts.rendezvous=3"])
    second = machines.start(1, "true", token=other)
    text = ended([second, first], 69, 69)
    assert ("llmlaunch: error: machine 0 at 127.0.0.1:%d has another token than this machine\n" % machines.port
            in second.err), text
    refusal = r"a call from 127\.0\.0\.1:\d+ was refused: the tokens differ"
    assert re.search("warning: " + refusal, first.err), text
    assert re.search("machine 1 has not called in within 3 s: " + refusal, first.err), text


def test_a_refusal_is_said_once_for_each_cause_and_the_job_goes_on_waiting(machines):
    other = machines.top / "other"
    other.write_text(secrets.token_hex(32))
    other.chmod(0o600)
    first = machines.start(0, "true", machines=3)
    first.said("rendezvous")
    for _ in range(3):
        ended([machines.start(1, "true", machines=3, token=other), machines.start(2, "false", machines=3)], 69, 78)
    for cause in ("the tokens differ", "was started with 'false', machine 0 with 'true'"):
        (line,) = [line for line in first.err.splitlines() if cause in line]
        assert line.endswith("; the job goes on waiting for machines 1, 2"), str(first)
    ended([first, machines.start(1, "true", machines=3), machines.start(2, "true", machines=3)], 0, 0, 0)
    machines.nothing_left()


def test_machines_without_a_token_are_told_how_to_make_one(machines):
    text = ended([machines.start(0, "true", token="")], 78)
    assert "there is no token by which they know each other" in text and "openssl rand -hex 32" in text


def test_a_token_file_that_others_may_read_is_refused(machines):
    machines.token.chmod(0o644)
    text = ended([machines.start(1, "true")], 78)
    assert f"others may read the token file '{machines.token}' (mode 0644)" in text
    assert f"chmod 600 {machines.token}" in text


def test_a_short_token_is_refused_without_showing_it(machines):
    machines.token.write_text("correct-horse\n")
    text = ended([machines.start(0, "true")], 78)
    assert "the token has 13 characters; it must have 32 to 4096" in text and "correct-horse" not in text


def test_a_machine_of_another_world_or_with_another_program_is_refused_with_both_values(machines):
    first = machines.start(0, "sleep", "600", machines=3)
    first.said("rendezvous")
    # A place that is refused is not taken: the right one may still come.
    for rank, program, more, what in ((1, ["sleep", "600"], {"machines": 2}, "with num_machines 2, machine 0 with 3"),
                                      (1, ["sleep", "600"], {"machines": 3, "processes": 6},
                                       "with num_processes 6, machine 0 with 3"),
                                      (2, ["sleep", "5"], {"machines": 3}, "with 'sleep 5', machine 0 with 'sleep 600'")):
        wrong = machines.start(rank, *program, **more)
        text = ended([wrong], 78)
        assert what in text, text
        first.said(what)
    first.process.send_signal(signal.SIGTERM)
    ended([first], 143)
    machines.nothing_left()


def test_the_same_machine_twice_is_refused_by_name(machines):
    first = machines.start(0, PYTHON, "-c", SLEEP, machines=3)
    one = machines.start(1, PYTHON, "-c", SLEEP, machines=3)
    one.said("has joined")
    again = machines.start(1, PYTHON, "-c", SLEEP, machines=3)
    text = ended([again], 69)
    name = socket.gethostname()
    what = f"machine 1 is there already, {name} with pid {one.pid}; another one called in, {name} with pid {again.pid}"
    assert what in text, text
    first.said(what)
    first.process.send_signal(signal.SIGTERM)
    ended([first, one], 143, 143)
    machines.nothing_left()


def test_a_rank_that_fails_on_machine_1_ends_all_with_its_status(machines):
    runs = machines.start_all("sh", "-c", 'test $RANK = 1 && echo no luck >&2 && exit 7; exec sleep 600')
    text = ended(runs, 7, 7)
    assert re.search(r"rank 1 \(machine1, pid \d+\) exited with status 7\n.*\n     \| no luck", runs[0].err), text
    assert re.search(r"llmlaunch: error: the job failed: rank 1 \(machine1, pid \d+\) exited with status 7\n", runs[1].err)
    machines.nothing_left()


def test_a_machine_that_does_not_call_in_is_named(machines):
    first = machines.start(0, "true", machines=3, options=["--set", "llmlaunch.timeouts.rendezvous=2"])
    there = machines.start(1, "true", machines=3)
    text = ended([first, there], 69, 69)
    assert "machine 2 has not called in within 2 s" in first.err and "--machine_rank 2" in first.err, text
    assert "machine 2 has not called in within 2 s" in there.err, text
    machines.nothing_left()


def test_machine_0_that_does_not_answer_is_named(machines):
    with Refusing("127.0.0.1") as machines.port:
        text = ended([machines.start(1, "true", options=["--set", "llmlaunch.timeouts.rendezvous=1"])], 69)
    assert f"machine 0 did not answer at 127.0.0.1:{machines.port} within 1 s: connection refused by" in text


def test_a_server_with_a_certificate_and_no_token_learns_nothing(machines):
    """Whoever listens in machine 0's place must know the token, whatever else it can show."""
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                           "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", machines.top / "key", "-out",
                           machines.top / "cert"], capture_output=True)
    if made.returncode != 0:
        pytest.skip("openssl makes no certificate here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(machines.top / "cert", machines.top / "key")
    heard = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", machines.port))
        listener.listen()
        member = machines.start(1, "true", options=["--set", "llmlaunch.timeouts.rendezvous=1"])
        connection, _ = listener.accept()
        with pytest.raises(OSError):
            with context.wrap_socket(connection, server_side=True) as secure:
                heard.append(secure.recv(4096))
    text = ended([member], 69)
    assert heard in ([], [b""]) and "machine 0 did not answer at" in text, text


def test_a_port_that_is_taken_is_named(machines):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", machines.port))
        taken.listen()
        text = ended([machines.start(0, "true")], 69)
    assert f"cannot listen on 127.0.0.1:{machines.port}: Address already in use" in text
    assert "is this machine 0 of another job, or of this one for the second time?" in text


@pytest.mark.parametrize("victim", [0, 1])
def test_a_machine_whose_llmlaunch_is_killed_leaves_nothing_anywhere(machines, victim):
    runs = machines.start_all(PYTHON, "-c", SLEEP, options=["--set", "llmlaunch.timeouts.grace=1"])
    runs[0].said("[rank 0 machine0] ready")
    runs[0].said("[rank 1 machine1] ready")
    runs[victim].process.kill()
    runs[victim].process.wait()
    other = runs[1 - victim].finish()
    assert other.status == 69, str(other)
    assert ("the connection of its llmlaunch ended" if victim else "was lost: the connection ended") in other.err, str(other)
    machines.nothing_left()


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_on_either_machine_stops_the_job(machines, where, number, status):
    runs = machines.start_all(PYTHON, "-c", SLEEP)
    runs[0].said("[rank 1 machine1] ready")
    runs[0].said("[rank 0 machine0] ready")
    runs[where].process.send_signal(number)
    text = ended(runs, status, status)
    at = f" on machine 1 ({socket.gethostname()}, pid {runs[1].pid})" if where else ""
    assert f"llmlaunch: error: interrupted by {number.name}{at}\n" in runs[0].err, text
    assert f"interrupted by {number.name}{at}" in runs[1].err, text
    # A shell's loop around the one that got Ctrl-C is to end with it; machine 0's ends wherever it came from.
    died = [run.ended_by for run in runs]
    assert died == ([number, number if where else None] if number == signal.SIGINT else [None, None]), text
    machines.nothing_left()


def test_a_signal_before_machine_0_answers_ends_that_machine_alone(machines):
    run = machines.start(1, "true")
    wait_until(lambda: b"SigCgt" in pathlib.Path(f"/proc/{run.pid}/status").read_bytes() and catches(run, signal.SIGTERM),
               "that it takes signals")
    run.process.send_signal(signal.SIGTERM)
    text = ended([run], 143)
    assert "interrupted by SIGTERM before machine 0 had answered" in text


def test_strangers_on_the_port_cost_nothing(machines):
    first = machines.start(0, "echo", "done")
    first.said("rendezvous")
    strangers = []
    for greeting in (b"", b"\x16", b"\x16\x03\x01\x00\x05hello", b"GET / HTTP/1.0\r\n\r\n", secrets.token_bytes(4096),
                     b"\x16\x03\x01" + secrets.token_bytes(4096), *[b"\x16\x03"] * 100):
        stranger = socket.create_connection(("127.0.0.1", machines.port), 10)
        stranger.sendall(greeting)
        strangers.append(stranger)
    text = ended([first, machines.start(1, "echo", "done")], 0, 0)
    assert first.out.count("done") == 2, text
    for stranger in strangers:
        stranger.close()
    machines.nothing_left()


def test_output_of_another_machine_arrives_whole_and_in_order(machines):
    lines = 20000
    runs = machines.start_all(PYTHON, "-c", f"import os\nfor i in range({lines}): print('x' * 80, i)",
                              options=["--prefix", "none", "--ranks", "1"])
    text = ended(runs, 0, 0)
    assert [int(line.split()[1]) for line in runs[0].out.splitlines()] == list(range(lines)), text[:2000]


def test_the_plan_can_be_seen_on_each_machine_without_token_or_contact(machines):
    text = ended([machines.start(1, "true", token="", options=["--dry-run"])], 0)
    assert "machines: 2, each started by itself; this is machine 1, and the plan of machine 0 counts" in text
    assert "by       its own llmlaunch run --machine_rank 1" in text
    assert f"rendezvous: 127.0.0.1, port {machines.port}" in text
    assert "token: not given; a run wants --token-file, llmlaunch.token_file or LLMLAUNCH_JOIN_TOKEN" in text


SOURCES = {"option": ({}, "the file '{token}' (--token-file)"),
           "variable": ({"token": "", "env": {"LLMLAUNCH_JOIN_TOKEN": "sesame-" * 8}}, "the variable LLMLAUNCH_JOIN_TOKEN"),
           "key": ({"token": "", "more": ["--set", "llmlaunch.token_file=/no/such"]},
                   "the file '/no/such' (--set llmlaunch.token_file)"),
           "none": ({"token": ""}, None)}


@pytest.mark.parametrize("how", sorted(SOURCES))
def test_plan_and_settings_tell_where_the_token_comes_from_and_never_what_it_is(machines, how):
    keys, source = SOURCES[how]
    keys = dict(keys)
    more = keys.pop("more", [])
    source = source and source.format(token=machines.token)
    secret = [machines.token.read_text().strip(), "sesame"]

    def said(*options):
        run = machines.start(1, "true", options=[*options, *more], **keys).finish()
        assert run.status == 0 and not any(word in run.out + run.err for word in secret), str(run)
        return run.out

    words = f"from {source}" if source else "not given"
    assert f"this is machine 1, and the plan of machine 0 counts\ntoken: {words}" in said("--dry-run")
    plan = json.loads(said("--dry-run", "--json"))
    assert plan["per_machine"] == {"machine_rank": 1, "gives_places": False, "num_machines": 2, "token_from": source}
    assert (plan["rendezvous_address"], plan["rendezvous_port"]) == ("127.0.0.1", machines.port)
    assert (f"\n# each of 2 machines is started by itself; this is machine 1; machine 0 is at 127.0.0.1:{machines.port}; "
            f"token: {words}") in said("--explain")


def test_choosing_among_hosts_is_refused_where_there_are_none(machines):
    text = ended([machines.start(0, "true", options=["--exclude", "gpu07"])], 64)
    assert "--exclude: no hosts are given, so that each of 2 machines is started by itself" in text
