"""The ordinary run: who is where, what is said, what is left in the run directory, on ssh hosts and on this machine."""
import json
import re
import socket
import subprocess
import threading

import pytest

from conftest import BIN, PYTHON, wait_until

HOSTS = 2

SHOW = r"""
import os
names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE NODE_RANK GROUP_RANK GROUP_WORLD_SIZE LLMLAUNCH_HOST".split()
print(" ".join(f"{name}={os.environ.get(name)}" for name in names))
"""


def lines_by_rank(text):
    """{rank: [line, …]} from the head's "[rank 3 test02] line"."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"\[rank +(\d+) ([^\]]+)\] ?(.*)$", line)
        assert match, f"a line without a prefix on stdout: {line!r}"
        found.setdefault(int(match[1]), []).append(match[3])
    return found


def test_every_rank_knows_its_place_and_every_line_its_rank(hosts):
    run = hosts.run(PYTHON, "-c", SHOW, config=hosts.config(slots=2))
    assert run.status == 0, str(run)
    assert lines_by_rank(run.out) == {
        rank: [f"RANK={rank} LOCAL_RANK={rank % 2} WORLD_SIZE=4 LOCAL_WORLD_SIZE=2 NODE_RANK={rank // 2} "
               f"GROUP_RANK={rank // 2} GROUP_WORLD_SIZE=2 LLMLAUNCH_HOST=test0{rank // 2 + 1}"] for rank in range(4)
    }
    assert "[rank 0 test01]" in run.out and "[rank 3 test02]" in run.out
    hosts.nothing_left(run)


def test_the_run_directory_has_every_line_by_rank_and_merged(hosts):
    script = "echo out-$RANK; echo err-$RANK >&2; printf unfinished-$RANK"
    run = hosts.run("sh", "-c", script)
    assert run.status == 0, str(run)
    assert lines_by_rank(run.out) == {rank: [f"out-{rank}", f"unfinished-{rank}"] for rank in range(2)}
    directory = hosts.run_directory()
    for rank in range(2):
        assert (directory / f"rank-{rank:05}.out").read_text() == f"out-{rank}\nunfinished-{rank}"
        assert (directory / f"rank-{rank:05}.err").read_text() == f"err-{rank}\n"
        assert re.search(rf"^\[rank {rank} test0{rank + 1}\] err-{rank}$", run.err, re.M), str(run)
    merged = (directory / "merged.log").read_text()
    for rank in range(2):
        for word in ("out", "err", "unfinished"):
            assert merged.count(f"{word}-{rank}") == 1, merged
    record = json.loads((directory / "job.json").read_text())
    assert record["exit_status"] == 0
    hosts.nothing_left(run)


def test_the_rendezvous_port_is_open_for_the_ranks_and_gone_afterwards(hosts, via):
    """The head's own, or one on each host, behind which ssh leads to the head."""
    script = (
        "import os, socket\n"
        "address, port = os.environ['LLMLAUNCH_RENDEZVOUS'].rsplit(':', 1)\n"
        "socket.create_connection((address.strip('[]'), int(port)), 10).close()\n"
        "print('reached', address, port)\n")
    run = hosts.run(PYTHON, "-c", script)
    assert run.status == 0, str(run)
    found = re.findall(r"reached (\S+) (\d+)", run.out)
    assert len(found) == 2 and len({port for _, port in found}) == (1 if via == "direct" else 2), str(run)
    for address, port in found:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address.strip("[]"), int(port)), 10)
    hosts.nothing_left(run)


def bytes_sent_to(hosts, pid):
    """TCP payload bytes that this process's ssh connections have carried to the hosts, as the kernel counts them."""
    text = subprocess.run(["ss", "-tinpH", "state", "established"], capture_output=True, text=True, check=True).stdout
    total = 0
    for head, detail in re.findall(r"^(\S.*)\n\s+(.*)$", text, re.M):
        if f"pid={pid}," in head and any(f":{hosts.port(name)} " in head + " " for name in hosts.names):
            total += int(re.search(r"\bbytes_acked:(\d+)", detail)[1])
    return total


def test_the_agent_is_pushed_once_and_then_found(hosts):
    """The first run carries the program, the second only a few frames: counted by the kernel on the ssh connections."""
    sent = []
    for attempt in range(2):
        if attempt == 0:
            for name in hosts.names:
                subprocess.run(["rm", "-rf", str(hosts.home(name) / ".cache")], check=True)
        go = hosts.head / f"go-{attempt}"
        run = hosts.start("sh", "-c", f'echo here; until [ -e "{go}" ]; do sleep 0.05; done')
        wait_until(lambda: run.out.count("here") == 2, f"both ranks\n{run}")
        sent.append(bytes_sent_to(hosts, run.pid))
        go.touch()
        assert run.finish().status == 0, str(run)
    agents = [list((hosts.home(name) / ".cache" / "llmlaunch").rglob("*agent*")) for name in hosts.names]
    assert all(agents), f"no agent in the cache of a host: {agents}"
    assert sent[0] > 2 * 100_000, f"the first run sent only {sent[0]} bytes: was the agent there already?"
    assert sent[1] < 2 * 32_000, f"the second run sent {sent[1]} bytes to hosts that have the agent"
    hosts.nothing_left(run)


def test_a_damaged_program_in_the_cache_is_replaced_and_not_started(hosts):
    assert hosts.run("true").status == 0
    files = [file for file in (hosts.home("test01") / ".cache" / "llmlaunch").rglob("*") if file.is_file()]
    assert files
    for file in files:
        file.chmod(0o700)
        file.write_bytes(b"")  # what a full disk leaves
    run = hosts.run("echo", "fine")
    assert run.status == 0 and run.out.count("fine") == 2, str(run)
    hosts.nothing_left(run)


def test_noise_of_shell_startup_files_is_shown_and_not_parsed(hosts):
    noise = 'echo "Welcome to test01"\necho "over stderr" >&2\nprintf "no newline at the end"\n'
    rc = hosts.home("test01") / ".bashrc"
    rc.write_text(noise)
    try:
        run = hosts.run("echo", "payload")
    finally:
        rc.unlink()
    assert run.status == 0, str(run)
    assert lines_by_rank(run.out) == {0: ["payload"], 1: ["payload"]}
    assert "Welcome to test01" in run.err and "test01 said" in run.err, str(run)
    assert "over stderr" in run.err, str(run)
    assert "test02 said" not in run.err, str(run)
    hosts.nothing_left(run)


def test_two_runs_at_once_on_the_same_hosts_do_not_meet(hosts):
    go = hosts.head / "go-both"
    runs = []
    for word in ("first", "second"):
        runs.append(hosts.start("sh", "-c", f'echo {word}; until [ -e "{go}" ]; do sleep 0.05; done; echo end-{word}'))
    for run, word in zip(runs, ("first", "second")):
        wait_until(lambda: run.out.count(word) == 2, f"both ranks\n{run}")
    go.touch()
    for run, word in zip(runs, ("first", "second")):
        assert run.finish().status == 0, str(run)
        assert lines_by_rank(run.out) == {rank: [word, f"end-{word}"] for rank in range(2)}
    jobs = {json.loads(file.read_text())["job_id"] for file in (hosts.directory / "logs").glob("*/job.json")}
    assert len(jobs) >= 2
    hosts.nothing_left(runs[0])
    hosts.nothing_left(runs[1])


def test_one_run_stopped_leaves_the_other_of_the_same_user_alone(hosts):
    go = hosts.head / "go-other"
    other = hosts.start("sh", "-c", f'echo here; until [ -e "{go}" ]; do sleep 0.05; done; echo end')
    wait_until(lambda: other.out.count("here") == 2, f"both ranks\n{other}")
    failing = hosts.run("sh", "-c", "exit 9")
    assert failing.status == 9, str(failing)
    assert other.process.poll() is None
    go.touch()
    assert other.finish().status == 0, str(other)
    assert other.out.count("end") == 2, str(other)
    hosts.nothing_left(other)


@pytest.mark.parametrize("how", ["no hosts", "localhost"])
def test_this_machine_needs_no_ssh(hosts, how):
    def change(data):
        if how == "no hosts":
            del data["llmlaunch"]["hosts"]
        else:
            data["llmlaunch"]["hosts"] = [{"name": "localhost", "slots": 2}]
        data["num_machines"], data["num_processes"] = 1, 2
        data["llmlaunch"]["ssh"]["identity_file"] = "/nonexistent/key"

    before = {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names}
    run = hosts.run("sh", "-c", "echo $RANK of $WORLD_SIZE in $PWD", config=hosts.config(change))
    assert run.status == 0, str(run)
    assert lines_by_rank(run.out) == {rank: [f"{rank} of 2 in {hosts.head}"] for rank in range(2)}
    assert {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names} == before
    hosts.nothing_left(run)


def test_ssh_hosts_and_this_machine_in_one_job(hosts):
    def change(data):
        data["llmlaunch"]["hosts"].append({"name": "localhost", "slots": 1})
        data["num_machines"], data["num_processes"] = 3, 3

    run = hosts.run("sh", "-c", "echo $RANK on $LLMLAUNCH_HOST", config=hosts.config(change))
    assert run.status == 0, str(run)
    found = {rank: [line.strip() for line in lines] for rank, lines in lines_by_rank(run.out).items()}  # names are padded
    assert found == {0: ["0 on test01"], 1: ["1 on test02"], 2: ["2 on localhost"]}
    hosts.nothing_left(run)


def test_ranges_name_hosts_as_pdsh_does(hosts):
    """One entry with a range; addresses and ports come from an ssh config file, as the ssh program would read it."""
    ssh_config = hosts.head / "ssh_config"
    ssh_config.write_text("".join(
        f"Host {host['name']}\n  HostName {host['address']}\n  Port {host['port']}\n"
        for host in hosts.base["llmlaunch"]["hosts"]) + "Host test*\n  User " + hosts.base["llmlaunch"]["hosts"][0]["user"])

    def change(data):
        data["llmlaunch"]["hosts"] = ["test[01-02]"]
        data["llmlaunch"]["ssh"]["config_file"] = str(ssh_config)
        data["num_machines"], data["num_processes"] = 2, 4

    run = hosts.run("sh", "-c", "echo $RANK $LLMLAUNCH_TEST_HOST", config=hosts.config(change))
    assert run.status == 0, str(run)
    assert lines_by_rank(run.out) == {0: ["0 test01"], 1: ["1 test01"], 2: ["2 test02"], 3: ["3 test02"]}
    hosts.nothing_left(run)


def test_orphans_that_a_rank_leaves_are_ended_with_it(hosts):
    """A child that left the rank's session and was orphaned is still the agent's to end."""
    script = "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    os.close(1); os.close(2); time.sleep(600)\n  os._exit(0)\nos.wait()\nprint('gone ahead')\n"
    run = hosts.run(PYTHON, "-c", script)
    assert run.status == 0, str(run)
    assert run.out.count("gone ahead") == 2
    hosts.nothing_left(run)


def test_a_dry_run_prints_the_plan_and_touches_no_host(hosts):
    before = {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names}
    run = hosts.run("echo", "hello", config=hosts.config(slots=2), options=["--dry_run"])
    assert run.status == 0, str(run)
    for word in ("test01", "test02", "echo"):
        assert word in run.out + run.err, str(run)
    assert "[rank" not in run.out
    assert {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names} == before


def run_with_limit(hosts, limit, config, *command):
    """llmlaunch in a shell that allows so many open files ("-Sn 40": may be raised, "-n 40": not)."""
    file = hosts.head / f"limited-{len(list(hosts.head.iterdir()))}.yaml"
    file.write_text(config)
    words = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", str(BIN / "llmlaunch"), "run", "--config", str(file), *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=hosts.head)


def test_a_low_limit_of_open_files_is_raised_for_the_head_and_not_for_ranks(hosts):
    def on_this_machine(data):
        data["llmlaunch"]["hosts"] = [{"name": "localhost", "slots": 2}]
        data["num_machines"], data["num_processes"] = 1, 2

    ended = run_with_limit(hosts, "-Sn 60", hosts.config(slots=4), "true")
    assert ended.returncode == 0, ended
    ended = run_with_limit(hosts, "-Sn 60", hosts.config(on_this_machine), "sh", "-c", "ulimit -Sn")
    assert lines_by_rank(ended.stdout) == {0: ["60"], 1: ["60"]}, ended


def test_a_flood_of_strangers_at_the_port_costs_the_job_no_log_file(hosts):
    """All sockets that they may have, while no rank has a file yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def on_this_machine(data):
        data["llmlaunch"]["hosts"] = [{"name": "localhost", "slots": 60}]
        data["num_machines"], data["num_processes"], data["main_process_port"] = 1, 60, port

    strangers = []

    def flood():
        wait_until(lambda: len(list(hosts.head.glob("up-*"))) == 60, "all ranks")
        for _ in range(700):
            strangers.append(socket.create_connection(("127.0.0.1", port)))
        (hosts.head / "go").touch()

    thread = threading.Thread(target=flood)
    thread.start()
    script = f"touch {hosts.head}/up-$RANK; while [ ! -e {hosts.head}/go ]; do sleep 0.1; done; echo done"
    ended = run_with_limit(hosts, "-Sn 200", hosts.config(on_this_machine), "sh", "-c", script)
    thread.join()
    for stranger in strangers:
        stranger.close()
    assert ended.returncode == 0 and "INCOMPLETE" not in ended.stderr, ended
    directory = hosts.run_directory()
    assert [(directory / f"rank-{rank:05}.out").read_text() for rank in range(60)] == ["done\n"] * 60


def test_a_hard_limit_of_open_files_that_is_too_low_is_told_before_any_host_is_asked(hosts):
    before = {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names}
    ended = run_with_limit(hosts, "-n 60", hosts.config(slots=4), "true")
    assert ended.returncode == 69, ended
    assert "2 hosts and 8 ranks need 299 open files, and the limit of this shell is 60" in ended.stderr, ended
    assert "ulimit -Hn" in ended.stderr, ended
    assert {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names} == before
