"""`llmlaunch exec` on real ssh hosts: what is shown, what a failing host costs the others (nothing), what is left."""
import base64
import json
import os
import re
import signal
import subprocess
import uuid

import pytest

from conftest import BIN, MARK, PYTHON, SCALE, Refusing, Run, wait_until

HOSTS = 4
RULE = "----------------"


def start(hosts, *words, config=None, env=None, stdout=None, stdin=None, cwd=None):
    """Starts `llmlaunch exec words…` with these hosts' configuration, unless `config` is False."""
    mark = uuid.uuid4().hex
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LLMLAUNCH_")}
    environment.pop("SSH_AUTH_SOCK", None)
    environment.pop("WCOLL", None)
    environment.update({"HOME": str(hosts.head / "home"), "TMPDIR": str(hosts.head / "tmp"), MARK: mark})
    environment.update(env or {})
    command = [str(BIN / "llmlaunch"), "exec"]
    if config is not False:
        file = hosts.head / f"cfg-{mark[:8]}.yaml"
        file.write_text(config or hosts.config())
        command += ["-c", str(file)]
    run = Run([*command, *words], environment, cwd or hosts.head, mark, stdout)
    hosts.runs.append(run)
    return run


def exec_(hosts, *words, **more):
    return start(hosts, *words, **more).finish()


def groups(text):
    """[(header, body)] of gathered output."""
    parts = re.split(rf"^{RULE}\n(.+)\n{RULE}\n", text, flags=re.M)
    assert parts[0] == "", text
    return list(zip(parts[1::2], parts[2::2]))


# --- what is shown ---------------------------------------------------------------------------------------------------
def test_hosts_that_say_the_same_are_one_group(hosts):
    run = exec_(hosts, "echo", "hello", "$HOME", "a  b")
    assert run.status == 0, str(run)
    assert groups(run.out) == [("test[01-04] (4)", "hello $HOME a  b\n")]  # argv is data: no shell has seen it
    assert run.err == "", str(run)
    assert not (hosts.directory / "logs").exists(), "a run directory was made"
    hosts.nothing_left(run)


def test_groups_come_in_the_order_of_the_hosts_and_stderr_apart(hosts):
    script = 'case $LLMLAUNCH_HOST in test02|test04) echo even; echo odd >&2;; *) echo plain;; esac'
    run = exec_(hosts, "--shell", script)
    assert run.status == 0, str(run)
    assert groups(run.out) == [("test[01,03] (2)", "plain\n"), ("test[02,04] (2)", "even\n")]
    assert groups(run.err) == [("test[02,04] (2) stderr", "odd\n")]
    hosts.nothing_left(run)


def test_line_mode_is_what_pdsh_prints(hosts):
    run = exec_(hosts, "-L", "-s", "echo one; echo two >&2; printf three")
    assert run.status == 0, str(run)
    assert sorted(run.out.splitlines()) == sorted(
        f"{name}: {word}" for name in hosts.names for word in ("one", "three"))
    assert sorted(run.err.splitlines()) == sorted(f"{name}: two" for name in hosts.names)
    hosts.nothing_left(run)


def test_lines_come_while_the_command_runs(hosts):
    go = hosts.head / "go-lines"
    run = start(hosts, "-L", "-s", f'echo early; until [ -e "{go}" ]; do sleep 0.05; done; echo late')
    wait_until(lambda: run.out.count("early") == 4, f"the first lines\n{run}")
    assert "late" not in run.out
    go.touch()
    assert run.finish().status == 0, str(run)
    assert run.out.count("late") == 4
    hosts.nothing_left(run)


def test_json_tells_of_every_host(hosts):
    run = exec_(hosts, "--json", "-s", 'printf "$LLMLAUNCH_HOST\\377"; echo é >&2; exit $NODE_RANK')
    assert run.status == 3, str(run)
    told = json.loads(run.out)
    assert told["exit_status"] == 3 and told["argv"][0] == "/bin/sh"
    assert [host["host"] for host in told["hosts"]] == hosts.names
    assert [host["status"] for host in told["hosts"]] == [0, 1, 2, 3]
    for host in told["hosts"]:
        assert base64.b64decode(host["stdout_base64"]) == host["host"].encode() + b"\xff"
        assert host["stderr"] == "é\n" and host["run_s"] >= 0 and host["connect_s"] > 0
    assert "3 of 4 hosts failed" in run.err, str(run)
    hosts.nothing_left(run)


@pytest.mark.parametrize("mode", [(), ("-L",), ("--json",)], ids=["gathered", "lines", "json"])
def test_the_table_has_every_host_with_its_end(hosts, mode):
    with Refusing("127.0.0.3") as dead_port:
        def change(data):
            data["llmlaunch"]["hosts"][1]["port"] = dead_port

        run = exec_(hosts, "--table", *mode, "-s", "echo here; [ $NODE_RANK != 2 ] || exit 3; [ $NODE_RANK != 3 ] || kill -9 $$",
                    config=hosts.config(change))
    assert run.status == 69 and run.out.count("here") >= 1, str(run)
    table, _, story = run.err.partition("llmlaunch: error: ")
    rows = [line.split("  ") for line in table.splitlines() if line.startswith(("host ", "test"))]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert rows[0] == ["host", "end", "status", "connect s", "run s"], str(run)
    assert [row[:3] for row in rows[1:]] == [["test01", "exit 0", "0"], ["test02", "unreachable", "69"],
                                            ["test03", "exit 3", "3"], ["test04", "SIGKILL", "137"]], str(run)
    assert rows[2][3:] == ["-", "-"] and all(float(row[3]) > 0 for row in rows[1:] if row[0] != "test02"), str(run)
    assert story.startswith("3 of 4 hosts failed"), str(run)
    hosts.nothing_left(run)


def test_bytes_larger_than_memory_come_back_whole(hosts):
    """48 MB from four hosts, above the 32 MiB that are kept in memory: the rest waits in a file that has no name."""
    script = "import sys\nfor n in range(150000): sys.stdout.write('%06d ' % n + 'x' * 72 + '\\n')\n"
    run = exec_(hosts, PYTHON, "-c", script)
    assert run.status == 0, str(run)[:2000]
    (header, body), = groups(run.out)
    assert header == "test[01-04] (4)"
    lines = body.splitlines()
    assert len(lines) == 150_000
    assert all(line == "%06d " % n + "x" * 72 for n, line in enumerate(lines))
    hosts.nothing_left(run)


def test_a_log_directory_is_made_when_it_is_asked_for(hosts):
    logs = hosts.directory / "exec-logs"
    run = exec_(hosts, "--log-dir", str(logs), "-s", "echo $LLMLAUNCH_HOST")
    assert run.status == 0, str(run)
    (directory,) = logs.iterdir()
    assert {file.name: file.read_text() for file in directory.glob("*.out")} == {
        f"{name}.out": f"{name}\n" for name in hosts.names}
    assert json.loads((directory / "job.json").read_text())["exit_status"] == 0
    hosts.nothing_left(run)


# --- which hosts -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("words, expected", [
    (["-w", "test[01-04]", "-x", "test02"], "test[01,03-04]"),
    (["-w", "test[01-04]!test01&test[01-03]"], "test[02-03]"),
    (["-w", "test[04,01]"], "test[04,01]"),
    (["-w", "test04", "-w", "test02"], "test[04,02]"),
    (["-w", "test0?,-test03"], "test[01-02,04]"),
    (["-x", "/[34]$/"], "test[01-02]"),
    (["-w", "^hosts.txt"], "test[01,03]"),
    (["--hostfile", "slots.txt"], "test[02,04]"),
])
def test_hosts_are_named_in_every_way(hosts, words, expected):
    (hosts.head / "hosts.txt").write_text("test01  # the first\n#include more.txt\n")
    (hosts.head / "more.txt").write_text("test03\n")
    (hosts.head / "slots.txt").write_text("test02 slots=8\ntest04 slots=8\n")
    run = exec_(hosts, *words, "echo", "x")
    assert run.status == 0, str(run)
    count = len(subprocess.check_output([BIN / "llmlaunch", "hosts", expected]).split())
    assert groups(run.out) == [(f"{expected} ({count})", "x\n")]
    hosts.nothing_left(run)


def test_wcoll_names_the_hosts_when_nothing_else_does(hosts):
    ssh_config = hosts.head / "wcoll_ssh_config"
    ssh_config.write_text("".join(
        f"Host {host['name']}\n  HostName {host['address']}\n  Port {host['port']}\n  User {host['user']}\n"
        for host in hosts.base["llmlaunch"]["hosts"]) + f"Host *\n  IdentityFile {hosts.directory}/user_key\n"
        f"  UserKnownHostsFile {hosts.directory}/known_hosts\n")
    (hosts.head / "home" / ".ssh").mkdir(exist_ok=True)
    (hosts.head / "home" / ".ssh" / "config").write_text(ssh_config.read_text())
    (hosts.head / "wcoll").write_text("test[01-02]\n")
    run = exec_(hosts, "echo", "x", config=False, env={"WCOLL": str(hosts.head / "wcoll")})
    if run.status == 69 and "no address" in run.err:  # root's home is the passwd file's, whatever HOME says
        pytest.skip("ssh reads the configuration of another home directory")
    assert run.status == 0, str(run)
    assert groups(run.out) == [("test[01-02] (2)", "x\n")]


@pytest.mark.parametrize("words, said", [
    (["echo", "x"], "exec: no hosts are named"),
    (["-w", "n1,n1", "echo"], "host 'n1' is named twice"),
    (["-w", "n[1,4-3]", "echo"], "bad range '4-3' in 'n[1,4-3]': it runs backwards\n   n[1,4-3]\n       ^\n"),
    (["-w", "n1", "-x", "n1", "echo"], "exec: no host is left"),
    (["-w", "^nowhere.txt", "echo"], "cannot read the host file nowhere.txt"),
    (["-w", "n1", "uptime; date"], "'uptime; date' is one word, and no shell takes it apart"),
])
def test_a_wrong_call_is_told_before_any_host_is_asked(hosts, words, said):
    run = exec_(hosts, *words, config=False)
    assert run.status in (64, 78), str(run)
    assert said in run.err and run.out == "", str(run)


def test_the_shell_that_put_file_names_in_the_place_of_hosts_is_found_out(hosts):
    here = hosts.directory / "glob"
    here.mkdir()
    for name in ("compute-0-1", "compute-0-2"):
        (here / name).touch()
    run = exec_(hosts, "-w", "compute-0-1", "compute-0-2", "uptime", cwd=here)
    assert run.status == 64 and "the command would be 'compute-0-2'" in run.err and "quotes" in run.err, str(run)


# --- failures --------------------------------------------------------------------------------------------------------
def test_a_failing_command_stops_no_other_and_the_highest_status_is_ours(hosts):
    left = hosts.head / "left"
    left.mkdir()
    run = exec_(hosts, "-s", f'cd "{left}"; case $NODE_RANK in 1|3) : > $NODE_RANK; exit 3;; 2) : > 2; kill -9 $$;; esac; '
                'until [ -e 1 ] && [ -e 2 ] && [ -e 3 ]; do sleep 0.05; done; echo done')
    assert run.status == 137, str(run)
    assert groups(run.out) == [("test01 (1)", "done\n")]
    assert run.err == ("llmlaunch: error: 3 of 4 hosts failed\n   SIGKILL: test03\n   exit 3: test[02,04]\n"), str(run)
    hosts.nothing_left(run)


def test_a_host_that_is_down_is_told_with_its_reason_and_the_others_run(hosts):
    with Refusing("127.0.0.3") as dead_port:
        def change(data):
            data["llmlaunch"]["hosts"][1]["port"] = dead_port

        run = exec_(hosts, "echo", "here", config=hosts.config(change))
    assert run.status == 69, str(run)
    assert groups(run.out) == [("test[01,03-04] (3)", "here\n")]
    assert "llmlaunch: error: 1 of 4 hosts failed\n   unreachable: test02: " in run.err, str(run)
    assert "refused" in run.err.lower() and str(dead_port) in run.err, str(run)
    hosts.nothing_left(run)


def test_a_program_that_is_nowhere_is_127_and_said_once(hosts):
    run = exec_(hosts, "no-such-program")
    assert run.status == 127, str(run)
    assert "   cannot start: test[01-04]: no program 'no-such-program' in PATH" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_command_that_takes_too_long_is_ended_on_its_host(hosts):
    run = exec_(hosts, "-u", "1", "-s", 'echo begun; [ $NODE_RANK != 2 ] || { sleep 600 & sleep 600; }')
    assert run.status == 124, str(run)
    assert groups(run.out) == [("test[01-04] (4)", "begun\n")]
    assert "1 of 4 hosts failed\n   timed out: test03: no end within 1 s\n" in run.err, str(run)
    assert run.seconds < 20 * (3 if SCALE > 1 else 1)
    hosts.nothing_left(run)


def sessions_of(hosts, name):
    return [int(pid) for pid in subprocess.run(["pgrep", "-P", str(hosts.sshd_pid(name))], capture_output=True,
                                               text=True).stdout.split()]


def sleepers(hosts, run):
    return sum(line.strip() == "sleep 600" for line in hosts.processes(run).values())


def test_a_connection_that_is_cut_is_made_again(hosts):
    go = hosts.head / "go-cut"
    run = start(hosts, "-L", "-s", f'echo here; until [ -e "{go}" ]; do sleep 0.05; done; echo end')
    wait_until(lambda: run.out.count("here") == 4, f"all hosts\n{run}")
    for pid in sessions_of(hosts, "test03"):
        os.kill(pid, signal.SIGKILL)
    run.said("host test03: connection lost: ")
    go.touch()
    assert run.finish().status == 0, str(run)
    assert run.out.count("end") == 4, str(run)
    assert "its command runs on" in run.err and "host test03: connected again" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_host_that_is_lost_costs_nobody_else_anything(hosts):
    """The agent of one host is killed: its command goes with it, and the others never hear of it."""
    go = hosts.head / "go-lost"
    run = start(hosts, "-L", "-s", f'echo here; until [ -e "{go}" ]; do sleep 0.05; done; echo end')
    wait_until(lambda: run.out.count("here") == 4, f"all hosts\n{run}")
    agents = [pid for pid, line in hosts.processes(run).items() if "/test03/home/.cache/llmlaunch/agent-" in line]
    assert len(agents) == 2, hosts.processes(run)  # the agent below its watchman, which cleans up
    os.kill(max(agents), signal.SIGKILL)
    wait_until(lambda: not sessions_of(hosts, "test03"), f"the session to end\n{run}")
    go.touch()
    assert run.finish().status == 69, str(run)
    assert run.out.count("end") == 3, str(run)
    assert "1 of 4 hosts failed\n   lost: test03: " in run.err, str(run)
    hosts.nothing_left(run)


def test_ctrl_c_stops_all_and_says_what_had_ended(hosts):
    ran = hosts.head / "ran-ctrl-c"
    run = start(hosts, "-s", f'echo here; [ $NODE_RANK != 0 ] || {{ : > "{ran}"; exit; }}; sleep 600 & sleep 600')
    # Gathered output is shown at the end: that the commands run is seen on the hosts.
    wait_until(lambda: sleepers(hosts, run) == 6, f"three hosts to sleep\n{run}")
    wait_until(lambda: ran.exists() and not sessions_of(hosts, "test01"), f"the first host to be over\n{run}")
    run.process.send_signal(signal.SIGINT)
    run.finish()
    assert run.status == 130, str(run)
    assert groups(run.out) == [("test[01-04] (4)", "here\n")]
    assert "caught SIGINT: stopping 3 commands" in run.err, str(run)
    assert ("interrupted by SIGINT: 1 of 4 hosts had ended\n   exit 0: test01\n   stopped: test[02-04]\n") in run.err, str(run)
    hosts.nothing_left(run)


def test_a_dead_head_leaves_nothing(hosts):
    def change(data):
        data["llmlaunch"]["timeouts"] = {"head": 4}

    run = start(hosts, "-s", 'sleep 600 & sleep 600', config=hosts.config(change))
    wait_until(lambda: sleepers(hosts, run) == 8, f"the sleepers\n{run}")
    run.process.kill()
    run.process.wait()
    hosts.nothing_left(run, within=20)


def test_a_reader_that_goes_away_ends_what_it_read_from(hosts):
    shell = subprocess.Popen(["head", "-n", "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    run = start(hosts, "-L", "-s", "while :; do echo tick; sleep 0.02; done", stdout=shell.stdin)
    shell.stdin.close()
    assert shell.stdout.read().count(b"tick") == 3
    shell.wait()
    run.finish(60)
    assert run.status == 128 + signal.SIGPIPE, str(run)
    hosts.nothing_left(run)


# --- how ---------------------------------------------------------------------------------------------------------------
def test_fanout_is_how_many_hosts_work_at_the_same_time(hosts):
    log = hosts.head / "fanout"
    log.write_text("")
    run = exec_(hosts, "-f", "1", "-s", f'echo + >> {log}; sleep 0.2; echo - >> {log}')
    assert run.status == 0, str(run)
    assert log.read_text().split() == ["+", "-"] * 4
    hosts.nothing_left(run)


def test_a_command_reads_end_of_file_and_finds_no_world(hosts):
    run = exec_(hosts, "-s", "cat; env | grep -E '^(RANK|WORLD_SIZE|MASTER_ADDR|LLMLAUNCH_(TOKEN|RENDEZVOUS))=' || echo none")
    assert run.status == 0, str(run)
    assert groups(run.out) == [("test[01-04] (4)", "none\n")]
    hosts.nothing_left(run)


def test_variables_and_workdir_of_the_configuration_hold(hosts):
    def change(data):
        data["llmlaunch"]["env"] = {"COLOR": "deep blue"}
        data["llmlaunch"]["workdir"] = "/usr"

    run = exec_(hosts, "--env", "SHAPE=a 'b'", "-s", 'echo "$COLOR, $SHAPE, $PWD"', config=hosts.config(change))
    assert run.status == 0, str(run)
    assert groups(run.out) == [("test[01-04] (4)", "deep blue, a 'b', /usr\n")]
    hosts.nothing_left(run)


def test_run_takes_slots_from_a_host_file(hosts):
    file = hosts.head / "slots"
    file.write_text("# two hosts\ntest03 slots=2 max_slots=4\ntest01 slots=1\n")
    run = hosts.run("sh", "-c", "echo $RANK $LLMLAUNCH_HOST $WORLD_SIZE", options=["--hostfile", str(file)])
    assert run.status == 0, str(run)
    assert sorted(re.findall(r"\] +(\d .*)$", run.out, re.M)) == ["0 test03 3", "1 test03 3", "2 test01 3"]
    hosts.nothing_left(run)


def test_this_machine_is_a_host_when_it_is_named(hosts):
    run = exec_(hosts, "-w", "localhost", "pwd", config=False)
    assert run.status == 0, str(run)
    assert groups(run.out) == [("localhost (1)", f"{hosts.head}\n")]


def test_a_dry_run_touches_no_host(hosts):
    before = {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names}
    run = exec_(hosts, "--dry-run", "nvidia-smi", "-L")
    assert run.status == 0 and "test04" in run.out and "nvidia-smi" in run.out, str(run)
    assert {name: (hosts.directory / name / "sshd.log").read_text() for name in hosts.names} == before
