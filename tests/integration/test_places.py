"""torchrun's command for several machines, the same words on each: who leads, who gets which place, and what is said when
that cannot be. The machines are processes on loopback; those whose place a test has to know have a hostname of their own
(UTS namespaces, which need root)."""
import json
import os
import re
import signal
import socket
import subprocess

import pytest

from conftest import PYTHON
from machines import ended, machines  # noqa: F401 (a fixture)

PLACE = ("import os, socket; print(socket.gethostname(), *(os.environ[name] for name in ('GROUP_RANK', 'GROUP_WORLD_SIZE', "
         "'RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'ROLE_RANK', 'ROLE_WORLD_SIZE')))")
ELSEWHERE = ["--rdzv-conf", "is_host=false"]  # as a machine does whose address the endpoint is not
SHORT = ["--set", "llmlaunch.timeouts.rendezvous=2"]


def named(hostname):
    """In a UTS namespace of its own."""
    words = ["unshare", "--uts", "sh", "-c", f'hostname {hostname} && exec "$@"', "sh"]
    if os.geteuid() != 0 or subprocess.run([*words, "true"], capture_output=True).returncode != 0:
        pytest.skip("hostnames of one's own need root")
    return words


def places(run):
    """{rank: hostname and the rest}"""
    return {int(line.split()[3]): line for line in re.findall(r"^\[rank \d+ machine\d+\] (.*)$", run.out, re.M)}


def test_the_same_words_on_three_machines_give_each_a_place_of_its_own(machines):
    runs = [machines.start_alike(PYTHON, "-c", PLACE, machines=3, ranks=2) for _ in range(3)]
    text = ended(runs, 0, 0, 0)
    (first,) = [run for run in runs if "it leads as machine 0" in run.err]
    host = socket.gethostname()
    assert list(sorted(places(first).items())) == [
        (rank, f"{host} {rank // 2} 3 {rank} 6 {rank % 2} 2 {rank} 6") for rank in range(6)], text
    others = [run for run in runs if run is not first]
    assert [run.out for run in others] == ["", ""], "all output is on machine 0"
    joined = sorted(re.search(r"machine (\d) of 3 has joined the job at \S+: (ranks \d-\d)", run.err).groups() for run in others)
    assert joined == [("1", "ranks 2-3"), ("2", "ranks 4-5")], text
    assert all("another program has it: that is called as machine 0" in run.err for run in others), text
    assert "no effect" not in text, "what torchrun's words ask for is done"
    machines.nothing_left()


def test_places_follow_the_host_names_whoever_comes_first(machines):
    """gpu2 before gpu10, as people count; machine 0 is that of the endpoint, whatever its name."""
    for order in (["gpu10", "gpu2", "gpu1"], ["gpu1", "gpu10", "gpu2"]):
        first = machines.start_alike(PYTHON, "-c", PLACE, machines=4, under=named("zeta"))
        first.said("it leads as machine 0")
        others = []
        for number, name in enumerate(order):
            others.append(machines.start_alike(PYTHON, "-c", PLACE, machines=4, options=ELSEWHERE, under=named(name)))
            first.said(f"a machine ({name}, pid {others[-1].pid}) has called in")
            if number < 2:
                others[-1].said(f"where {number + 2} of 4 machines are; machine 0 gives out the places when all are there")
        text = ended([first, *others], 0, 0, 0, 0)
        assert [places(first)[rank].split()[0] for rank in range(4)] == ["zeta", "gpu1", "gpu2", "gpu10"], text
        assert re.search(r"machine 3 \(gpu10, pid \d+\) has rank 3\n", first.err), text
    machines.nothing_left()


def test_a_machine_that_was_started_again_before_all_were_there_has_its_place(machines):
    first = machines.start_alike(PYTHON, "-c", PLACE, machines=3, under=named("head"))
    first.said("it leads as machine 0")
    gone = machines.start_alike(PYTHON, "-c", PLACE, machines=3, options=ELSEWHERE, under=named("a"))
    gone.said("where 2 of 3 machines are")
    gone.process.kill()
    gone.process.wait()
    first.said(f"a machine (a, pid {gone.pid}) went away before all machines were there: the connection ended")
    other = machines.start_alike(PYTHON, "-c", PLACE, machines=3, options=ELSEWHERE, under=named("b"))
    other.said("where 2 of 3 machines are")
    again = machines.start_alike(PYTHON, "-c", PLACE, machines=3, options=ELSEWHERE, under=named("a"))
    text = ended([first, other, again], 0, 0, 0)
    assert [places(first)[rank].split()[0] for rank in range(3)] == ["head", "a", "b"], text
    machines.nothing_left()


def test_machine_0_that_was_started_again_before_all_were_there_is_found_again(machines):
    first = machines.start_alike("true", machines=3)
    first.said("it leads as machine 0")
    waiting = machines.start_alike("true", machines=3, options=ELSEWHERE)
    waiting.said("where 2 of 3 machines are")
    first.process.kill()
    first.process.wait()
    waiting.said("was lost before all machines were there, and is called again")
    again = machines.start_alike("true", machines=3)
    again.said(f"pid {waiting.pid}) has called in")
    last = machines.start_alike("true", machines=3, options=ELSEWHERE)
    ended([again, waiting, last], 0, 0, 0)
    machines.nothing_left()


def test_a_machine_that_names_its_place_keeps_it_beside_others_that_name_none(machines):
    first = machines.start_alike(PYTHON, "-c", PLACE, machines=4, under=named("head"))
    first.said("it leads as machine 0")
    others = [machines.start_alike(PYTHON, "-c", PLACE, machines=4, options=more, under=named(name))
              for name, more in (("a", ELSEWHERE), ("b", ELSEWHERE), ("c", ["--node-rank", "2"]))]
    text = ended([first, *others], 0, 0, 0, 0)
    assert [places(first)[rank].split()[0] for rank in range(4)] == ["head", "a", "c", "b"], text
    machines.nothing_left()


def test_two_machines_that_name_one_place_are_told_that_it_need_not_be_named(machines):
    first = machines.start_alike("sleep", "600", machines=3)
    first.said("it leads as machine 0")
    one = machines.start_alike("sleep", "600", machines=3, options=["--node-rank", "1"])
    one.said("machine 1 of 3 has joined")
    again = machines.start_alike("sleep", "600", machines=3, options=["--node-rank", "1"])
    text = ended([again], 69)
    assert f"machine 1 is there already, {socket.gethostname()} with pid {one.pid}" in text, text
    assert "or none: then machine 0 gives out the places" in text, text
    first.process.send_signal(signal.SIGTERM)
    ended([first, one], 143, 143)
    machines.nothing_left()


def test_one_machine_more_than_nnodes_is_told_how_many_and_who_is_there(machines):
    first = machines.start_alike("sh", "-c", "echo ready; exec sleep 600")
    first.said("it leads as machine 0")
    second = machines.start_alike("sh", "-c", "echo ready; exec sleep 600", options=ELSEWHERE)
    first.said("[rank 1 machine1] ready")
    more = machines.start_alike("sh", "-c", "echo ready; exec sleep 600", options=ELSEWHERE)
    text = ended([more], 69)
    host = socket.gethostname()
    what = (f"all 2 machines of this job are there: machine 0 ({host}, pid {first.pid}), machine 1 ({host}, pid "
            f"{second.pid}); {host} with pid {more.pid} would be one more")
    assert f"{what}\n   hint: start as many as num_machines (--nnodes) says\n" in text, text
    first.said(what)
    second.process.send_signal(signal.SIGINT)  # either stops the job
    ended([first, second], 130, 130)
    machines.nothing_left()


def test_who_is_there_and_how_many_are_missing_is_said_when_the_time_is_over(machines):
    first = machines.start_alike("true", machines=4, options=SHORT)
    first.said("it leads as machine 0")
    waiting = machines.start_alike("true", machines=4, options=ELSEWHERE)
    text = ended([first, waiting], 69, 69)
    host = socket.gethostname()
    what = f"after 2 s 2 of 4 machines are there: machine 0 ({host}, pid {first.pid}), a machine ({host}, pid {waiting.pid})"
    assert first.err.count(what) == 1 and "start the same command on the others" in first.err, text
    assert "127.0.0.1 is each machine itself" in first.err, text
    assert "the job failed: " in waiting.err and what in waiting.err, text
    machines.nothing_left()


def test_machines_that_all_take_localhost_for_the_first_one_are_told(machines):
    """Each in a network of its own, so that each has the port: nobody ever calls."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0:
        pytest.skip("networks of one's own need root")
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    runs = [machines.start_alike("true", address="localhost", options=SHORT, under=alone) for _ in range(2)]
    text = ended(runs, 69, 69)
    for run in runs:
        assert "main_process_ip localhost is each machine itself: only processes of this machine can join" in run.err, text
        assert "with an address of this machine that they reach: localhost is each machine itself" in run.err, text
    machines.nothing_left()


def test_nobody_at_the_endpoint_is_said_with_how_one_of_them_leads(machines):
    runs = [machines.start_alike("true", options=[*ELSEWHERE, *SHORT]) for _ in range(2)]
    text = ended(runs, 69, 69)
    for run in runs:
        assert f"machine 0 did not answer at 127.0.0.1:{machines.port} within 2 s" in run.err, text
        assert "with --rdzv-conf is_host=true or --machine_rank 0" in run.err, text


def test_is_host_decides_who_leads_and_a_port_that_is_taken_is_an_error_then(machines):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", machines.port))
        taken.listen()
        text = ended([machines.start_alike("true", options=["--rdzv-conf", "is_host=true"])], 69)
    assert f"cannot listen on 127.0.0.1:{machines.port}: Address already in use" in text
    first = machines.start_alike("true", options=["--rdzv-conf", "is_host=true"])
    ended([first, machines.start_alike("true", options=ELSEWHERE)], 0, 0)
    text = ended([machines.start_alike("true", options=["--rdzv-conf", "is_host=true", "--node-rank", "1"])], 78)
    assert "machine_rank is 1, and is_host=true says that this is machine 0" in text


def test_a_second_run_with_a_lock_is_told_who_has_it_and_takes_no_place(machines):
    home = {"HOME": str(machines.top)}  # of one user of the machine: the lock is below it
    first = machines.start_alike("true", machines=3, options=["--lock"], env=home)
    first.said("it leads as machine 0")
    second = machines.start_alike("true", machines=3, options=["--lock"], env=home)
    text = ended([second], 75)
    assert f"another run of this machine without a configuration holds the lock: pid {first.pid}, job " in second.err, text
    assert "that is called as machine 0" not in second.err, text
    # Those of other addresses ask for no lock, and one that takes itself for another machine here need not.
    others = [machines.start_alike("true", machines=3, options=[*ELSEWHERE, *lock], env=home) for lock in (["--lock"], [])]
    text = ended([first, *others], 0, 0, 0)
    assert f"pid {second.pid}" not in first.err, text
    ended([machines.start_alike("true", machines=3, options=["--lock", *SHORT], env=home)], 69)  # it is free again
    machines.nothing_left()


def test_another_id_is_another_job(machines):
    first = machines.start_alike("true", options=SHORT)
    first.said("it leads as machine 0")
    words = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-endpoint", f"127.0.0.1:{machines.port}", "--rdzv-id", "y"]
    other = machines._start("-other", [*words, *ELSEWHERE], ["true"])
    text = ended([other, first], 78, 69)
    what = f"a machine ({socket.gethostname()}, pid {other.pid}) was started with --rdzv-id 'y', machine 0 with 'x'"
    assert what in other.err and f"a call was refused: {what}" in first.err, text
    machines.nothing_left()


def test_another_token_is_refused_where_places_are_given_out(machines):
    other = machines.top / "other"
    other.write_text("0123456789abcdef" * 4)
    other.chmod(0o600)
    first = machines.start_alike("true", options=SHORT)
    first.said("it leads as machine 0")
    wrong = machines.start_alike("true", options=ELSEWHERE, token=other)
    text = ended([wrong, first], 69, 69)
    assert "has another token than this machine" in wrong.err and "the tokens differ; the job goes on waiting for 1 machine" in first.err, text


def test_a_machine_that_is_ended_while_it_waits_ends_alone(machines):
    first = machines.start_alike("true", machines=3)
    first.said("it leads as machine 0")
    waiting = machines.start_alike("true", machines=3, options=ELSEWHERE)
    waiting.said("where 2 of 3 machines are")
    waiting.process.send_signal(signal.SIGTERM)
    text = ended([waiting], 143)
    assert "interrupted by SIGTERM before all machines were there" in text
    ended([first, *(machines.start_alike("true", machines=3, options=ELSEWHERE) for _ in range(2))], 0, 0, 0)
    machines.nothing_left()


def test_a_job_that_is_ended_at_machine_0_ends_who_waits_for_a_place(machines):
    first = machines.start_alike("true", machines=3)
    first.said("it leads as machine 0")
    waiting = machines.start_alike("true", machines=3, options=ELSEWHERE)
    waiting.said("where 2 of 3 machines are")
    first.process.send_signal(signal.SIGINT)
    text = ended([first, waiting], 130, 130)
    assert "the job failed: interrupted by SIGINT" in waiting.err, text
    machines.nothing_left()


def test_machine_0_that_says_its_place_gives_the_others_theirs(machines):
    words = ["--rdzv-id", "x"]
    first = machines.start(0, PYTHON, "-c", PLACE, machines=3, options=words, under=named("head"))
    others = [machines.start_alike(PYTHON, "-c", PLACE, machines=3, options=ELSEWHERE, under=named(name)) for name in "ba"]
    text = ended([first, *others], 0, 0, 0)
    assert [places(first)[rank].split()[0] for rank in range(3)] == ["head", "a", "b"], text
    assert "gives out the places of the others" not in first.err, "it was told which machine it is"
    machines.nothing_left()


def test_a_range_of_nodes_is_its_upper_end(machines):
    runs = [machines.start_alike("true", machines="1:2") for _ in range(2)]
    text = ended(runs, 0, 0)
    assert text.count("--nnodes 1:2: the job has 2 machines, no more and no fewer; --nnodes N starts it with N") == 2, text


def test_accelerates_own_default_file_names_no_place(machines):
    """It has machine_rank: 0 on every machine; torchrun never reads it."""
    runs = []
    for _ in range(2):
        home = machines.top / f"home{len(runs)}"
        (home / "accelerate").mkdir(parents=True)
        (home / "accelerate" / "default_config.yaml").write_text(
            "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nmachine_rank: 0\nnum_machines: 1\nnum_processes: 1\n")
        runs.append(machines.start_alike("true", env={"HF_HOME": str(home)}))
    ended(runs, 0, 0)


def test_a_file_that_another_one_includes_names_no_place_either(machines):
    (machines.top / "site.yaml").write_text("machine_rank: 0\n")
    (machines.top / "job.yaml").write_text("llmlaunch: {include: site.yaml}\n")
    options = ["--config", str(machines.top / "job.yaml")]
    text = ended([machines.start_alike("true", options=options) for _ in range(2)], 0, 0)
    assert text.count("it leads as machine 0, and gives out the places of the others") == 1, text


def test_the_plan_and_the_settings_tell_that_places_are_given_out(machines):
    def said(*options, **more):
        return ended([machines.start_alike("true", options=options, token="", **more)], 0)

    assert "this is machine 0, which gives out the places of the others\n" in said("--dry-run")
    assert "by       the llmlaunch run of another machine\n" in said("--dry-run")
    text = said("--dry-run", *ELSEWHERE)
    assert "machines: 2, each started by itself; which one this is, machine 0 says, and the plan of machine 0 counts\n" in text
    plan = json.loads(machines.start_alike("true", options=["--dry-run", "--json", *ELSEWHERE], token="").finish().out)
    assert plan["per_machine"] == {"machine_rank": None, "gives_places": True, "num_machines": 2, "token_from": None}
    assert "no machine_rank, so that machine 0 gives out the places" in said("--explain")
