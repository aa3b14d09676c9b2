"""`llmlaunch env`: the facts of this machine and of real ssh hosts."""
import json
import os

import uuid

from conftest import BIN, MARK, Refusing, Run

HOSTS = 3


def env(hosts, *words, extra=None, config=True):
    mark = uuid.uuid4().hex
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LLMLAUNCH_")}
    for name in ("SSH_AUTH_SOCK", "WCOLL", "SSH_CONNECTION"):
        environment.pop(name, None)
    environment.update({"HOME": str(hosts.head / "home"), "TMPDIR": str(hosts.head / "tmp"), MARK: mark})
    environment.update(extra or {})
    command = [str(BIN / "llmlaunch"), "env"]
    if config:
        file = hosts.head / f"cfg-{mark[:8]}.yaml"
        file.write_text(hosts.config(config if callable(config) else None))
        command += ["-c", str(file)]
    run = Run([*command, *words], environment, hosts.head, mark)
    hosts.runs.append(run)
    return run.finish()


def memory_kib():
    with open("/proc/meminfo") as stream:
        return int(next(line for line in stream if line.startswith("MemTotal:")).split()[1])


def test_this_machine_is_told_as_it_is(hosts):
    run = env(hosts, "--json", config=False)
    assert run.status == 0, str(run)
    (host,) = json.loads(run.out)["hosts"]
    assert host["memory_kib"] == memory_kib() and host["kernel"] == f"Linux {os.uname().release}"
    assert host["cores"] == os.sysconf("SC_NPROCESSORS_ONLN")
    assert {one["name"] for one in host["interfaces"]} == set(os.listdir("/sys/class/net"))
    text = env(hosts, config=False).out
    assert os.uname().release in text and "interface" in text and "lo loopback" in text, text


def test_equal_hosts_are_one_column(hosts):
    run = env(hosts, "--all")
    assert run.status == 0 and run.err == "", str(run)
    assert run.out.splitlines()[0].split() == ["test[01-03]", "(3)"], str(run)
    assert "≠" not in run.out and "way to head       lo" in run.out and "as the head's" in run.out, str(run)
    hosts.nothing_left(run)


def test_the_way_to_the_head_is_that_of_ssh(hosts):
    told = json.loads(env(hosts, "--all", "--json").out)
    assert told["differences"] == []
    for host, name in zip(told["hosts"], hosts.names):
        address = next(one["address"] for one in hosts.base["llmlaunch"]["hosts"] if one["name"] == name)
        assert (host["host"], host["route_address"], host["route_interface"]) == (name, address, "lo")
        assert host["head"].startswith("127.") and abs(host["clock_ahead_ms"]) < 60_000


def fake_nvidia_smi(hosts, name, gpus, driver):
    """Puts one first in a host's PATH, by what its sshd sets for sessions: a program of that name answers as the real
    one does."""
    folder = hosts.head / f"bin-{name}"
    folder.mkdir(exist_ok=True)
    lines = "".join(f"{i}, NVIDIA H100 80GB HBM3, 81559, 9.0, {driver}\n" for i in range(gpus))
    smi = folder / "nvidia-smi"
    smi.write_text("#!/bin/sh\ncase $1 in\n--query-gpu=*) cat <<'X'\n" + lines + "X\n;;\n"
                   f"*) echo '| NVIDIA-SMI {driver}  Driver Version: {driver}  CUDA Version: 12.4 |';;\nesac\n")
    smi.chmod(0o755)
    return folder


def test_gpus_and_drivers_that_differ_are_marked(hosts, extra_sshd):
    made = []
    for name, gpus, driver in (("gpu01", 8, "550.54.15"), ("gpu02", 8, "550.54.15"), ("gpu03", 7, "535.104.05")):
        path = fake_nvidia_smi(hosts, name, gpus, driver)
        conf = (hosts.directory / "test01" / "sshd.conf").read_text()
        setenv = next((line for line in conf.splitlines() if line.startswith("SetEnv ")), "SetEnv")
        made.append(extra_sshd(f"{setenv} PATH={path}:/usr/bin:/bin", name=name))
    known = hosts.head / "known-gpus"
    known.write_text("".join(sshd.known + "\n" for sshd in made))

    def change(data):
        data["llmlaunch"]["hosts"] = [sshd.as_host() for sshd in made]
        data["llmlaunch"]["ssh"]["known_hosts_file"] = str(known)

    run = env(hosts, "--all", config=change)
    assert run.status == 0, str(run)
    head = run.out.splitlines()[0]
    assert head.split() == ["gpu[01-02]", "(2)", "gpu03"], str(run)
    assert "8 × NVIDIA H100 80GB HBM3 (80 GiB)" in run.out and "≠ 7 × NVIDIA H100 80GB HBM3" in run.out, str(run)
    assert any(line.startswith("≠ driver") and "550.54.15" in line and "≠ 535.104.05" in line
               for line in run.out.splitlines()), str(run)
    told = json.loads(env(hosts, "--all", "--json", config=change).out)
    assert set(told["differences"]) == {"gpus", "driver"}
    assert [len(host["gpus"]) for host in told["hosts"]] == [8, 8, 7]
    assert told["hosts"][0]["gpus"][0] == {"name": "NVIDIA H100 80GB HBM3", "memory_mib": 81559, "compute_capability": "9.0"}
    assert told["hosts"][0]["cuda_driver"] == "12.4"


def test_a_host_that_is_not_reached_is_a_row_with_its_reason(hosts):
    with Refusing("127.0.0.99") as port:
        def change(data):
            data["llmlaunch"]["hosts"].append({"name": "gone", "address": "127.0.0.99", "port": port})

        run = env(hosts, "--all", config=change)
        assert run.status == 69, str(run)
        assert "test[01-03] (3)" in run.out and f"gone: not reached: connection refused by 127.0.0.99:{port}" in run.out, str(run)
        told = json.loads(env(hosts, "--all", "--json", config=change).out)
        assert [host["reached"] for host in told["hosts"]] == [True, True, True, False]
        assert "refused" in told["hosts"][3]["reason"]


def test_words_that_are_wrong_are_usage(hosts):
    assert env(hosts, "gpu01", config=False).status == 64
    run = env(hosts, "--all", config=False)
    assert run.status == 64 and "env: no hosts are named" in run.err, str(run)
