"""`llmlaunch config` against real sshd's: the dialogue at a terminal, the same without one, and what it writes."""
import os
import pathlib
import signal
import socket
import stat
import subprocess
import termios
import uuid

import pytest
import yaml

from conftest import BIN, MARK, Refusing, Run, wait_until
from test_ssh_secrets import PASSWORD, WORDS, password_host  # noqa: F401 (a fixture)

HOSTS = 3


class Desk:
    """A person's home with an ssh configuration for some hosts, and a working directory."""

    def __init__(self, hosts, folder):
        self.hosts, self.folder = hosts, folder
        self.home = folder / "home"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        self.known = self.home / ".ssh" / "known_hosts"
        self.known.write_text((hosts.directory / "known_hosts").read_text())
        self.stanzas = []
        for host in hosts.base["llmlaunch"]["hosts"]:
            self.add(host["name"], host["address"], host["port"], host["user"])

    def add(self, name, address, port, user, key=None):
        self.stanzas.append(f"Host {name}\n  HostName {address}\n  Port {port}\n  User {user}\n"
                            f"  IdentityFile {key or self.hosts.directory / 'user_key'}\n")
        (self.home / ".ssh" / "config").write_text("".join(self.stanzas))

    def start(self, *words, terminal=None, env=None, command="config"):
        mark = uuid.uuid4().hex
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LLMLAUNCH_", "SLURM_"))}
        for name in ("SSH_AUTH_SOCK", "WCOLL", "HF_HOME", "XDG_CACHE_HOME"):
            environment.pop(name, None)
        environment.update({"HOME": str(self.home), "TMPDIR": str(self.hosts.head / "tmp"), "TERM": "xterm", MARK: mark})
        environment.update(env or {})
        run = Run([str(BIN / "llmlaunch"), command, *words], environment, self.folder, mark, terminal=terminal)
        self.hosts.runs.append(run)
        return run

    def run(self, *words, **more):
        return self.start(*words, **more).finish()

    def written(self, name="llmlaunch.yaml"):
        return yaml.safe_load((self.folder / name).read_text())

    def plans(self, name="llmlaunch.yaml"):
        """That `llmlaunch run` reads the file and makes a plan of it."""
        run = self.run("--config", str(self.folder / name), "--dry-run", "true", command="run")
        assert run.status == 0, str(run)
        return run.out

    def nothing_written(self):
        assert sorted(path.name for path in self.folder.iterdir()) == ["home"]


@pytest.fixture
def desk(hosts, tmp_path):
    return Desk(hosts, tmp_path)


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


# --- without a terminal ------------------------------------------------------------------------------------------------
def test_without_a_terminal_it_says_how_to_go_on(hosts, desk):
    run = desk.run()
    assert run.status == 64 and "there is no terminal to ask at" in run.err and "--non-interactive" in run.err, str(run)
    desk.nothing_written()


def test_non_interactive_takes_what_would_be_proposed(hosts, desk):
    run = desk.run("--non-interactive", "-w", "test[01-03]", "--mixed-precision", "fp16", "--log-dir", "my logs")
    assert run.status == 0 and "3 hosts × 1 = 3 ranks" in run.err, str(run)
    data = desk.written()
    assert data["llmlaunch"] == {"hosts": [{"name": "test[01-03]", "slots": 1}], "log_dir": "my logs"}
    assert data["mixed_precision"] == "fp16" and data["num_machines"] == 3
    desk.plans()
    before = (desk.folder / "llmlaunch.yaml").read_text()
    run = desk.run("--non-interactive", "-w", "test01")
    assert run.status == 64 and "is there already" in run.err, str(run)
    assert (desk.folder / "llmlaunch.yaml").read_text() == before
    assert desk.run("--non-interactive", "-w", "test01", "--force").status == 0
    assert desk.written()["num_machines"] == 1


def test_answers_come_from_a_file_and_options_win(hosts, desk):
    (desk.folder / "answers.yaml").write_text("hosts: [test01, test02]\nslots: test01=2 test02=1\nmixed_precision: bf16\n"
                                              "setup: ['a; b', c]\nforward_env: HF_*\ninterface: eth7\n")
    run = desk.run("-y", "--answers", "answers.yaml", "--mixed-precision", "no", "-o", "out.yaml")
    assert run.status == 0, str(run)
    data = desk.written("out.yaml")
    assert data["num_processes"] == 3 and data["mixed_precision"] == "no"
    assert data["llmlaunch"]["hosts"] == [{"name": "test01", "slots": 2}, {"name": "test02", "slots": 1}]
    assert data["llmlaunch"]["setup"] == ["a; b", "c"]
    assert data["llmlaunch"]["env"] == {"NCCL_SOCKET_IFNAME": "=eth7", "GLOO_SOCKET_IFNAME": "eth7"}
    desk.plans("out.yaml")


def test_wrong_answers_are_told_with_their_place(hosts, desk):
    answers = desk.folder / "home" / "answers.yaml"
    answers.write_text("hosts: test01\nslot: 2\n")
    run = desk.run("-y", "--answers", str(answers))
    assert run.status == 78 and f"{answers}:2:1: there is no question 'slot'" in run.err and "'slots'?" in run.err, str(run)
    answers.write_text("hosts: test01\nport: 0\n")
    run = desk.run("-y", "--answers", str(answers))
    assert run.status == 78 and f"{answers}:2:1: port: a port is a number" in run.err, str(run)
    run = desk.run("-y", "-w", "test01", "--slots", "0")
    assert run.status == 64 and "--slots: '0' is no number of ranks" in run.err, str(run)
    desk.nothing_written()


def test_a_host_that_fails_ends_a_script_with_69_and_no_file(hosts, desk):
    with Refusing("127.0.0.97") as port:
        desk.add("gone", "127.0.0.97", port, "root")
        run = desk.run("-y", "-w", "test01,gone")
        assert run.status == 69 and "1 of 2 hosts cannot be used" in run.err and "gone: not reached" in run.err, str(run)
        desk.nothing_written()
        run = desk.run("-y", "-w", "test01,gone", "--keep-unreachable")
        assert run.status == 0 and desk.written()["num_machines"] == 2, str(run)


def test_unknown_host_keys_are_refused_unless_they_are_asked_for(hosts, desk):
    desk.known.write_text("")
    run = desk.run("-y", "-w", "test01")
    assert run.status == 69 and "the host key is not known" in run.err, str(run)
    assert desk.known.read_text() == ""
    run = desk.run("-y", "-w", "test01", "--accept-new-host-keys")
    assert run.status == 0 and len(desk.known.read_text().splitlines()) == 1, str(run)


def test_no_probe_contacts_nobody(hosts, desk):
    run = desk.run("-y", "-w", "nowhere[1-2]", "--no-probe", "--slots", "4", "-o", "-")
    assert run.status == 0, str(run)
    data = yaml.safe_load(run.out)
    assert data["num_processes"] == 8 and data["llmlaunch"]["hosts"] == [{"name": "nowhere[1-2]", "slots": 4}]


def test_a_host_file_gives_its_slots(hosts, desk):
    (desk.folder / "hostfile").write_text("test01 slots=3\ntest02 slots=1\n")
    run = desk.run("-y", "--hostfile", "hostfile")
    assert run.status == 0, str(run)
    assert desk.written()["num_processes"] == 4


def test_ctrl_c_without_questions_leaves_nothing(hosts, desk):
    silent = desk.folder / "home" / "silent"
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.96", 0))
        deaf.listen(8)
        desk.add("deaf", "127.0.0.96", deaf.getsockname()[1], "root")
        run = desk.start("-y", "-w", "deaf")
        connection, _ = deaf.accept()
        os.kill(run.pid, signal.SIGINT)
        run.finish()
        connection.close()
    assert run.status == 130 and not silent.exists(), str(run)
    desk.nothing_written()


# --- default, update, import ---------------------------------------------------------------------------------------------
def test_default_writes_accelerates_file_for_this_machine_once(hosts, desk):
    run = desk.run("default")
    assert run.status == 0, str(run)
    file = desk.home / ".cache" / "huggingface" / "accelerate" / "default_config.yaml"
    data = yaml.safe_load(file.read_text())
    assert data["num_machines"] == 1 and "llmlaunch" not in data
    before = file.read_bytes()
    assert desk.run("default").status == 64 and file.read_bytes() == before
    assert "configuration: " + str(file) in desk.run("--dry-run", "true", command="run").err


def test_update_keeps_what_is_there_and_adds_what_is_new(hosts, desk):
    file = desk.folder / "old.yaml"
    old = "# mine\nmixed_precision: fp16   # not bf16\nllmlaunch:\n  hosts: ['test[01-02]']"
    file.write_text(old)
    run = desk.run("update", "old.yaml")
    assert run.status == 0 and "added compute_environment" in run.err, str(run)
    assert file.read_text().startswith(old + "\n")
    data = desk.written("old.yaml")
    assert (data["mixed_precision"], data["num_machines"], data["num_processes"]) == ("fp16", 2, 2)
    desk.plans("old.yaml")
    again = desk.run("update", "old.yaml")
    assert again.status == 0 and "has everything" in again.err, str(again)


@pytest.mark.parametrize("text, status", [("{num_processes: 2}\n", 78), ("num_process: 2\n", 78)])
def test_update_leaves_a_file_alone_that_it_cannot_add_to(hosts, desk, text, status):
    file = desk.folder / "old.yaml"
    file.write_text(text)
    run = desk.run("update", "old.yaml", "--no-probe")
    assert run.status == status and "old.yaml" in run.err, str(run)
    assert file.read_text() == text


IMPORTS = {
    "deepspeed": ("hostfile", "n1 slots=4\nn2 slots=2\n", [{"name": "n1", "slots": 4}, {"name": "n2", "slots": 2}]),
    "openmpi": ("mpi", "n1 slots=4 max_slots=8\nn2 slots=4\n", [{"name": "n[1-2]", "slots": 4}]),
    "mpich": ("mpich", "n1:4\nn2:4\n", [{"name": "n[1-2]", "slots": 4}]),
    "slurm": ("nodes", "n[1-2,5]\n", [{"name": "n[1-2,5]", "slots": 1}]),
    "pdsh": ("wcoll", "n[1-2]\n#include more\n", [{"name": "n[1-3]", "slots": 1}]),
    "genders": ("genders", "n[1-2] gpu,rack=r1\n", [{"name": "n[1-2]", "slots": 1}]),
}


@pytest.mark.parametrize("how", ["--from", "seen"])
@pytest.mark.parametrize("kind", sorted(IMPORTS))
def test_lists_of_hosts_are_imported(hosts, desk, kind, how):
    name, text, expected = IMPORTS[kind]
    (desk.folder / name).write_text(text)
    (desk.folder / "more").write_text("n3\n")
    run = desk.run("import", name, *(["--from", kind] if how == "--from" else []))
    assert run.status == 0, str(run)
    data = desk.written()
    assert data["llmlaunch"]["hosts"] == expected
    assert data["num_machines"] == {"slurm": 3, "pdsh": 3}.get(kind, 2)
    if kind == "genders":
        assert data["llmlaunch"]["groups"] == {"gpu": "n[1-2]", "rack-r1": "n[1-2]"}
    desk.plans()


def test_the_allocation_of_a_batch_system_is_imported(hosts, desk):
    run = desk.run("import", "--from", "slurm", env={"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "8(x2)",
                                                     "SLURM_NTASKS": "16"})
    assert run.status == 0, str(run)
    assert desk.written()["num_processes"] == 16


def test_an_accelerate_file_is_imported_with_its_hosts_and_environment(hosts, desk):
    accelerate = ("compute_environment: LOCAL_MACHINE  # mine\ndistributed_type: MULTI_GPU\nnum_machines: 2\n"
                  "num_processes: 16\nrdzv_backend: c10d\nsame_network: true\nmixed_precision: bf16\n")
    (desk.folder / "acc.yaml").write_text(accelerate)
    (desk.folder / "hostfile").write_text("n1 slots=8\nn2 slots=8\n")
    (desk.folder / ".deepspeed_env").write_text("NCCL_DEBUG=WARN\nHF_TOKEN=sesame-oil\n")
    run = desk.run("import", "acc.yaml", "hostfile", ".deepspeed_env", "-o", "out.yaml")
    assert run.status == 0, str(run)
    assert "acc.yaml:5:1: accelerate launch never used rdzv_backend" in run.err, str(run)
    assert "the value of HF_TOKEN is not written" in run.err, str(run)
    text = (desk.folder / "out.yaml").read_text()
    assert text.startswith(accelerate) and "sesame-oil" not in text + run.err + run.out
    assert desk.written("out.yaml")["llmlaunch"] == {"hosts": [{"name": "n[1-2]", "slots": 8}],
                                                     "env": {"NCCL_DEBUG": "WARN"}, "forward_env": ["HF_TOKEN"]}
    assert "16 ranks on 2 hosts" in desk.plans("out.yaml")


def test_a_dollar_of_an_imported_value_is_the_same_dollar_for_the_ranks(hosts, desk):
    values = {"A": "lit$HOME", "B": "${HOME}", "C": "x$$y", "D": "5$"}
    (desk.folder / ".deepspeed_env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    run = desk.run("import", ".deepspeed_env", "-o", "out.yaml")
    assert run.status == 0, str(run)
    plan = desk.plans("out.yaml")
    for name, value in values.items():
        assert f" {name}='{value}'\n" in plan, plan


def test_files_that_do_not_agree_are_not_written(hosts, desk):
    (desk.folder / "acc.yaml").write_text("num_machines: 3\nnum_processes: 6\n")
    (desk.folder / "hostfile").write_text("n1 slots=8\nn2 slots=8\n")
    run = desk.run("import", "acc.yaml", "hostfile")
    assert run.status == 78 and not (desk.folder / "llmlaunch.yaml").exists(), str(run)
    run = desk.run("import", "hostfile", "hostfile")
    assert run.status == 64 and "names hosts, and so does" in run.err, str(run)
    run = desk.run("import", "nowhere")
    assert run.status == 78 and "nowhere" in run.err, str(run)
