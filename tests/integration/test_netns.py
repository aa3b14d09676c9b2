"""The same over separate networks: each host has its own network namespace, addresses and hostname. Needs root."""
import re

HOSTS = 2
HOST_OPTIONS = ["--netns"]

REACH = r"""
import os, socket
address, port = os.environ["LLMLAUNCH_RENDEZVOUS"].rsplit(":", 1)
connection = socket.create_connection((address.strip("[]"), int(port)), 10)
print(socket.gethostname(), connection.getsockname()[0], address, os.environ["MASTER_ADDR"])
"""

def test_hosts_with_networks_of_their_own_reach_the_head_and_say_their_own_names(hosts):
    run = hosts.run("/usr/bin/python3", "-c", REACH)
    assert run.status == 0, str(run)
    lines = dict(re.findall(r"^\[rank (\d) \S+\] (.*)$", run.out, re.M))
    addresses = [host["address"] for host in hosts.base["llmlaunch"]["hosts"]]
    bridge = addresses[0].rsplit(".", 1)[0] + ".254"
    for rank in range(2):
        hostname, own, rendezvous, master = lines[str(rank)].split()
        assert hostname == f"test0{rank + 1}", "the UTS namespace's own hostname"
        assert own == addresses[rank]
        assert rendezvous == bridge, "the address by which the hosts see the head"
        assert master == addresses[0], "rank 0's host as the others reach it, and no loopback address"
    hosts.nothing_left(run)

def test_training_crosses_the_bridge(hosts):
    run = hosts.run("train", "--max_steps", "4", timeout=300)
    assert run.status == 0, str(run)
    hosts.nothing_left(run)
