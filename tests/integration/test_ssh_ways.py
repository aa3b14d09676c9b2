"""Hosts that are not reached directly: jump hosts, alone and in chains, and programs of the user's (ProxyCommand)."""
import os
import re
import signal
import subprocess

import yaml

from conftest import SCALE, processes_with, wait_until

HOSTS = 4


def behind(hosts, jumps, ssh_config="", stanzas=True, only=("test02", "test03", "test04"), host_change=None, **ssh):
    """The text of a configuration: the hosts, the keys of these jump hosts, an ssh_config that knows their addresses."""
    number = len(list(hosts.head.iterdir()))
    known = hosts.head / f"known-{number}"
    known.write_text((hosts.directory / "known_hosts").read_text() + "".join(one.known + "\n" for one in jumps))
    file = hosts.head / f"ssh_config-{number}"
    file.write_text("".join(one.stanza() for one in jumps if stanzas) + ssh_config)

    def change(data):
        data["llmlaunch"]["ssh"].update(known_hosts_file=str(known), config_file=str(file), **ssh)
        for host in data["llmlaunch"]["hosts"]:
            if host_change:
                host_change(host)

    config = hosts.config(change, only=only)
    return config


# --- jump hosts --------------------------------------------------------------------------------------------------------
def test_all_hosts_behind_a_jump_host_share_one_session_to_it(hosts, extra_sshd):
    jump = extra_sshd()
    run = hosts.run("sh", "-c", "echo in $LLMLAUNCH_TEST_HOST", config=behind(hosts, [jump], proxy_jump=jump.name))
    assert run.status == 0, str(run)
    assert sorted(re.findall(r"in (test\d+)", run.out)) == ["test02", "test03", "test04"], str(run)
    assert jump.said("Accepted publickey") == 1, "one session for three hosts"
    for host in hosts.base["llmlaunch"]["hosts"][1:]:
        assert jump.said(f"target {host['address']} port {host['port']}") == 1, "a direct-tcpip channel each"
    assert "main_process_ip" not in run.err, "each host has tried the head's address, and reached it"
    hosts.nothing_left(run)


def test_no_ssh_program_is_needed(hosts, extra_sshd):
    jump = extra_sshd()
    run = hosts.run("/bin/echo", "in", config=behind(hosts, [jump], proxy_jump=jump.name), env={"PATH": "/nonexistent"})
    assert run.status == 0 and run.out.count("in") == 3, str(run)
    hosts.nothing_left(run)


def test_a_jump_host_of_the_ssh_configuration_with_a_stanza_of_its_own(hosts, extra_sshd):
    """user and port stand in the stanza of the jump host; the hosts are found by a pattern."""
    jump = extra_sshd()
    user = hosts.base["llmlaunch"]["hosts"][0]["user"]
    config = behind(hosts, [jump], jump.stanza(f"User {user}") + f"Host test*\n  ProxyJump {jump.name}\n", stanzas=False)
    run = hosts.run("echo", "in", config=config)
    assert run.status == 0 and run.out.count("in") == 3, str(run)
    assert jump.said("Accepted publickey") == 1
    hosts.nothing_left(run)


def test_a_chain_of_jump_hosts_in_every_way_to_write_it(hosts, extra_sshd):
    first, second = extra_sshd(), extra_sshd()
    user = hosts.base["llmlaunch"]["hosts"][0]["user"]
    way = f"{user}@{first.address}:{first.port},ssh://{second.name}"
    run = hosts.run("echo", "in", config=behind(hosts, [first, second], proxy_jump=way))
    assert run.status == 0 and run.out.count("in") == 3, str(run)
    assert first.said(f"target {second.address} port {second.port}") == 1
    assert first.said("target 127.0.0.3") == 0 and second.said("target 127.0.0.3") == 1
    hosts.nothing_left(run)


def test_a_jump_host_that_is_itself_behind_another_one(hosts, extra_sshd):
    outer, inner = extra_sshd(), extra_sshd()
    config = behind(hosts, [inner, outer], inner.stanza(f"ProxyJump {outer.name}") + outer.stanza() +
                    f"Host test*\n  ProxyJump {inner.name}\n", stanzas=False)
    run = hosts.run("echo", "in", config=config)
    assert run.status == 0 and run.out.count("in") == 3, str(run)
    assert outer.said(f"target {inner.address} port {inner.port}") == 1 and inner.said("target 127.0.0.3") == 1
    hosts.nothing_left(run)


def test_a_host_of_its_own_says_none_and_is_reached_directly(hosts, extra_sshd):
    jump = extra_sshd()

    def change(host):
        if host["name"] == "test02":
            host["proxy_jump"] = "none"

    config = behind(hosts, [jump], "Host test*\n  ProxyJump nowhere.invalid\n", proxy_jump=jump.name, host_change=change)
    run = hosts.run("echo", "in", config=config)
    assert run.status == 0 and run.out.count("in") == 3, str(run)
    assert jump.said("target 127.0.0.3") == 0 and jump.said("target 127.0.0.4") == 1
    hosts.nothing_left(run)


def test_a_jump_host_that_does_not_answer_is_one_message_for_all_hosts_behind_it(hosts, extra_sshd):
    jump = extra_sshd()
    jump.stop()
    run = hosts.run("true", config=behind(hosts, [jump], proxy_jump=jump.name))
    assert run.status == 69, str(run)
    assert re.search(rf"error: 3 hosts test\[02-04\]: jump host {jump.name}: connection refused by {jump.address}:{jump.port}",
                     run.err), str(run)
    assert run.err.count("connection refused") == 1, str(run)
    hosts.nothing_left(run)


def test_a_jump_host_with_an_unknown_key_is_refused_by_its_own_name(hosts, extra_sshd):
    jump = extra_sshd()
    jump.known = "# none"
    run = hosts.run("true", config=behind(hosts, [jump], proxy_jump=jump.name))
    assert run.status == 69, str(run)
    assert f"3 hosts test[02-04]: jump host {jump.name}: the host key is not known" in run.err, str(run)
    assert f"ssh-keyscan -p {jump.port} -t ed25519 {jump.address}" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_jump_host_that_refuses_the_key_is_named_with_what_it_accepts(hosts, extra_sshd):
    jump = extra_sshd("AuthorizedKeysFile /dev/null")
    run = hosts.run("true", config=behind(hosts, [jump], proxy_jump=jump.name))
    assert run.status == 69 and run.err.count("public key authentication") == 1, str(run)
    assert f"3 hosts test[02-04]: jump host {jump.name}: public key authentication as" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_jump_host_that_may_not_forward_is_named_with_the_setting(hosts, extra_sshd):
    jump = extra_sshd("AllowTcpForwarding no")
    run = hosts.run("true", config=behind(hosts, [jump], proxy_jump=jump.name))
    assert run.status == 69 and "AllowTcpForwarding" in run.err, str(run)
    assert f"3 hosts test[02-04]: jump host {jump.name}: its sshd makes no connections for others" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_host_that_the_jump_host_cannot_reach_is_the_hosts_own_fault(hosts, extra_sshd):
    jump = extra_sshd()

    def change(host):
        if host["name"] == "test03":
            host["port"] = 1

    run = hosts.run("true", config=behind(hosts, [jump], proxy_jump=jump.name, host_change=change))
    assert run.status == 69, str(run)
    assert re.search(rf"host test03 .*jump host {jump.name} has no connection to 127.0.0.4:1: Connection refused",
                     run.err), str(run)
    assert "test02" not in run.err.split("error:")[1], str(run)
    hosts.nothing_left(run)


def test_a_way_that_leads_back_to_the_jump_host_is_refused(hosts, extra_sshd):
    jump = extra_sshd()
    run = hosts.run("true", config=behind(hosts, [jump], f"Host *\n  ProxyJump {jump.name}\n"))
    assert run.status in (69, 78) and f"Host * !{jump.name}" in run.err and "has no end" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_way_that_cannot_be_one_is_refused_with_its_place(hosts):
    run = hosts.run("true", config=behind(hosts, [], proxy_jump="me@:22"))
    assert run.status == 78 and "llmlaunch.ssh.proxy_jump" in run.err and "'me@:22' is no jump host" in run.err, str(run)


def test_no_more_than_eight_hosts_sign_in_through_a_jump_host_at_a_time(hosts, extra_sshd):
    """Behind it one sshd, which decides on keys when it is told to, stands for twelve hosts."""
    jump = extra_sshd()
    gate = hosts.head / "gate"
    gate.mkdir()
    sshd = extra_sshd("AuthorizedKeysFile none", "AuthorizedKeysCommandUser root",
                      f"AuthorizedKeysCommand /usr/bin/python3 {gate / 'wait.py'}")
    (gate / "wait.py").write_text(f"import os,time\nwhile not os.path.exists({str(gate / 'open')!r}): time.sleep(0.02)\n"
                                  f"print(open({str(hosts.directory / 'authorized_keys')!r}).read())\n")

    def change(data):
        data["llmlaunch"]["hosts"] = [dict(sshd.as_host(), name=f"behind{number}") for number in range(12)]
        data.update(num_machines=12, num_processes=12)

    text = behind(hosts, [jump, sshd], proxy_jump=jump.name, only=("test02",))
    data = yaml.safe_load(text)
    change(data)
    run = hosts.start("echo", "in", config=yaml.safe_dump(data, sort_keys=False))
    wait_until(lambda: jump.said(f"target {sshd.address} port {sshd.port}") == 8, "eight of them")
    run.said("waiting for 12 of 12 hosts")  # five seconds later
    assert jump.said(f"target {sshd.address} port {sshd.port}") == 8, "no ninth one"
    (gate / "open").touch()
    run.finish()
    assert run.status == 0 and len(re.findall(r"\] +in$", run.out, re.M)) == 12, str(run)
    assert jump.said(f"target {sshd.address} port {sshd.port}") == 12 and jump.said("Accepted publickey") == 1
    hosts.nothing_left(run)


def test_a_jump_host_that_goes_away_during_the_job_is_named(hosts, extra_sshd):
    jump = extra_sshd()
    config = behind(hosts, [jump], proxy_jump=jump.name).replace("log_dir", "timeouts: {head: 3, grace: 1}\n  log_dir")
    run = hosts.start("sh", "-c", "echo here; exec sleep 600", config=config)
    wait_until(lambda: run.out.count("here") == 3, f"all ranks\n{run}")
    os.killpg(jump.process.pid, signal.SIGKILL)
    for pid in jump_sessions(jump):
        os.kill(pid, signal.SIGKILL)
    run.finish()
    assert run.status == 69 and f"jump host {jump.name} ended" in run.err, str(run)
    hosts.nothing_left(run, within=30)


def jump_sessions(jump):
    """The processes of sshd that hold a connection from or to the jump host's port."""
    found = set()
    listed = subprocess.run(["ss", "-Htnp", f"sport = :{jump.port}"], capture_output=True, text=True).stdout
    for name, pid in re.findall(r'\("([^"]+)",pid=(\d+)', listed):
        if name.startswith("sshd"):
            found.add(int(pid))
    return found


def test_a_session_to_the_jump_host_that_is_cut_is_made_again_once_for_all_hosts(hosts, extra_sshd):
    jump = extra_sshd()
    program = "echo here; until [ -e \"$0\" ]; do sleep 0.05; done; echo there"
    enough = hosts.head / f"enough-{jump.port}"
    run = hosts.start("sh", "-c", program, str(enough), config=behind(hosts, [jump], proxy_jump=jump.name))
    wait_until(lambda: run.out.count("here") == 3, "all ranks")
    for pid in jump_sessions(jump):
        if pid != jump.process.pid:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: jump.said("Accepted publickey") == 2, f"the second session\n{run}")
    wait_until(lambda: all(jump.said(f"target 127.0.0.{last} port") >= 2 for last in (3, 4, 5)), "all hosts once more")
    enough.touch()
    run.finish()
    assert run.status == 0 and run.out.count("there") == 3, str(run)
    assert jump.said("Accepted publickey") == 2
    hosts.nothing_left(run)


def test_bytes_go_through_a_jump_host_as_they_are_and_wait_for_a_slow_reader(hosts, extra_sshd):
    """More than all windows together from three hosts at once, and back-pressure: the terminal takes nothing at first."""
    jump = extra_sshd()
    size = (48 << 20) // SCALE
    reading, writing = os.pipe()
    run = hosts.start("/usr/bin/python3", "-c",
                      f"import sys\nfor i in range({size} // 64): sys.stdout.write('%063d\\n' % i)",
                      config=behind(hosts, [jump], proxy_jump=jump.name), stdout=writing)
    os.close(writing)
    lines = {0: 0, 1: 0, 2: 0}
    run.said("3 hosts")
    with open(reading, "r") as out:
        for line in out:
            head, _, body = line.partition("] ")
            rank = int(head.split()[1])
            assert int(body) == lines[rank], line
            lines[rank] += 1
    run.finish()
    assert run.status == 0 and set(lines.values()) == {size // 64}, (lines, str(run))
    hosts.nothing_left(run)


# --- ProxyCommand ------------------------------------------------------------------------------------------------------
PIPE = r"""
import os, select, socket, sys
host, port = sys.argv[1:3]
connection = socket.create_connection((host, int(port)))
print("first words", file=sys.stderr, flush=True)
ends = {0: connection.fileno(), connection.fileno(): 1}
while True:
    for one in select.select(list(ends), [], [])[0]:
        piece = os.read(one, 65536)
        if not piece:
            sys.exit(0)
        while piece:
            piece = piece[os.write(ends[one], piece):]
"""


def by_command(hosts, command, **more):
    program = hosts.head / "pipe.py"
    program.write_text(PIPE)
    return behind(hosts, [], f"Host test*\n  ProxyCommand {command.replace('PIPE', f'/usr/bin/python3 {program}')}\n", **more)


def test_a_proxy_command_is_the_way_and_says_its_words(hosts):
    config = by_command(hosts, "PIPE %h %p a%%b %r %n 'with  blanks'")
    run = hosts.start("sh", "-c", "echo here; read line; exec sleep 600", config=config)
    for rank in range(3):
        run.said(f"[rank {rank} test0{rank + 2}] here")
    commands = [words for words in processes_with(f"LLMLAUNCH_TEST_MARK={run.mark}").values()
                if "pipe.py" in words]
    user = hosts.base["llmlaunch"]["hosts"][0]["user"]
    port = hosts.port("test03")
    assert len(commands) == 3, commands
    assert any(words.strip().endswith(f"pipe.py 127.0.0.4 {port} a%b {user} test03 with  blanks") for words in commands), commands
    assert run.err.count("said: first words") == 3, str(run)
    assert "main_process_ip" not in run.err, "each host has tried the head's address, and reached it"
    os.kill(run.pid, signal.SIGINT)
    assert run.finish().status == 130, str(run)
    hosts.nothing_left(run)


def test_a_proxy_command_has_no_signal_blocked_or_ignored(hosts):
    config = by_command(hosts, "sh -c 'sed -n /^Sig/p /proc/self/status >&2; exec PIPE %h %p'", only=("test02",))
    run = hosts.run("echo", "in", config=config)
    assert run.status == 0, str(run)
    for name in ("SigBlk", "SigIgn"):
        assert re.search(rf"test02 said: {name}:\s+0+$", run.err, re.M), str(run)
    hosts.nothing_left(run)


def test_a_proxy_command_that_ignores_its_end_is_killed_with_all_that_it_started(hosts):
    config = by_command(hosts, "sh -c 'trap \"\" TERM; sleep 613 & PIPE %h %p; sleep 614'", only=("test02",))
    run = hosts.run("echo", "in", config=config)
    assert run.status == 0 and run.out.count("in") == 1, str(run)
    hosts.nothing_left(run)


def test_a_proxy_command_that_fails_is_told_with_its_words_and_its_status(hosts):
    config = by_command(hosts, "no-such-program-here %h", only=("test02",))
    run = hosts.run("true", config=config)
    assert run.status == 69, str(run)
    assert re.search(r"test02 said: .*no-such-program-here.*not found", run.err), str(run)
    assert re.search(r"host test02 .*the ProxyCommand of \S+:2 ended with status 127", run.err), str(run)
    hosts.nothing_left(run)


def test_a_proxy_command_that_says_nothing_ends_with_the_wait_for_a_banner(hosts):
    def change(text):
        return text.replace("log_dir", "timeouts: {connect: 1}\n  log_dir")

    run = hosts.run("true", config=change(by_command(hosts, "sleep 615", only=("test02",))))
    assert run.status == 69 and "the wait for sshd's banner with 127.0.0.3 through its ProxyCommand" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_jump_host_may_itself_be_behind_a_proxy_command(hosts, extra_sshd):
    jump = extra_sshd()
    program = hosts.head / "pipe.py"
    program.write_text(PIPE)
    config = behind(hosts, [jump], jump.stanza(f"ProxyCommand /usr/bin/python3 {program} %h %p"), stanzas=False,
                    proxy_jump=jump.name)
    run = hosts.run("echo", "in", config=config)
    assert run.status == 0 and run.out.count("in") == 3, str(run)
    assert run.err.count("said: first words") == 1, str(run)
    hosts.nothing_left(run)


def test_a_flood_of_words_on_the_way_to_a_jump_host_is_cut_off(hosts, extra_sshd):
    jump = extra_sshd()
    program = hosts.head / "pipe.py"
    program.write_text(PIPE)
    command = f"sh -c 'seq 1000 >&2; exec /usr/bin/python3 {program} %h %p'"
    config = behind(hosts, [jump], jump.stanza(f"ProxyCommand {command}"), stanzas=False, proxy_jump=jump.name)
    run = hosts.run("echo", "in", config=config)
    assert run.status == 0 and run.out.count("in") == 3, str(run)
    assert run.err.count(f"jump host {jump.name} said: ") == 20, str(run)
    assert run.err.count(f"jump host {jump.name} said more, which is not shown") == 1, str(run)
    hosts.nothing_left(run)


def test_a_command_for_an_odd_host_name_is_refused(hosts):
    def change(host):
        host["user"] = "a;b"

    run = hosts.run("true", config=by_command(hosts, "PIPE %h %r", only=("test02",), host_change=change))
    assert run.status == 69 and "'a;b' in place of %r is no plain name" in run.err, str(run)


def test_training_behind_a_jump_host_pushes_the_trainer_through_it(hosts, extra_sshd):
    jump = extra_sshd()
    run = hosts.run("train", "--max_steps", "3", config=behind(hosts, [jump], only=("test02", "test03"), proxy_jump=jump.name),
                    timeout=300)
    assert run.status == 0, str(run)
    hosts.nothing_left(run)
