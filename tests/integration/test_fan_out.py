"""Hosts that hang, and many that do not: nobody waits behind a host that never answers."""
import json
import socket
import threading

import pytest

HOSTS = 4


class SilentSshd:
    """Takes connections and never says a word; `connections` counts them."""

    def __init__(self, number):
        self.listener = socket.create_server((f"127.0.8.{number}", 0))
        self.name, self.port = f"mute{number}", self.listener.getsockname()[1]
        self.taken = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self):
        while True:
            try:
                self.taken.append(self.listener.accept()[0])
            except OSError:
                return

    def as_host(self):
        return {"name": self.name, "address": self.listener.getsockname()[0], "port": self.port, "slots": 1}

    def close(self):
        self.listener.close()
        for one in self.taken:
            one.close()


@pytest.fixture
def mutes():
    made = [SilentSshd(number) for number in range(1, 7)]
    yield made
    for one in made:
        one.close()


def opening_times(trace):
    """{host: seconds from the job's begin until its agent answered}"""
    events = trace["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    return {names[event["tid"]]: event["ts"] / 1e6 for event in events if event["name"] == "agent hello"}


def test_hosts_that_never_answer_delay_nobody(hosts, mutes):
    """Six silent hosts come first and have both places. The four good ones are open long before anybody gives up."""

    def silent_first(data):
        data["llmlaunch"]["ssh"]["fanout"] = 2
        data["llmlaunch"]["timeouts"] = {"connect": 5}
        own = data["llmlaunch"]["hosts"]
        own[:0] = [mute.as_host() for mute in mutes]
        data["num_machines"] = len(own)
        data["num_processes"] = len(own)

    timeline = hosts.head / "timeline.json"
    run = hosts.run("true", config=hosts.config(silent_first), options=["--timeline", str(timeline)])
    assert run.status == 69, run
    assert run.err.count("the wait for sshd's banner with 127.0.8.") == 1 and "mute[1-6]" in run.err, run
    assert "no rank was started on any host" in run.err, run
    assert [len(mute.taken) for mute in mutes] == [1] * 6, "each was tried, once"
    # Three pairs of silent hosts stand for a second each. In turn they would take 5 s a pair.
    opened = opening_times(json.loads(timeline.read_text()))
    assert sorted(opened) == sorted(hosts.names), run
    assert max(opened.values()) < 9, opened
    hosts.nothing_left(run)
