"""The same over separate networks: each host has its own network namespace, addresses and hostname. Needs root."""
import os
import pathlib
import re
import subprocess

import pytest
import yaml

from conftest import wait_until

HOSTS = 2
HOST_OPTIONS = ["--netns"]

REACH = r"""
import os, socket
address, port = os.environ["LLMLAUNCH_RENDEZVOUS"].rsplit(":", 1)
connection = socket.create_connection((address.strip("[]"), int(port)), 10)
print(socket.gethostname(), connection.getsockname()[0], address, os.environ["MASTER_ADDR"])
"""

@pytest.mark.parametrize("at_head", [True, False])
def test_hosts_with_networks_of_their_own_reach_the_head_and_say_their_own_names(hosts, at_head):
    def change(data):
        data["llmlaunch"]["rendezvous"] = {"use_agent_store": at_head}

    run = hosts.run("/usr/bin/python3", "-c", REACH, config=hosts.config(change))
    assert run.status == 0, str(run)
    lines = dict(re.findall(r"^\[rank (\d) \S+\] (.*)$", run.out, re.M))
    addresses = [host["address"] for host in hosts.base["llmlaunch"]["hosts"]]
    bridge = addresses[0].rsplit(".", 1)[0] + ".254"
    for rank in range(2):
        hostname, own, rendezvous, master = lines[str(rank)].split()
        assert hostname == f"test0{rank + 1}", "the UTS namespace's own hostname"
        assert own == addresses[rank]
        assert rendezvous == bridge, "the address by which the hosts see the head"
        # Where PyTorch's store is; rank 0's host as the others reach it, and no loopback address.
        assert master == (bridge if at_head else addresses[0])
    hosts.nothing_left(run)

SERVE = """
import os, socket
where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    with socket.create_server(where) as server:
        print("port", where[1], flush=True)
        server.accept()[0].sendall(b"served")
else:
    while True:
        try:
            connection = socket.create_connection(where, 10)
            break
        except ConnectionRefusedError:
            pass
    print(connection.recv(6).decode(), flush=True)
"""


def test_the_port_of_rank_0s_own_store_is_free_on_its_host(hosts):
    """Its network hands out ports that the head's never does."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    net = next(name for name in names if name.startswith((hosts.directory / "netns").read_text().strip() + "-")
               and name.endswith("test01"))
    subprocess.run(["ip", "netns", "exec", net, "sysctl", "-qw", "net.ipv4.ip_local_port_range=20000 20100"], check=True)
    head = [int(word) for word in pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()]
    assert head[0] > 20100

    def change(data):
        data["llmlaunch"]["rendezvous"] = {"use_agent_store": False}

    run = hosts.run("/usr/bin/python3", "-c", SERVE, config=hosts.config(change))
    assert run.status == 0, str(run)
    port = int(re.search(r"^\[rank 0 test01\] port (\d+)$", run.out, re.M).group(1))
    assert 20000 <= port <= 20100 and "[rank 1 test02] served\n" in run.out, str(run)
    hosts.nothing_left(run)


def test_training_crosses_the_bridge(hosts):
    run = hosts.run("train", "--max_steps", "4", timeout=300)
    assert run.status == 0, str(run)
    # Machines share no memory, though here they are one.
    assert re.search(r" ranks, gloo on 10\.", run.out), str(run)
    hosts.nothing_left(run)


@pytest.fixture
def far_host(hosts, extra_sshd):
    """A host in a network of its own behind test01: this machine has no way to it. (sshd, its network's name)"""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    gate = next(name for name in names if name.startswith((hosts.directory / "netns").read_text().strip() + "-")
                and name.endswith("test01"))
    far = f"far{os.getpid()}"

    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    ip("netns", "add", far)
    try:
        ip("-n", gate, "link", "add", "inner", "type", "veth", "peer", "name", "eth0", "netns", far)
        ip("-n", gate, "addr", "add", "198.51.100.1/24", "dev", "inner")
        ip("-n", gate, "link", "set", "inner", "up")
        for words in (["addr", "add", "198.51.100.2/24", "dev", "eth0"], ["link", "set", "eth0", "up"],
                      ["link", "set", "lo", "up"]):
            ip("-n", far, *words)
        yield extra_sshd(name="far", address="198.51.100.2", under=["ip", "netns", "exec", far])
    finally:
        subprocess.run(["ip", "-n", gate, "link", "del", "inner"], check=False)
        subprocess.run(["ip", "netns", "del", far], check=False)


def behind_the_gate(hosts, sshd):
    gate = hosts.base["llmlaunch"]["hosts"][0]
    known = hosts.head / "known-far"
    known.write_text((hosts.directory / "known_hosts").read_text() + sshd.known + "\n")
    data = yaml.safe_load(hosts.config())
    data["llmlaunch"]["hosts"] = [dict(sshd.as_host(), proxy_jump=gate["address"])]
    data["llmlaunch"]["ssh"]["known_hosts_file"] = str(known)
    data.update(num_machines=1, num_processes=1)
    return yaml.safe_dump(data, sort_keys=False)


def test_a_host_that_only_the_jump_host_reaches_runs_ranks(hosts, far_host):
    config = yaml.safe_load(behind_the_gate(hosts, far_host))
    config["llmlaunch"]["rendezvous"] = {"via": "ssh"}  # no packet of it comes to the head but by the gate
    run = hosts.run("train", "--max_steps", "1", config=yaml.safe_dump(config), timeout=300)
    assert run.status == 0, str(run)
    direct = yaml.safe_load(behind_the_gate(hosts, far_host))
    del direct["llmlaunch"]["hosts"][0]["proxy_jump"]
    direct["llmlaunch"]["timeouts"] = {"connect": 1}
    refused = hosts.run("true", config=yaml.safe_dump(direct))
    assert refused.status == 69 and "198.51.100.2" in refused.err, str(refused)
    hosts.nothing_left(run)


def test_a_host_that_does_not_reach_the_head_is_told_what_to_set(hosts, far_host):
    """Its only way is the jump host, and no packet of it comes to the head: said before any rank is started."""
    run = hosts.run("train", "--max_steps", "1", config=behind_the_gate(hosts, far_host))
    assert run.status == 69, str(run)
    assert re.search(r"no connection to the rendezvous on the head \(10\.\S+: Network is unreachable", run.err), str(run)
    assert "set main_process_ip to an address of this machine that they reach" in run.err, str(run)
    hosts.nothing_left(run)


def network_of(hosts, number):
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    prefix = (hosts.directory / "netns").read_text().strip()
    return next(name for name in names if name == f"{prefix}-test0{number}")


def start_one_by_one(hosts, *program, patience=3):
    """`llmlaunch run --machine_rank R` in both networks, without ssh; (runs, networks)."""
    token = hosts.head / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    config = yaml.safe_dump({
        "num_machines": 2, "num_processes": 2, "main_process_ip": hosts.base["llmlaunch"]["hosts"][0]["address"],
        "llmlaunch": {"token_file": str(token), "log_dir": str(hosts.head / "one-by-one"),
                      "timeouts": {"head": patience, "grace": 1}}})
    networks = [network_of(hosts, 1), network_of(hosts, 2)]
    runs = [hosts.start(*program, config=config, options=["--machine_rank", str(rank)],
                        under=["ip", "netns", "exec", networks[rank]]) for rank in range(2)]
    return runs, networks


def test_machines_started_one_by_one_meet_over_their_networks(hosts):
    runs, _ = start_one_by_one(hosts, "/usr/bin/python3", "-c", REACH)
    text = "\n".join(str(run.finish()) for run in runs)
    assert [run.status for run in runs] == [0, 0], text
    lines = dict(re.findall(r"^\[rank (\d) machine\d\] (.*)$", runs[0].out, re.M))
    addresses = [host["address"] for host in hosts.base["llmlaunch"]["hosts"]]
    for rank in range(2):
        assert lines[str(rank)].split()[1:] == [addresses[rank], addresses[0], addresses[0]], text
    for run in runs:
        hosts.nothing_left(run)


def test_machines_that_are_started_by_the_same_words_find_who_leads_by_its_address(hosts):
    token = hosts.head / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    addresses = [host["address"] for host in hosts.base["llmlaunch"]["hosts"]]
    config = yaml.safe_dump({"machine_rank": 0, "llmlaunch": {"log_dir": str(hosts.head / "alike")}})
    words = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{addresses[1]}:29400",
             "--token-file", str(token)]
    runs = [hosts.start("/usr/bin/python3", "-c", REACH, config=config, options=words,
                        under=["ip", "netns", "exec", network_of(hosts, number)]) for number in (1, 2)]
    text = "\n".join(str(run.finish()) for run in runs)
    assert [run.status for run in runs] == [0, 0], text
    assert "it leads as machine 0" in runs[1].err and "machine 1 of 2 has joined the job" in runs[0].err, text
    lines = dict(re.findall(r"^\[rank (\d) machine\d\] (.*)$", runs[1].out, re.M))
    for rank, address in enumerate(reversed(addresses)):
        assert lines[str(rank)].split()[1:] == [address, addresses[1], addresses[1]], text
    for run in runs:
        hosts.nothing_left(run)


def test_a_cut_between_machines_started_one_by_one_ends_the_ranks_on_both_sides(hosts):
    runs, networks = start_one_by_one(hosts, "sh", "-c", "echo ready; exec sleep 600")
    runs[0].said("[rank 0 machine0] ready")
    runs[0].said("[rank 1 machine1] ready")
    subprocess.run(["ip", "-n", networks[1], "link", "set", "eth0", "down"], check=True)
    try:
        text = "\n".join(str(run.finish()) for run in runs)
    finally:
        subprocess.run(["ip", "-n", networks[1], "link", "set", "eth0", "up"], check=True)
    assert [run.status for run in runs] == [69, 69], text
    assert "machine1 (node_rank 1, rank 1): not a byte from it within 3 s" in runs[0].err, text
    assert "the agent of this machine ended, and machine 0 at" in runs[1].err, text
    for run in runs:
        hosts.nothing_left(run)


# Machine 1's rank speaks when it may, then both wait for their end.
SPEAK = """
import os, sys, time
def wait(name):
    while not os.path.exists(os.path.join(sys.argv[1], name)): time.sleep(0.01)
print("ready", flush=True)
if os.environ["RANK"] == "1":
    wait("speak")
    print("through", flush=True)
wait("end")
"""


def test_a_cut_that_is_shorter_than_timeouts_head_costs_machines_started_one_by_one_nothing(hosts, tmp_path):
    runs, networks = start_one_by_one(hosts, "/usr/bin/python3", "-c", SPEAK, str(tmp_path), patience=60)
    for rank in (0, 1):
        runs[0].said(f"[rank {rank} machine{rank}] ready")

    def bytes_that_are_lost():
        sockets = subprocess.run(["ip", "netns", "exec", networks[1], "ss", "-Htin", "state", "established"],
                                 capture_output=True, text=True, check=True).stdout
        return re.search(r"\bbackoff:[1-9]", sockets)

    subprocess.run(["ip", "-n", networks[1], "link", "set", "eth0", "down"], check=True)
    try:
        (tmp_path / "speak").touch()
        wait_until(bytes_that_are_lost, "that machine 1 sends the same bytes again and again")
        assert "through" not in runs[0].out, str(runs[0])
    finally:
        subprocess.run(["ip", "-n", networks[1], "link", "set", "eth0", "up"], check=True)
    runs[0].said("[rank 1 machine1] through")
    (tmp_path / "end").touch()
    text = "\n".join(str(run.finish()) for run in runs)
    assert [run.status for run in runs] == [0, 0] and "lost" not in text, text
    for run in runs:
        hosts.nothing_left(run)
