"""ssh as people have it: keys in ssh-agent or behind a passphrase, configuration files, servers that hang up or are none."""
import fcntl
import glob
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from conftest import SCALE, children_of, wait_until

HOSTS = 2


def make_key(hosts, name, passphrase=""):
    file = hosts.head / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", str(file)], check=True)
    return file


def allow(hosts, key):
    with open(hosts.directory / "authorized_keys", "a") as file:
        file.write(key.with_suffix(".pub").read_text())


@pytest.fixture
def agent(hosts, tmp_path):
    """An ssh-agent with a socket of its own; gives (environment, function that adds a key)."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    wait_until(path.exists, "the agent's socket")
    env = {"SSH_AUTH_SOCK": str(path)}

    def add(key, passphrase=None):
        asking = dict(os.environ, **env)
        if passphrase is not None:
            program = tmp_path / "askpass"
            program.write_text(f"#!/bin/sh\necho {passphrase}\n")
            program.chmod(0o700)
            asking.update(SSH_ASKPASS=str(program), SSH_ASKPASS_REQUIRE="force", DISPLAY=":0")
        subprocess.run(["ssh-add", "-q", str(key)], env=asking, check=True, stdin=subprocess.DEVNULL)

    yield env, add
    process.terminate()
    process.wait()


def with_ssh(hosts, **settings):
    def change(data):
        ssh = data["llmlaunch"]["ssh"]
        for name, value in settings.items():
            if value is None:
                ssh.pop(name, None)
            else:
                ssh[name] = value

    return hosts.config(change)


# --- keys ------------------------------------------------------------------------------------------------------------
def test_a_key_that_only_ssh_agent_has_signs_in(hosts, agent):
    env, add = agent
    key = make_key(hosts, "only_in_agent")
    allow(hosts, key)
    add(key)
    key.unlink()
    run = hosts.run("echo", "in", config=with_ssh(hosts, identity_file=None), env=env)
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    refused = hosts.run("true", config=with_ssh(hosts, identity_file=None, use_agent=False), env=env)
    assert refused.status == 69 and "there is no key to sign in with" in refused.err, str(refused)
    hosts.nothing_left(run)


def test_the_key_of_the_named_file_goes_first_however_many_keys_the_agent_has(hosts, agent):
    """sshd hangs up after six keys (MaxAuthTries); the right one is the ninth of the agent."""
    env, add = agent
    for number in range(8):
        add(make_key(hosts, f"stranger{number}"))
    key = make_key(hosts, "ninth", passphrase="open sesame")
    allow(hosts, key)
    add(key, passphrase="open sesame")
    run = hosts.run("echo", "in", config=with_ssh(hosts, identity_file=str(key)), env=env)
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    hosts.nothing_left(run)


def test_too_many_keys_are_named_as_the_reason(hosts, agent):
    env, add = agent
    for number in range(8):
        add(make_key(hosts, f"no_good{number}"))
    run = hosts.run("true", config=with_ssh(hosts, identity_file=None), env=env)
    assert run.status == 69, str(run)
    assert "key 'no_good7' of ssh-agent" in run.err and "Too many authentication failures" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_key_with_a_passphrase_that_no_agent_has_is_named_and_nobody_is_asked(hosts):
    key = make_key(hosts, "locked", passphrase="open sesame")
    run = hosts.run("true", config=with_ssh(hosts, identity_file=str(key)))
    assert run.status == 69, str(run)
    assert str(key) in run.err and "passphrase" in run.err and "ssh-add" in run.err, str(run)
    assert "ssh-copy-id" not in run.err, str(run)  # no key was refused
    hosts.nothing_left(run)


def test_a_key_that_others_can_read_is_not_used(hosts):
    key = hosts.head / "open_key"
    shutil.copy(hosts.directory / "user_key", key)
    key.chmod(0o644)
    run = hosts.run("true", config=with_ssh(hosts, identity_file=str(key)))
    assert run.status == 69, str(run)
    assert str(key) in run.err and "chmod 600" in run.err, str(run)
    hosts.nothing_left(run)


@pytest.mark.parametrize("content, problem", [("ssh-ed25519 AAAA me", "public key"), ("root:x:0:0", "no private key")])
def test_a_file_that_is_no_private_key_is_named_for_what_it_is(hosts, tmp_path, content, problem):
    file = tmp_path / "key"
    file.write_text(content + "\n")
    file.chmod(0o644)
    run = hosts.run("true", config=with_ssh(hosts, identity_file=str(file)))
    assert run.status == 69 and f"{file}: " in run.err and problem in run.err, str(run)
    assert "chmod" not in run.err and "ssh-copy-id" not in run.err, str(run)


def test_startup_files_that_flood_or_hang_or_end_the_shell_are_told(hosts):
    rc = hosts.home("test01") / ".bashrc"
    try:
        rc.write_text("yes | head -5000\n")
        run = hosts.run("echo", "in")
        assert run.status == 0 and run.err.count("test01 said: y") == 20 and "which is not shown" in run.err, str(run)
        rc.write_text("exit 7\n")
        run = hosts.run("echo", "in")
        assert run.status == 69 and "test01" in run.err and ".bashrc" in run.err, str(run)
        rc.write_text("exec sleep 613\n")

        def change(data):
            data["llmlaunch"]["timeouts"] = {"start": 2}

        run = hosts.run("echo", "in", config=hosts.config(change))
        assert run.status == 69 and "start of the agent" in run.err and ".bashrc" in run.err, str(run)
    finally:
        rc.unlink()
        for pid, line in hosts.processes_on("test01").items():  # no ssh client can end what has no terminal
            if line.strip() == "sleep 613":
                os.kill(pid, signal.SIGKILL)


def test_an_agent_that_never_answers_costs_two_seconds_and_not_the_job(hosts, tmp_path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen(8)
        env = {"SSH_AUTH_SOCK": str(tmp_path / "silent")}
        run = hosts.run("echo", "in", env=env)
        refused = hosts.run("true", config=with_ssh(hosts, identity_file="/nonexistent/key"), env=env)
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    said = "ssh-agent has not answered within 2 s"
    assert run.err.count(said) == 1, str(run)
    assert refused.status == 69 and said in refused.err.split("error:")[1], str(refused)
    hosts.nothing_left(run)


class CountingAgent:
    """Between llmlaunch and a real ssh-agent: counts what is asked for. One thing at a time, as ssh-agent itself."""

    def __init__(self, path, real):
        self.asked, self.real = {"list": 0, "sign": 0}, real
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        real = socket.socket(socket.AF_UNIX)
        real.connect(self.real)
        clients = []
        while True:
            for one in select.select([self.listener, *clients], [], [])[0]:
                if one is self.listener:
                    clients.append(self.listener.accept()[0])
                    continue
                request = self._message(one)
                if not request:
                    clients.remove(one)
                    continue
                self.asked["list" if request[4] == 11 else "sign"] += 1
                real.sendall(request)
                one.sendall(self._message(real))

    @staticmethod
    def _message(stream):
        bytes = b""
        while len(bytes) < 4 or len(bytes) < 4 + int.from_bytes(bytes[:4], "big"):
            piece = stream.recv(4 if len(bytes) < 4 else 4 + int.from_bytes(bytes[:4], "big") - len(bytes))
            if not piece:
                return b""
            bytes += piece
        return bytes


def test_an_agent_is_asked_for_its_keys_once_and_for_a_signature_for_each_host(hosts, agent, tmp_path):
    """A list would wait behind other hosts' signatures, and a key on a token takes half a second for each."""
    env, add = agent
    key = make_key(hosts, "only_in_the_agent_2")
    allow(hosts, key)
    add(key)
    key.unlink()
    counting = CountingAgent(tmp_path / "counting", env["SSH_AUTH_SOCK"])
    run = hosts.run("echo", "in", config=with_ssh(hosts, identity_file=None), env={"SSH_AUTH_SOCK": str(tmp_path / "counting")})
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    assert counting.asked == {"list": 1, "sign": 2}, counting.asked
    hosts.nothing_left(run)


def test_other_keys_of_the_agent_follow_the_named_one(hosts, agent):
    """Two rounds with the agent on one connection. The first one's socket once kept the head waiting at its end."""
    env, add = agent
    named, good = make_key(hosts, "named_and_refused"), make_key(hosts, "good_at_last")
    allow(hosts, good)
    add(named)
    add(good)
    run = hosts.run("echo", "in", config=with_ssh(hosts, identity_file=str(named)), env=env)
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    assert run.seconds < 4 * (3 if SCALE > 1 else 1), f"{run.seconds:.1f} s"
    hosts.nothing_left(run)


# --- configuration files -----------------------------------------------------------------------------------------------
def ssh_config(hosts, extra):
    """A file that knows addresses and ports, wildcard defaults last as people write them; and hosts that need it."""
    file = hosts.head / f"ssh_config-{len(list(hosts.head.iterdir()))}"
    listed = hosts.base["llmlaunch"]["hosts"]
    file.write_text("".join(f"Host {host['name']}\n  HostName {host['address']}\n  Port {host['port']}\n" for host in listed)
                    + f"Host test*\n  User {listed[0]['user']}\n" + extra)

    def change(data):
        data["llmlaunch"]["hosts"] = [{"name": host["name"], "slots": 1} for host in listed]
        data["llmlaunch"]["ssh"] = {"config_file": str(file)}

    return file, hosts.config(change)


def test_everything_comes_from_the_ssh_configuration(hosts):
    _, config = ssh_config(hosts, f"  IdentityFile {hosts.directory}/user_key\n"
                                  f"  UserKnownHostsFile {hosts.directory}/known_hosts\n")
    run = hosts.run("sh", "-c", "echo $LLMLAUNCH_TEST_HOST", config=config)
    assert run.status == 0, str(run)
    assert "[rank 0 test01] test01" in run.out and "[rank 1 test02] test02" in run.out, str(run)
    hosts.nothing_left(run)


def test_accept_new_from_the_ssh_configuration_writes_the_keys_down(hosts, tmp_path):
    known = tmp_path / "fresh" / "known_hosts"
    _, config = ssh_config(hosts, f"  IdentityFile {hosts.directory}/user_key\n  UserKnownHostsFile {known}\n"
                                  "  StrictHostKeyChecking accept-new\n")
    run = hosts.run("echo", "in", config=config)
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    assert len(known.read_text().splitlines()) == 2
    again = hosts.run("echo", "in", config=config)
    assert again.status == 0 and "accepted" not in again.err, str(again)
    assert len(known.read_text().splitlines()) == 2
    hosts.nothing_left(run)


def test_accept_new_trusts_one_key_for_an_alias_however_many_hosts_bring_one_at_once(hosts, tmp_path):
    """Both are unknown when they are looked up, and stand at the file's lock; the second one is a first contact no more."""
    known = tmp_path / "known_hosts"
    _, config = ssh_config(hosts, f"  IdentityFile {hosts.directory}/user_key\n  UserKnownHostsFile {known}\n"
                                  "  StrictHostKeyChecking accept-new\n  HostKeyAlias all-of-them\n")
    with open(known, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run = hosts.start("echo", "in", config=config)
        wait_until(lambda: opened_by(run.pid).count(str(known)) == 2, f"both hosts at the lock\n{run}")
    run.finish()
    assert run.status == 69 and "the host key has changed" in run.err and f"{known}:1 has SHA256:" in run.err, str(run)
    assert len(known.read_text().splitlines()) == 1
    hosts.nothing_left(run)


def opened_by(pid):
    """The files that a process has open."""
    found = []
    for link in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            found.append(os.readlink(link))
        except OSError:
            pass
    return found


def test_what_is_not_supported_is_named_once_with_its_line(hosts):
    file, config = ssh_config(hosts, f"  IdentityFile {hosts.directory}/user_key\n"
                                     f"  UserKnownHostsFile {hosts.directory}/known_hosts\n"
                                     "  BindAddress 127.0.0.1\n  Ciphers aes128-ctr\n  NoSuchWord 1\n"
                                     "  ForwardAgent yes\n"
                                     "Match exec \"true\"\n  User nobody\nMatch canonical\n  User nobody\n"
                                     "Match final all\n  User nobody\n")
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "BindAddress" in text)
    run = hosts.run("echo", "in", config=config)
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    for number, words in ((line, "BindAddress 127.0.0.1"), (line + 1, "Ciphers aes128-ctr"), (line + 2, "NoSuchWord"),
                          (line + 3, "change nothing here: ForwardAgent"), (line + 4, "Match exec"),
                          (line + 6, "Match canonical"), (line + 8, "Match final")):
        found = [text for text in run.err.splitlines() if f"{file}:{number}" in text]
        assert len(found) == 1 and words in found[0], (words, str(run))
    hosts.nothing_left(run)


def test_include_match_and_an_alias_for_the_host_key(hosts, tmp_path):
    """The key stands in an included block that is chosen by Match; the host's key is known under its alias alone."""
    line = (hosts.directory / "known_hosts").read_text().splitlines()[0]
    known, more = tmp_path / "known", tmp_path / "more"
    known.write_text(" ".join(["first-of-all"] + line.split()[1:]) + "\n")
    user = hosts.base["llmlaunch"]["hosts"][0]["user"]
    more.write_text(f"Match originalhost test0* user {user}\n  IdentityFile {hosts.directory}/user_key\n"
                    f"  HostKeyAlias first-of-all\n  UserKnownHostsFile {known}\nMatch !localuser nobody-here\n"
                    "  StrictHostKeyChecking yes\n")
    _, config = ssh_config(hosts, f"Include {more}\n")
    run = hosts.run("echo", "in", config=config, options=("--hosts", "test01"))
    assert run.status == 0 and run.out.count("in") == 1, str(run)
    hosts.nothing_left(run)


def test_a_mistake_in_the_ssh_configuration_is_named_with_its_line(hosts):
    file, config = ssh_config(hosts, "  Port many\n")
    line = len(file.read_text().splitlines())
    run = hosts.run("true", config=config)
    assert run.status == 78, str(run)
    assert f"{file}:{line}" in run.err and "many" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_configuration_file_that_is_not_there_is_a_wrong_configuration(hosts):
    run = hosts.run("true", config=with_ssh(hosts, config_file="/no/such/ssh_config"))
    assert run.status == 78 and "/no/such/ssh_config" in run.err, str(run)


# --- servers -----------------------------------------------------------------------------------------------------------
class Door:
    """A TCP server in front of a host's sshd. `treat(connection, number)` gets every connection; True: pass it on."""

    def __init__(self, to, treat):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.to, self.treat, self.count = to, treat, 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            self.count += 1
            if self.treat(connection, self.count):
                beyond = socket.create_connection(self.to)
                for a, b in ((connection, beyond), (beyond, connection)):
                    threading.Thread(target=self._copy, args=(a, b), daemon=True).start()
            else:
                connection.close()

    @staticmethod
    def _copy(a, b):
        try:
            while piece := a.recv(1 << 16):
                b.sendall(piece)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            a.close()
            b.close()

    def close(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join(10)


def through(hosts, door):
    def change(data):
        host = data["llmlaunch"]["hosts"][1]
        host.update(address="127.0.0.1", port=door.port)
        # The key is recorded for the real port.
        data["llmlaunch"]["ssh"]["host_key_policy"] = "accept-new"
        data["llmlaunch"]["ssh"]["known_hosts_file"] = str(hosts.head / f"known-{door.port}")

    return hosts.config(change)


def test_connections_that_sshd_drops_are_made_again(hosts):
    """What MaxStartups does: the connection is accepted and closed before a banner was sent, or with a word about it."""
    def busy(connection, number):
        if number == 2:
            connection.sendall(b"Exceeded MaxStartups\r\n")
        return number > 2

    door = Door(("127.0.0.3", hosts.port("test02")), busy)
    run = hosts.run("echo", "in", config=through(hosts, door))
    door.close()
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    assert door.count == 3
    hosts.nothing_left(run)


def test_more_hosts_at_once_than_maxstartups_all_come_in(hosts, extra_sshd):
    """A real sshd that drops whoever is not one of the first two that have not signed in: six names of it at once."""
    sshd = extra_sshd("MaxStartups 2:100:2")
    known = hosts.head / f"known-{sshd.port}"
    known.write_text(sshd.known + "\n")

    def change(data):
        data["llmlaunch"]["hosts"] = [{**sshd.as_host(), "name": f"door{number:02}"} for number in range(6)]
        data["llmlaunch"]["ssh"].update(known_hosts_file=str(known), fanout=6)
        data["llmlaunch"]["timeouts"] = {"connect": 60}  # a busy machine signs in slowly: tries are spaced up to it
        data.update(num_machines=6, num_processes=6)

    run = hosts.run("echo", "in", config=hosts.config(change))
    assert run.status == 0 and run.out.count("] in\n") == 6, str(run)
    assert sshd.said("drop connection") > 0, "nobody was dropped"
    hosts.nothing_left(run)


def test_a_server_that_is_no_sshd_is_named(hosts):
    def web_server(connection, _):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 20)
        return False

    door = Door(None, web_server)
    run = hosts.run("true", config=through(hosts, door))
    door.close()
    assert run.status == 69, str(run)
    assert "what answers at 127.0.0.1 is no sshd: it says 'HTTP/1.1 400 Bad Request'" in run.err, str(run)
    assert door.count == 1, "it was asked again, as if it were a busy sshd"
    hosts.nothing_left(run)


def short(config, seconds):
    return config.replace("log_dir", f"timeouts: {{connect: {seconds}}}\n  log_dir")


@pytest.mark.parametrize("words, step", [(b"", "the wait for sshd's banner with 127.0.0.1 was not done within 1 s"),
                                         (b"SSH-2.0-sleepy\r\n", "key exchange with 127.0.0.1 was not done within 1 s")],
                         ids=["banner", "key exchange"])
def test_a_server_that_falls_silent_is_told_with_the_step(hosts, words, step):
    """What accepts connections and says nothing, or says that it is an sshd and then nothing."""
    held = []

    def silent(connection, _):
        connection.sendall(words)
        held.append(connection.dup())
        return False

    door = Door(None, silent)
    run = hosts.run("true", config=short(through(hosts, door), 1))
    door.close()
    for connection in held:
        connection.close()
    assert run.status == 69 and step in run.err and "llmlaunch.timeouts" in run.err, str(run)
    hosts.nothing_left(run)


def test_the_connect_timeout_of_the_ssh_configuration_is_each_steps_limit(hosts):
    """llmlaunch's own would be 10 s, and wins where somebody has set it."""
    held = []

    def silent(connection, _):
        held.append(connection.dup())
        return False

    door = Door(None, silent)
    file = hosts.head / "ssh_config-impatient"
    file.write_text("Host *\n  ConnectTimeout 1\n")

    def change(data):
        data["llmlaunch"]["hosts"][1].update(address="127.0.0.1", port=door.port)
        data["llmlaunch"]["ssh"]["config_file"] = str(file)

    run = hosts.run("true", config=hosts.config(change))
    own = hosts.run("true", config=short(hosts.config(change), 2))
    door.close()
    for connection in held:
        connection.close()
    assert run.status == 69 and "banner with 127.0.0.1 was not done within 1 s" in run.err, str(run)
    assert own.status == 69 and "banner with 127.0.0.1 was not done within 2 s" in own.err, str(own)
    hosts.nothing_left(own)


def test_an_sshd_that_does_not_decide_on_a_key_is_told_as_such(hosts, extra_sshd):
    """AuthorizedKeysCommand hangs, as one does whose directory server is away."""
    sshd = extra_sshd("AuthorizedKeysCommand /bin/sleep 616", "AuthorizedKeysCommandUser root", "AuthorizedKeysFile none")
    known = hosts.head / f"known-{sshd.port}"
    known.write_text(sshd.known + "\n")

    def change(data):
        data["llmlaunch"]["hosts"] = [sshd.as_host()]
        data["llmlaunch"]["ssh"].update(known_hosts_file=str(known))
        data["llmlaunch"]["timeouts"] = {"connect": 2}
        data.update(num_machines=1, num_processes=1)

    run = hosts.run("true", config=hosts.config(change))
    assert run.status == 69 and f"authentication with {sshd.address} was not done within 2 s" in run.err, str(run)
    todo = children_of(sshd.process.pid)
    while todo:
        todo += children_of(todo[0])
        os.kill(todo.pop(0), signal.SIGKILL)
    hosts.nothing_left(run)


def test_a_name_that_does_not_exist_is_named(hosts):
    def change(data):
        data["llmlaunch"]["hosts"][1].update(name="no-such-host.invalid")
        data["llmlaunch"]["hosts"][1].pop("address")

    run = hosts.run("true", config=hosts.config(change))
    assert run.status == 69, str(run)
    assert "no-such-host.invalid" in run.err and "address" in run.err, str(run)
    hosts.nothing_left(run)


# --- host keys ---------------------------------------------------------------------------------------------------------
def known_hosts(hosts, change_line):
    """A known_hosts file in which test02's line went through `change_line`; gives file and line number."""
    lines = (hosts.directory / "known_hosts").read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if "test02" in line)
    lines[number] = change_line(lines[number])
    file = hosts.head / f"known_hosts-{len(list(hosts.head.iterdir()))}"
    file.write_text("\n".join(lines) + "\n")
    return file, number + 1


def test_hashed_names_are_found(hosts, tmp_path):
    file = tmp_path / "known_hosts"
    shutil.copy(hosts.directory / "known_hosts", file)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "test02" not in file.read_text() and "|1|" in file.read_text()
    run = hosts.run("echo", "in", config=with_ssh(hosts, known_hosts_file=str(file)))
    assert run.status == 0 and run.out.count("in") == 2, str(run)


def test_a_host_that_is_known_by_a_key_of_another_type_is_refused(hosts):
    key = hosts.head / "ecdsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(key)], check=True)
    kind, blob = key.with_suffix(".pub").read_text().split()[:2]
    file, number = known_hosts(hosts, lambda line: f"{line.split()[0]} {kind} {blob}")
    run = hosts.run("true", config=with_ssh(hosts, known_hosts_file=str(file), host_key_policy="accept-new"))
    assert run.status == 69, str(run)
    assert "test02" in run.err and f"{file}:{number}" in run.err and "ecdsa" in run.err and "ed25519" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_revoked_host_key_is_refused(hosts):
    file, number = known_hosts(hosts, lambda line: f"{line}\n@revoked * {' '.join(line.split()[1:3])}")
    run = hosts.run("true", config=with_ssh(hosts, known_hosts_file=str(file)))
    assert run.status == 69, str(run)
    assert "test02" in run.err and "revoked" in run.err and f"{file}:{number + 1}" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_connected_host_costs_two_descriptors_also_with_ssh_agent(hosts, agent):
    """One socket and libssh's copy of it: nothing of the way in stays open."""
    env, add = agent
    key = make_key(hosts, "for_counting")
    allow(hosts, key)
    add(key)

    def open_files(only):
        def change(data):
            data["llmlaunch"]["ssh"].pop("identity_file")

        # `only` first: it decides the hosts that are left.
        text = hosts.config(change, only=only)
        run = hosts.start("sh", "-c", "echo here; exec sleep 600", config=text, env=env)
        wait_until(lambda: run.out.count("here") == len(only), f"all ranks\n{run}")
        count = len(os.listdir(f"/proc/{run.pid}/fd"))
        os.kill(run.pid, 2)
        assert run.finish().status == 130, str(run)
        return count

    one, two = open_files(["test01"]), open_files(["test01", "test02"])
    # Each rank has two log files as well.
    assert two - one == 2 + 2, f"{one} open files with one host, {two} with two"
