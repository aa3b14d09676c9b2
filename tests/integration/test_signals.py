"""Which status a signal gives, whichever command it ends: 128 and its number. The host answers nobody, so that all wait."""
import os
import signal
import socket

import pytest

from test_wizard import Talk, basics, desk  # noqa: F401 (a fixture)

HOSTS = 2
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
COMMANDS = {
    "run": ("run", "--hosts", "deaf", "true"),
    "exec": ("exec", "-w", "deaf", "true"),
    "env": ("env", "-w", "deaf"),
    "config": ("config", "-y", "-w", "deaf"),
    "update": ("config", "update", "old.yaml"),
}


@pytest.fixture
def deaf(desk):  # noqa: F811
    """A listening socket that is the host `deaf` of this person."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.97", 0))
        listening.listen(8)
        listening.settimeout(60)
        desk.add("deaf", "127.0.0.97", listening.getsockname()[1], "root")
        (desk.folder / "old.yaml").write_text("llmlaunch: {hosts: [deaf]}\n")
        yield listening


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_signal_is_the_status(hosts, desk, deaf, command, number):  # noqa: F811
    word, *words = COMMANDS[command]
    run = desk.start(*words, command=word)
    connection, _ = deaf.accept()
    with connection:
        os.kill(run.pid, number)
        assert run.finish().status == 128 + number, str(run)
    assert not (desk.folder / "llmlaunch.yaml").exists()
    hosts.nothing_left(run)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("where", ["question", "survey"])
def test_a_signal_to_the_dialogue_is_the_status(hosts, desk, deaf, terminal, where, number):  # noqa: F811
    talk = Talk(terminal, desk.start(terminal=terminal))
    if where == "question":
        talk.asked("Hosts [this machine]")
    else:
        basics(talk, "deaf")
        for question in ("Directory in which", "Line of shell", "Variables to pass", "Directory for the logs"):
            talk.answer(question)
        talk.asked("Asking 1 host what they are")
    os.kill(talk.run.pid, number)
    assert talk.run.finish().status == 128 + number, f"{talk.run}\n{terminal.shown}"
    assert not (desk.folder / "llmlaunch.yaml").exists()
    hosts.nothing_left(talk.run)
