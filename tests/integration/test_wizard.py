"""`llmlaunch config` against real sshd's: the dialogue at a terminal, and what it writes."""
import pathlib
import stat
import subprocess
import termios

import pytest
import yaml

from conftest import Refusing, wait_until
from test_ssh_secrets import PASSWORD, WORDS, password_host  # noqa: F401 (a fixture)
from wizard_desk import desk  # noqa: F401 (a fixture)

HOSTS = 3


class Talk:
    """One dialogue: waits for a question that was not there before, then types."""

    def __init__(self, terminal, run):
        self.terminal, self.run, self.seen = terminal, run, 0
        self.settings = None

    def asked(self, text):
        def look():
            found = self.terminal.shown.find(text, self.seen)
            if found < 0 and self.run.process.poll() is not None:
                pytest.fail(f"it ended and never asked {text!r}:\n{self.terminal.shown}\n{self.run.finish()}")
            return found + 1
        self.seen = wait_until(look, f"{text!r} behind {self.seen} of {self.terminal.shown!r}") - 1 + len(text)

    def answer(self, text, reply=""):
        self.asked(text)
        self.terminal.type(reply + "\n")

    def choose(self, text, reply=""):
        """A question with choices: its keys are read one by one from the moment on that its prompt is there."""
        self.asked(text)
        self.asked("Enter: ")
        self.terminal.type(reply + "\n")


def basics(talk, hosts="test[01-02]"):
    talk.answer("Hosts [this machine]", hosts)
    talk.answer("User on the hosts")
    talk.answer("Port of their sshd")
    talk.answer("Key to sign in with")


def takes_what_is_proposed(talk):
    """From the ranks of each host to the file."""
    talk.answer("Ranks on each host")
    for question in ("Address of this machine", "Network interface", "Mixed precision", "Write out.yaml?"):
        talk.choose(question)
    assert talk.run.finish().status == 0, f"{talk.run}\n{talk.terminal.shown}"


def middle(talk):
    talk.answer("Directory in which the ranks start")
    talk.answer("Line of shell before the ranks")
    talk.answer("Variables to pass on")
    talk.answer("Directory for the logs")


def settings(terminal):
    return termios.tcgetattr(terminal.theirs)


# --- the dialogue ------------------------------------------------------------------------------------------------------
def test_the_whole_dialogue_writes_a_file_that_run_reads(hosts, desk, terminal):
    before = settings(terminal)
    talk = Talk(terminal, desk.start(terminal=terminal))
    basics(talk)
    talk.answer("Directory in which the ranks start", "/tmp")
    talk.answer("Line of shell before the ranks", "export A=1; export B='x y'")
    talk.answer("Variables to pass on", "HF_*")
    talk.answer("Directory for the logs")
    talk.asked("test[01-02] (2)")  # what they are
    talk.answer("Ranks on each host [1]", "2")
    talk.choose("Address of this machine for the ranks")
    talk.choose("Network interface for NCCL and Gloo")
    talk.choose("Mixed precision [no]", "\x1b[B\x1b[B")  # down, down: bf16
    talk.answer("Write to [llmlaunch.yaml]", "job.yaml")
    talk.asked("2 hosts × 2 = 4 ranks on CPUs, precision: bf16")
    talk.asked("num_processes: 4")
    assert not (desk.folder / "job.yaml").exists()
    talk.choose("Write job.yaml?")
    assert talk.run.finish().status == 0, f"{talk.run}\n{terminal.shown}"
    assert desk.written("job.yaml") == {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_CPU", "mixed_precision": "bf16",
        "use_cpu": True, "num_machines": 2, "num_processes": 4, "machine_rank": 0, "main_training_function": "main",
        "llmlaunch": {"hosts": [{"name": "test[01-02]", "slots": 2}], "forward_env": ["HF_*"], "workdir": "/tmp",
                      "setup": ["export A=1", "export B='x y'"]}}
    assert "4 ranks on 2 hosts" in desk.plans("job.yaml")
    assert settings(terminal) == before
    hosts.nothing_left(talk.run)


def test_all_hosts_are_looked_at_while_the_person_answers(hosts, desk, terminal):
    def visits():
        return [(hosts.directory / name / "sshd.log").read_text().count("Accepted publickey") for name in hosts.names]

    before = visits()
    talk = Talk(terminal, desk.start("-o", "out.yaml", terminal=terminal))
    basics(talk, "test[01-03]")
    talk.asked("Directory in which the ranks start")  # and nobody answers
    wait_until(lambda: all(now > then for now, then in zip(visits(), before)), f"visits to all hosts, {before} before")
    assert "Ranks on each host" not in terminal.shown
    terminal.type("/tmp\n")
    talk.answer("Line of shell before the ranks")
    talk.answer("Variables to pass on")
    talk.answer("Directory for the logs")
    takes_what_is_proposed(talk)
    assert desk.written("out.yaml")["num_machines"] == 3
    hosts.nothing_left(talk.run)


def test_help_back_and_answers_that_are_none(hosts, desk, terminal):
    talk = Talk(terminal, desk.start("-o", "out.yaml", terminal=terminal))
    talk.answer("Hosts [this machine]", "back")
    talk.asked("There is no question before this one.")
    talk.answer("Hosts [this machine]", "?")
    talk.asked("names with ranges as gpu[01-16]")
    talk.answer("Hosts [this machine]", "test[03-01")
    talk.asked("test[03-01")
    basics(talk, "test03")
    talk.answer("Directory in which", "back")
    talk.answer("Key to sign in with", "back")
    talk.answer("Port of their sshd", "99999")
    talk.answer("a port is a number from 1 to 65535, not '99999'", "")
    talk.answer("Key to sign in with")
    middle(talk)
    talk.answer("Ranks [1]", "many")
    talk.asked("'many' is no number of ranks")
    talk.answer("Ranks [1]", "test03=3")
    talk.choose("Mixed precision [no]", "9")
    talk.asked("'9' is none of the choices.")
    talk.choose("Mixed precision [no]", "2")
    talk.choose("Write out.yaml?", "n")  # back to the last question
    talk.choose("Mixed precision", "1")
    talk.choose("Write out.yaml?", "yes")
    assert talk.run.finish().status == 0, f"{talk.run}\n{terminal.shown}"
    assert desk.written("out.yaml")["num_processes"] == 3 and desk.written("out.yaml")["mixed_precision"] == "no"
    hosts.nothing_left(talk.run)


@pytest.mark.parametrize("key, status", [("\x03", 130), ("\x04", 130)], ids=["Ctrl-C", "Ctrl-D"])
@pytest.mark.parametrize("where", ["line", "choice"])
def test_nothing_is_written_and_the_terminal_is_as_it_was(hosts, desk, terminal, key, status, where):
    before = settings(terminal)
    talk = Talk(terminal, desk.start(terminal=terminal))
    basics(talk)
    if where == "choice":
        middle(talk)
        talk.answer("Ranks on each host")
        talk.asked("Address of this machine")
        talk.asked("Enter: ")
    else:
        talk.asked("Directory in which the ranks start")
    terminal.type(key)
    assert talk.run.finish().status == status, str(talk.run)
    assert settings(terminal) == before
    desk.nothing_written()
    hosts.nothing_left(talk.run)


def test_a_file_that_is_there_is_overwritten_only_after_a_yes(hosts, desk, terminal):
    (desk.folder / "llmlaunch.yaml").write_text("debug: true\n")
    (desk.folder / "llmlaunch.yaml").chmod(0o640)
    talk = Talk(terminal, desk.start("-w", "test01", "--slots", "1", "--mixed-precision", "no", terminal=terminal))
    for question in ("User on", "Port of", "Key to", "Directory in", "Line of", "Variables", "Directory for", "Write to"):
        talk.answer(question)
    talk.choose("llmlaunch.yaml is there already. Overwrite it? [no]", "")
    talk.answer("Write to")
    assert (desk.folder / "llmlaunch.yaml").read_text() == "debug: true\n"
    talk.choose("Overwrite it? [no]", "yes")
    assert talk.run.finish().status == 0, str(talk.run)
    assert desk.written()["num_machines"] == 1
    assert stat.S_IMODE((desk.folder / "llmlaunch.yaml").stat().st_mode) == 0o640


def test_hosts_that_fail_are_explained_and_may_be_left_out(hosts, desk, terminal):
    with Refusing("127.0.0.98") as port:
        desk.add("gone", "127.0.0.98", port, "root")
        talk = Talk(terminal, desk.start("-o", "out.yaml", terminal=terminal))
        basics(talk, "test01,gone,test02")
        middle(talk)
        talk.asked(f"gone: not reached: connection refused by 127.0.0.98:{port}")
        talk.choose("1 of 3 hosts cannot be used", "1")
        talk.asked("gone: not reached")
        talk.choose("1 of 3 hosts cannot be used", "out")
        takes_what_is_proposed(talk)
    assert desk.written("out.yaml")["llmlaunch"]["hosts"] == [{"name": "test[01-02]", "slots": 1}]
    desk.plans("out.yaml")


def test_an_unknown_host_key_is_shown_and_recorded_after_a_yes(hosts, desk, terminal):
    lines = desk.known.read_text()
    desk.known.write_text("")
    key = hosts.directory / "test01" / "host_key.pub"
    talk = Talk(terminal, desk.start("-o", "out.yaml", terminal=terminal))
    basics(talk)
    middle(talk)
    talk.asked("These hosts show keys that no known_hosts file has:")
    talk.asked("test01")
    talk.asked("SHA256:")
    shown = subprocess.run(["ssh-keygen", "-lf", str(key)], capture_output=True, text=True, check=True).stdout.split()[1]
    assert shown in terminal.shown
    assert desk.known.read_text() == ""
    talk.choose("Are these their keys? They are recorded then [no]", "yes")
    takes_what_is_proposed(talk)
    recorded = {tuple(line.split()[1:3]) for line in desk.known.read_text().splitlines()}  # names may be hashed
    assert len(recorded) == 2 and recorded <= {tuple(line.split()[1:3]) for line in lines.splitlines()}
    desk.plans("out.yaml")
    hosts.nothing_left(talk.run)


def test_a_key_is_installed_over_one_password_session(hosts, desk, terminal, password_host, tmp_path):  # noqa: F811
    """The host takes a password and the keys of a file that is still empty; afterwards it takes ours."""
    config = yaml.safe_load(password_host("PasswordAuthentication yes", "AuthenticationMethods any",
                                          "AuthorizedKeysFile %D/.ssh/authorized_keys".replace("%D", str(tmp_path / "account")),
                                          f"SetEnv HOME={tmp_path / 'account'}"))
    account = tmp_path / "account"
    account.mkdir(mode=0o700)
    key = desk.home / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me@desk", "-f", str(key)], check=True)
    desk.stanzas.clear()
    names = []
    for host in config["llmlaunch"]["hosts"]:
        desk.add(host["name"], host["address"], host["port"], host["user"], key)
        names.append(host["name"])
    known = config["llmlaunch"]["ssh"].get("known_hosts_file")
    desk.known.write_text(pathlib.Path(known).read_text())
    talk = Talk(terminal, desk.start("-o", "out.yaml", terminal=terminal))
    basics(talk, ",".join(names))
    middle(talk)
    talk.asked("was refused")
    talk.choose(f"Install {key}.pub on", "yes")
    talk.asked("Password for all hosts: ")
    terminal.type(WORDS + "\n")
    talk.asked(f"{names[0]}: the key is installed")
    talk.answer("Ranks")
    if len(names) > 1:
        talk.choose("Address of this machine")
        talk.choose("Network interface")
    talk.choose("Mixed precision")
    talk.choose("Write out.yaml?")
    assert talk.run.finish().status == 0, f"{talk.run}\n{terminal.shown}"
    file = account / ".ssh" / "authorized_keys"
    # Both hosts have this home: two may write at once, and a line that stands there twice does no harm.
    assert set(file.read_text().splitlines()) == {key.with_suffix(".pub").read_text().strip()}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert WORDS not in terminal.shown
