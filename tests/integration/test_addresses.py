"""Which address of the head ranks are given, where networks are not simple: hosts in networks of their own. Needs root.

    head ── bridge 10.x.y.254 ──┬── eth0 [ test01 10.x.y.1 ]      what each test adds is drawn at it
                                └── eth0 [ test02 10.x.y.2 ]
"""
import json
import os
import re
import shutil
import socket
import subprocess

import pytest
import yaml

from conftest import BIN, PYTHON

HOSTS = 2
HOST_OPTIONS = ["--netns"]

SHOW = r"""
import os, socket
address, port = os.environ["LLMLAUNCH_RENDEZVOUS"].rsplit(":", 1)
connection = socket.create_connection((address.strip("[]"), int(port)), 10)
print("at", address.strip("[]"), "from", connection.getsockname()[0], "master", os.environ["MASTER_ADDR"],
      "nccl", os.environ.get("NCCL_SOCKET_IFNAME"), "gloo", os.environ.get("GLOO_SOCKET_IFNAME"))
"""


def shown(run):
    """{rank: its words} of SHOW."""
    found = re.findall(r"^\[rank (\d+) \S+\] +at (\S+) from (\S+) master (\S+) nccl (\S+) gloo (\S+)$", run.out, re.M)
    return {int(rank): words for rank, *words in found}


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def network_of(hosts, number):
    return f"{(hosts.directory / 'netns').read_text().strip()}-test0{number}"


def own_address(hosts, number):
    return hosts.base["llmlaunch"]["hosts"][number - 1]["address"]


def bridge_address(hosts):
    return own_address(hosts, 1).rsplit(".", 1)[0] + ".254"


def with_rendezvous(hosts, port=None, env=None, setup=None, **rendezvous):
    def change(data):
        data["llmlaunch"]["rendezvous"] = rendezvous
        if port:
            data["main_process_port"] = port
        if env:
            data["llmlaunch"]["env"] = env
        if setup:
            data["llmlaunch"]["setup"] = setup

    return hosts.config(change)


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def record(hosts):
    return json.loads((hosts.run_directory() / "job.json").read_text())


@pytest.fixture
def firewall(hosts):
    """firewall(number, port): packets of test0<number> to this port of any machine are answered by the kernel's
    prohibition, as a firewall that rejects does; ssh's own go on."""
    made = []

    def close(number, port):
        words = ["-n", network_of(hosts, number), "rule", "{}", "pref", "100", "ipproto", "tcp", "dport", str(port),
                 "prohibit"]
        ip(*[word.format("add") for word in words])
        made.append(words)

    yield close
    for words in made:
        ip(*[word.format("del") for word in words])


def test_each_host_has_the_address_and_the_interface_that_it_reaches_the_head_by(hosts):
    run = hosts.run(PYTHON, "-c", SHOW, config=with_rendezvous(hosts), options=["--verbose"])
    assert run.status == 0, str(run)
    bridge = bridge_address(hosts)
    for rank in range(2):
        assert shown(run)[rank] == [bridge, own_address(hosts, rank + 1), bridge, "=eth0", "eth0"], str(run)
        assert re.search(rf"test0{rank + 1} reaches the rendezvous at {re.escape(bridge)}:\d+, by eth0", run.err), str(run)
    # A probe is a handshake that ends early, and nobody's business.
    assert "closed the connection" not in run.err, str(run)
    assert [(host["rendezvous"].rsplit(":", 1)[0], host["interface"]) for host in record(hosts)["hosts"]] == \
        [(bridge, "eth0")] * 2
    events = [json.loads(line) for line in (hosts.run_directory() / "events.jsonl").read_text().splitlines()]
    assert [(event["host"], event["interface"]) for event in events if event["event"] == "address"] == \
        [("test01", "eth0"), ("test02", "eth0")]
    hosts.nothing_left(run)


def test_what_the_job_or_the_host_says_of_the_interface_counts(hosts):
    run = hosts.run(PYTHON, "-c", SHOW, config=with_rendezvous(hosts, env={"NCCL_SOCKET_IFNAME": "ib0"},
                                                               setup=["export GLOO_SOCKET_IFNAME=lo"]))
    assert run.status == 0, str(run)
    assert [words[3:] for words in shown(run).values()] == [["ib0", "lo"]] * 2, str(run)
    # NCCL's own file is where an administrator says it.
    (hosts.home("test02") / ".nccl.conf").write_text("# the fast network\nNCCL_SOCKET_IFNAME=ib1\n")
    try:
        run = hosts.run(PYTHON, "-c", SHOW, config=with_rendezvous(hosts))
    finally:
        (hosts.home("test02") / ".nccl.conf").unlink()
    assert run.status == 0, str(run)
    assert {rank: words[3] for rank, words in shown(run).items()} == {0: "=eth0", 1: "None"}, str(run)


def test_a_job_on_one_host_is_told_no_interface(hosts):
    run = hosts.run(PYTHON, "-c", SHOW, config=hosts.config(only=["test01"]))
    assert run.status == 0, str(run)
    assert shown(run)[0][3:] == ["None", "None"], str(run)


@pytest.fixture
def second_network(hosts):
    """The head's first address is one that test02 cannot use; its second one it can.

        head ── bridge 10.x.y.254 ── eth0 [ test02 ] eth1 ── 203.0.113.254 head
    """
    net = network_of(hosts, 2)
    head_end = f"lhs{os.getpid()}"[:15]
    ip("link", "add", head_end, "type", "veth", "peer", "name", "eth1", "netns", net)
    ip("addr", "add", "203.0.113.254/24", "dev", head_end)
    ip("link", "set", head_end, "up")
    ip("-n", net, "addr", "add", "203.0.113.2/24", "dev", "eth1")
    ip("-n", net, "link", "set", "eth1", "up")
    yield head_end
    ip("link", "del", head_end)


def test_a_host_whose_second_interface_alone_reaches_the_port_is_told_that_one(hosts, second_network, firewall):
    port, net = free_port(), network_of(hosts, 2)
    firewall(2, port)
    open_way = ["pref", "90", "to", "203.0.113.254", "lookup", "main"]
    ip("-n", net, "rule", "add", *open_way)
    try:
        run = hosts.run(PYTHON, "-c", SHOW, config=with_rendezvous(hosts, port))
    finally:
        ip("-n", net, "rule", "del", *open_way)
    assert run.status == 0, str(run)
    bridge = bridge_address(hosts)
    assert shown(run)[0] == [bridge, own_address(hosts, 1), bridge, "=eth0", "eth0"], str(run)
    assert shown(run)[1] == ["203.0.113.254", "203.0.113.2", "203.0.113.254", "=eth1", "eth1"], str(run)
    hosts.nothing_left(run)


@pytest.fixture
def docker_bridges(hosts):
    """An address that this machine and test01 both have on a bridge of their own, as each machine with Docker does."""
    net = network_of(hosts, 1)
    for where in ([], ["-n", net]):
        ip(*where, "link", "add", "docker7", "type", "bridge")
        ip(*where, "addr", "add", "172.31.99.1/24", "dev", "docker7")
        ip(*where, "link", "set", "docker7", "up")
    yield "172.31.99.1"
    ip("link", "del", "docker7")
    ip("-n", net, "link", "del", "docker7")


def test_an_address_that_is_the_hosts_own_is_no_way_to_the_head(hosts, docker_bridges, firewall):
    """Nothing but what listens on the host itself, at the rendezvous' port, answers."""
    port = free_port()
    firewall(1, port)
    listener = subprocess.Popen(
        ["ip", "netns", "exec", network_of(hosts, 1), PYTHON, "-c",
         f"import socket\ns = socket.create_server(('{docker_bridges}', {port}))\nprint('ready', flush=True)\n"
         "while True:\n    c, _ = s.accept()\n    c.recv(9)\n    c.sendall(b'HTTP/1.1 400 Bad Request')\n    c.close()\n"],
        stdout=subprocess.PIPE, text=True)
    try:
        assert listener.stdout.readline() == "ready\n"
        run = hosts.run(PYTHON, "-c", SHOW, config=with_rendezvous(hosts, port))
    finally:
        listener.kill()
        listener.wait()
        listener.stdout.close()
    assert run.status == 69 and shown(run) == {}, str(run)
    assert f"{docker_bridges}:{port}: what listens there is not the rendezvous" in run.err, str(run)
    hosts.nothing_left(run)
    # Where another way is open, the bridge is not taken, whose address comes before that of the head's network.
    run = hosts.run(PYTHON, "-c", SHOW, config=with_rendezvous(hosts))
    assert run.status == 0 and docker_bridges not in run.out, str(run)


def test_a_host_that_has_ipv6_alone(hosts, extra_sshd):
    net, bridge = network_of(hosts, 2), (hosts.directory / "netns").read_text().strip() + "b"
    v4 = own_address(hosts, 2)
    ip("addr", "add", "fd5a:1::fe/64", "dev", bridge, "nodad")
    ip("-n", net, "addr", "add", "fd5a:1::2/64", "dev", "eth0", "nodad")
    sshd = extra_sshd(name="six", address="fd5a:1::2", under=["ip", "netns", "exec", net])
    ip("-n", net, "addr", "del", f"{v4}/24", "dev", "eth0")
    try:
        data = yaml.safe_load(hosts.config(only=["test01"]))
        known = hosts.head / "known-six"
        known.write_text((hosts.directory / "known_hosts").read_text() + sshd.known + "\n")
        data["llmlaunch"]["hosts"].append(sshd.as_host())
        data["llmlaunch"]["ssh"]["known_hosts_file"] = str(known)
        data.update(num_machines=2, num_processes=2)
        run = hosts.run(PYTHON, "-c", SHOW, config=yaml.safe_dump(data))
    finally:
        ip("-n", net, "addr", "add", f"{v4}/24", "dev", "eth0")
        ip("-n", net, "route", "add", "default", "via", bridge_address(hosts))
        ip("-n", net, "addr", "del", "fd5a:1::2/64", "dev", "eth0")
        ip("addr", "del", "fd5a:1::fe/64", "dev", bridge)
    assert run.status == 0, str(run)
    assert shown(run)[1] == ["fd5a:1::fe", "fd5a:1::2", "fd5a:1::fe", "=eth0", "eth0"], str(run)
    assert shown(run)[0][0] == bridge_address(hosts), str(run)


# A gate that passes connections on to the head, which sees the gate's address.
PASS_ON = r"""
import socket, sys, threading
here, port, there = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def pump(one, other):
    try:
        while piece := one.recv(65536):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
listener = socket.create_server((here, port))
print("ready", flush=True)
while True:
    inner, _ = listener.accept()
    try:
        outer = socket.create_connection((there, port))
    except OSError:
        inner.close()
        continue
    for pair in ((inner, outer), (outer, inner)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def test_behind_a_nat_ranks_take_main_process_ip_and_the_head_sees_another_address(hosts):
    """test02 comes to the head by a gate in test01's network alone."""
    port, gate = free_port(), own_address(hosts, 1)
    passing = subprocess.Popen(["ip", "netns", "exec", network_of(hosts, 1), PYTHON, "-c", PASS_ON, gate, str(port),
                                bridge_address(hosts)], stdout=subprocess.PIPE, text=True)
    net = network_of(hosts, 2)
    rule = ["rule", "add", "pref", "90", "to", bridge_address(hosts), "ipproto", "tcp", "dport", str(port), "prohibit"]
    ip("-n", net, *rule)
    try:
        assert passing.stdout.readline() == "ready\n"
        data = yaml.safe_load(hosts.config(only=["test02"], slots=2))
        data.update(main_process_ip=gate, main_process_port=port)
        run = hosts.run("train", "--max_steps", "2", config=yaml.safe_dump(data), timeout=300)
        assert run.status == 0, str(run)
        shows = hosts.run(PYTHON, "-c", SHOW, config=yaml.safe_dump(data))
        assert shows.status == 0 and shown(shows)[0][0] == gate and shown(shows)[1][2] == gate, shows
    finally:
        ip("-n", net, *[word.replace("add", "del") for word in rule])
        passing.kill()
        passing.wait()
        passing.stdout.close()
    hosts.nothing_left(run)


@pytest.fixture
def nat(hosts):
    """nat(port): connections of test02 to this port of the head come from `address`, which no interface has.

        head ── bridge ── [ gateway's half of test02: source := 198.51.100.x ] ── test02 10.x.y.2
    """
    if not shutil.which("nft"):
        pytest.skip("no nft here, which rewrites addresses; install it: apt-get install nftables")
    net, address = network_of(hosts, 2), f"198.51.100.{1 + os.getpid() % 250}"

    def rewrite(port):
        rules = ("table ip rewritten { chain out { type nat hook postrouting priority 100; "
                 f"ip daddr {bridge_address(hosts)} tcp dport {port} snat to {address}; }}; }}")
        subprocess.run(["ip", "netns", "exec", net, "nft", rules], check=True)
        return address

    ip("route", "add", address, "via", own_address(hosts, 2))  # the head's answers
    yield rewrite
    ip("route", "del", address)
    subprocess.run(["ip", "netns", "exec", net, "nft", "flush", "ruleset"], check=True)  # this network's own


def test_a_nat_that_rewrites_sources_matters_to_pytorchs_store_alone(hosts, nat):
    """Who proves the token is a rank, wherever it comes from. The store, whose dialect knows no secret, asks for the address."""
    port = free_port()
    address = nat(port)
    run = hosts.run(str(BIN / "rendezvous_echo_rank"), config=with_rendezvous(hosts, port))
    assert run.status == 0, str(run)
    assert len(set(re.findall(r"unique id sha256 ([0-9a-f]{64})$", run.out, re.M))) == 1, str(run)
    assert address not in run.err, str(run)

    script = hosts.head / "meets.py"
    script.write_text(WAITS.split("big = ")[0] + 'set_key(b"%d" % rank, b"x")\nget_key(b"%d" % (1 - rank))\n'
                      'print("met", flush=True)\n')
    run = hosts.run(PYTHON, str(script), config=with_rendezvous(hosts, port))
    assert run.status == 1 and "met" not in run.out, str(run)
    assert f"PyTorch's store: refused a connection from {address}, which is no address of the job's hosts" in run.err, str(run)
    assert "add it to llmlaunch.rendezvous.allow_from" in run.err, str(run)
    hosts.nothing_left(run)

    for way in ({"allow_from": [address]}, {"via": "ssh"}):
        run = hosts.run(PYTHON, str(script), config=with_rendezvous(hosts, port, **way))
        assert run.status == 0 and run.out.count("met") == 2, str(run)
        assert "refused" not in run.err, str(run)
    hosts.nothing_left(run)


def test_hosts_that_reach_the_head_nowhere_are_one_message_that_says_what_to_do(hosts, firewall):
    port = free_port()
    for number in (1, 2):
        firewall(number, port)
    run = hosts.run("train", "--max_steps", "1", config=with_rendezvous(hosts, port))
    assert run.status == 69, str(run)
    assert run.err.count("llmlaunch: error:") == 1, str(run)
    assert re.search(rf"no connection to the rendezvous on the head \({re.escape(bridge_address(hosts))}:{port}: Permission "
                     r"denied", run.err), str(run)
    assert "test[01-02]" in run.err or ("test01" in run.err and "test02" in run.err), str(run)
    for remedy in ("open that TCP port", "set main_process_ip", "llmlaunch.rendezvous.via: ssh"):
        assert remedy in run.err, str(run)
    assert "no rank was started" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_main_process_ip_that_does_not_lead_to_the_head_is_found_before_ranks_start(hosts):
    data = yaml.safe_load(hosts.config())
    data["main_process_ip"] = own_address(hosts, 2)
    run = hosts.run(PYTHON, "-c", SHOW, config=yaml.safe_dump(data))
    assert run.status == 69 and shown(run) == {}, str(run)
    assert re.search(rf"{re.escape(own_address(hosts, 2))}:\d+: Connection refused", run.err), str(run)


def test_through_ssh_where_nothing_else_is_open(hosts, firewall):
    port = free_port()
    for number in (1, 2):
        firewall(number, port)
    config = with_rendezvous(hosts, port, via="ssh")
    run = hosts.run("train", "--max_steps", "2", config=config, timeout=300)
    assert run.status == 0, str(run)
    hosts.nothing_left(run)
    run = hosts.run(PYTHON, "-c", SHOW, config=config)
    assert run.status == 0, str(run)
    for rank in range(2):
        # Between the hosts NCCL and Gloo go directly, by the interface of the route towards the head.
        assert shown(run)[rank] == ["127.0.0.1", "127.0.0.1", "127.0.0.1", "=eth0", "eth0"], str(run)
    # The port itself is loopback's, too.
    head = hosts.start("sleep", "30", config=config)
    head.said(f"rendezvous port {port}")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((bridge_address(hosts), port), 5).close()
    head.process.terminate()
    head.finish()
    hosts.nothing_left(run)


WAITS = r"""
import os, socket, struct, sys, time
store = socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), 30)
store.settimeout(100)
def text(key):
    return struct.pack("<Q", len(key)) + key
def read(count):
    piece = b""
    while len(piece) < count:
        got = store.recv(count - len(piece))
        assert got, "the store is gone"
        piece += got
    return piece
store.sendall(b"\x00" + struct.pack("<I", 0x3C85F7CE))
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
def set_key(key, value):
    store.sendall(b"\x01" + text(key) + text(value))
def get_key(key):
    store.sendall(b"\x06" + struct.pack("<Q", 1) + text(key))
    assert read(1) == b"\x00"
    store.sendall(b"\x03" + text(key))
    return read(struct.unpack("<Q", read(8))[0])
big = bytes([65 + rank]) * 3_000_000
set_key(b"before-%d" % rank, b"x")
get_key(b"before-%d" % (1 - rank))
print("joined", flush=True)
set_key(b"big-%d" % rank, big)
got = get_key(b"big-%d" % (1 - rank))
assert got == bytes([66 - rank]) * 3_000_000, len(got)
print("exchanged", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
set_key(b"after-%d" % rank, big)
assert len(get_key(b"after-%d" % (1 - rank))) == 3_000_000
print("all there", flush=True)
"""


def test_carried_connections_outlive_a_cut(hosts):
    """test02's cable is out while its rank has something to say: the rank notices nothing."""
    script, flag = hosts.head / "carried_waits.py", hosts.head / "go-on"
    script.write_text(WAITS)

    def change(data):
        data["llmlaunch"]["rendezvous"] = {"via": "ssh"}
        data["llmlaunch"]["timeouts"] = {"head": "16s"}

    run = hosts.start(PYTHON, str(script), str(flag), config=hosts.config(change))
    for rank in (0, 1):
        run.said(f"[rank {rank} test0{rank + 1}] exchanged")
    net = network_of(hosts, 2)
    ip("-n", net, "link", "set", "eth0", "down")
    flag.touch()
    run.said("its ranks run on", timeout=90)
    ip("-n", net, "link", "set", "eth0", "up")
    ip("-n", net, "route", "replace", "default", "via", bridge_address(hosts))
    run.finish(120)
    assert run.status == 0, str(run)
    assert run.out.count("all there") == 2, str(run)
    flag.unlink()
    # The old connection's sshd hears of its end when TCP tries again, and TCP has doubled its pause all through the cut.
    hosts.nothing_left(run, within=30)


def test_a_connection_of_another_user_is_refused(hosts):
    script = hosts.head / "stranger.py"
    script.write_text("import os, subprocess, socket\n"
                      "port = int(os.environ['MASTER_PORT'])\n"
                      "code = ('import socket; s = socket.create_connection((\"127.0.0.1\", %d), 10); '\n"
                      "        's.settimeout(20); print(\"heard\", s.recv(1))' % port)\n"
                      "said = subprocess.run(['setpriv', '--reuid', '12345', '--clear-groups', '/usr/bin/python3', '-c', code],\n"
                      "                      capture_output=True, text=True)\n"
                      "print('stranger:', said.stdout.strip() or said.stderr.strip().splitlines()[-1])\n")
    def change(data):
        data["llmlaunch"]["rendezvous"] = {"via": "ssh"}

    run = hosts.run(PYTHON, str(script), config=hosts.config(change, only=["test01"]))
    assert run.status == 0, str(run)
    assert re.search(r"stranger: (heard b''|ConnectionResetError)", run.out), str(run)
    assert re.search(r"test01 said: .*closed a connection to port \d+ of 127.0.0.1.*: it is user 12345's", run.err), str(run)


def test_a_rank_that_does_not_read_holds_up_nobody(hosts):
    """Rank 0 asks for 6 MB and reads none of it; its output and the other rank go on."""
    script = hosts.head / "deaf.py"
    script.write_text(WAITS.split("big = ")[0] + r"""
if rank == 1:
    for i in range(6):
        set_key(b"much-%d" % i, b"z" * 1_000_000)
    print("set", flush=True)
else:
    for i in range(6):
        store.sendall(b"\x06" + struct.pack("<Q", 1) + text(b"much-%d" % i))
        assert read(1) == b"\x00"
    for i in range(6):
        store.sendall(b"\x03" + text(b"much-%d" % i))
    for line in range(20000):
        print("line", line)
    print("done", flush=True)
""")
    def change(data):
        data["llmlaunch"]["rendezvous"] = {"via": "ssh"}

    run = hosts.run(PYTHON, str(script), config=hosts.config(change))
    assert run.status == 0, run.err
    assert "line 19999" in run.out and "[rank 0 test01] done" in run.out and "[rank 1 test02] set" in run.out
    hosts.nothing_left(run)
