"""What a person is asked for: a key's passphrase and a password, once for all hosts, at a terminal or not at all."""
import os
import pathlib
import signal
import subprocess
import termios

import pytest

from conftest import SCALE, children_of, wait_until
from test_ssh import allow, make_key, with_ssh

HOSTS = 2
WORDS = "open sesame"


@pytest.fixture
def locked(hosts):
    """A key with a passphrase that both hosts take."""
    key = make_key(hosts, f"locked-{len(list(hosts.head.iterdir()))}", passphrase=WORDS)
    allow(hosts, key)
    return key


# --- passphrases -------------------------------------------------------------------------------------------------------
def test_a_passphrase_is_asked_for_once_for_all_hosts_and_is_not_shown(hosts, terminal, locked):
    run = hosts.start("echo", "in", config=with_ssh(hosts, identity_file=str(locked)), terminal=terminal)
    terminal.asks(f"Passphrase for {locked}")
    terminal.type(WORDS + "\n")
    run.finish()
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    assert terminal.shown.count("Passphrase") == 1 and WORDS not in terminal.shown, terminal.shown
    assert terminal.echoes(), "echo is on again"
    assert WORDS not in run.out + run.err
    hosts.nothing_left(run)


def test_a_shell_that_puts_the_echo_back_does_not_make_a_passphrase_readable(hosts, terminal, locked):
    """As after Ctrl-Z and fg: the shell has set the terminal as it likes it."""
    run = hosts.start("echo", "in", config=with_ssh(hosts, identity_file=str(locked)), terminal=terminal)
    terminal.asks("Passphrase for")
    settings = termios.tcgetattr(terminal.theirs)
    settings[3] |= termios.ECHO
    termios.tcsetattr(terminal.theirs, termios.TCSANOW, settings)
    terminal.asks("Passphrase for", 2)
    terminal.type(WORDS + "\n")
    run.finish()
    assert run.status == 0 and WORDS not in terminal.shown and terminal.echoes(), (terminal.shown, str(run))
    hosts.nothing_left(run)


def test_three_wrong_passphrases_are_told_and_the_key_is_given_up(hosts, terminal, locked):
    run = hosts.start("true", config=with_ssh(hosts, identity_file=str(locked)), terminal=terminal)
    for times in range(1, 4):
        terminal.asks("Passphrase for", times)
        terminal.type("wrong\n")
    run.finish()
    assert run.status == 69, str(run)
    assert f"{locked}: the passphrase was wrong 3 times" in run.err and "2 hosts" in run.err, str(run)
    assert terminal.shown.count("That was wrong") == 2 and terminal.echoes(), terminal.shown
    hosts.nothing_left(run)


def test_a_passphrase_is_right_at_the_second_try(hosts, terminal, locked):
    run = hosts.start("echo", "in", config=with_ssh(hosts, identity_file=str(locked)), terminal=terminal)
    terminal.asks("Passphrase for")
    terminal.type("\n")
    terminal.asks("That was wrong. Passphrase for")
    terminal.type(WORDS + "\n")
    assert run.finish().status == 0, str(run)
    hosts.nothing_left(run)


def test_ctrl_c_at_the_question_leaves_the_terminal_as_it_was(hosts, terminal, locked):
    run = hosts.start("true", config=with_ssh(hosts, identity_file=str(locked)), terminal=terminal)
    terminal.asks("Passphrase for")
    terminal.type("\x03")
    assert run.finish().ended_by == signal.SIGINT, str(run)
    assert terminal.echoes(), "echo is on again"
    hosts.nothing_left(run)


def test_ctrl_d_is_no_passphrase(hosts, terminal, locked):
    run = hosts.start("true", config=with_ssh(hosts, identity_file=str(locked)), terminal=terminal)
    terminal.asks("Passphrase for")
    terminal.type("\x04")
    assert run.finish().status == 69 and "no answer was given at the terminal" in run.err, str(run)
    assert terminal.echoes()
    hosts.nothing_left(run)


@pytest.mark.parametrize("how", ["--batch", "BatchMode"])
def test_nobody_is_asked_in_batch_mode_though_there_is_a_terminal(hosts, terminal, locked, how):
    options = ["--batch"] if how == "--batch" else []
    file = hosts.head / "batch_config"
    file.write_text("BatchMode yes\n" if how == "BatchMode" else "\n")
    config = with_ssh(hosts, identity_file=str(locked), config_file=str(file))
    run = hosts.run("true", config=config, options=options, terminal=terminal)
    assert run.status == 69 and f"{locked}: it has a passphrase" in run.err and "ssh-add" in run.err, str(run)
    assert terminal.shown == ""
    hosts.nothing_left(run)


def test_nobody_is_asked_for_a_key_that_no_host_takes(hosts, terminal):
    key = make_key(hosts, "stranger_with_passphrase", passphrase=WORDS)
    run = hosts.run("true", config=with_ssh(hosts, identity_file=str(key)), terminal=terminal)
    assert run.status == 69 and f"tried {key}" in run.err and "ssh-copy-id" in run.err, str(run)
    assert terminal.shown == ""
    hosts.nothing_left(run)


def test_nobody_is_asked_when_another_key_signs_in(hosts, terminal, locked):
    keys = [str(hosts.directory / "user_key"), str(locked)]
    run = hosts.run("echo", "in", config=with_ssh(hosts, identity_file=keys), terminal=terminal)
    assert run.status == 0 and terminal.shown == "", str(run)


def test_a_person_who_types_for_longer_than_sshd_waits_still_gets_in(hosts, extra_sshd, terminal, locked):
    """LoginGraceTime ends the first connection, llmlaunch's own deadline (shorter) does not; the next one has the key."""
    sshd = extra_sshd("LoginGraceTime 3")
    known = hosts.head / f"known-{sshd.port}"
    known.write_text(sshd.known + "\n")

    def change(data):
        data["llmlaunch"]["hosts"] = [sshd.as_host()]
        data["llmlaunch"]["ssh"].update(identity_file=str(locked), known_hosts_file=str(known))
        data["llmlaunch"]["timeouts"] = {"connect": 2}
        data.update(num_machines=1, num_processes=1)

    run = hosts.start("echo", "in", config=hosts.config(change), terminal=terminal)
    terminal.asks("Passphrase for")
    wait_until(lambda: not children_of(sshd.process.pid), "sshd's patience to end")
    terminal.type(WORDS + "\n")
    run.finish()
    assert run.status == 0 and run.out.count("in") == 1, f"{run}\n{terminal.shown}"
    hosts.nothing_left(run)


# --- cron ----
class Cron:
    """Starts llmlaunch as cron does: no terminal to be had, five variables, the home directory, output to a pipe."""

    def __init__(self, hosts):
        self.hosts = hosts

    def run(self, *words, **more):
        home = str(self.hosts.head / "home")
        under = ["env", "-i", f"HOME={home}", "LOGNAME=root", "SHELL=/bin/sh", "PATH=/usr/bin:/bin", "PWD=" + home,
                 "sh", "-c", "cd && exec \"$@\"", "sh"]
        return self.hosts.run(*words, under=under, **more)


def test_under_cron_a_job_runs_as_at_a_terminal(hosts):
    run = Cron(hosts).run("sh", "-c", "echo in; cat")
    assert run.status == 0 and run.out.count("in\n") == 2 and "\x1b" not in run.out + run.err, str(run)
    hosts.nothing_left(run)


def test_under_cron_a_locked_key_is_an_error_at_once_and_no_question(hosts, locked):
    """The start limit is 60 s: whoever waited for an answer would be seen."""
    run = Cron(hosts).run("true", config=with_ssh(hosts, identity_file=str(locked)))
    assert run.status == 69 and str(locked) in run.err and "passphrase" in run.err and "ssh-add" in run.err, str(run)
    assert "Passphrase for" not in run.out + run.err, str(run)
    assert run.seconds < 10 * (3 if SCALE > 1 else 1), f"{run.seconds:.1f} s"
    hosts.nothing_left(run)


def test_under_cron_a_host_that_wants_a_password_is_an_error_at_once_and_no_question(hosts, password_host):
    run = Cron(hosts).run("true", config=password_host(*PASSWORD, keys=[str(hosts.directory / "user_key")]))
    assert run.status == 69 and "password" in run.err and "--ask-pass" in run.err, str(run)
    assert "Password for" not in run.out + run.err, str(run)
    assert run.seconds < 10 * (3 if SCALE > 1 else 1), f"{run.seconds:.1f} s"
    hosts.nothing_left(run)


# --- passwords ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def password_host(hosts, extra_sshd, tmp_path):
    """An sshd that takes a password, WORDS, in one of several ways: make("lines of its configuration"). Its PAM has a
    file of its own, seen by it alone."""
    if os.geteuid() != 0:
        pytest.skip("a password for sshd needs PAM, and that needs root")
    check = tmp_path / "check"
    check.write_text(f"#!/bin/sh\nread -r words\n[ \"$words\" = '{WORDS}' ]\n")
    check.chmod(0o700)
    pam = tmp_path / "pam"
    pam.write_text(f"auth required pam_exec.so quiet expose_authtok {check}\nauth required pam_permit.so\naccount required pam_permit.so\n"
                   "session required pam_permit.so\n")
    under = ["unshare", "--mount", "sh", "-c", "mount --bind \"$0\" /etc/pam.d/sshd && exec \"$@\"", str(pam)]
    tried = subprocess.run([*under, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no mount namespace here: {tried.stderr.strip()}")

    def make(*lines, keys=()):
        made = [extra_sshd("PermitRootLogin yes", "UsePAM yes", *lines, under=under) for _ in range(2)]
        known = hosts.head / f"known-{made[0].port}"
        known.write_text("".join(one.known + "\n" for one in made))

        def change(data):
            data["llmlaunch"]["hosts"] = [one.as_host() for one in made]
            data["llmlaunch"]["ssh"].update(known_hosts_file=str(known), identity_file=list(keys) or "/nonexistent/key")

        return hosts.config(change)

    return make


PASSWORD = ("AuthenticationMethods password", "PasswordAuthentication yes")
QUESTION = ("AuthenticationMethods keyboard-interactive", "KbdInteractiveAuthentication yes")


@pytest.mark.parametrize("lines", [PASSWORD, QUESTION], ids=["password", "keyboard-interactive"])
def test_one_password_signs_in_on_all_hosts(hosts, terminal, password_host, lines):
    run = hosts.start("echo", "in", config=password_host(*lines), options=["--ask-pass"], terminal=terminal)
    terminal.asks("Password for all hosts: ")
    terminal.type(WORDS + "\n")
    run.finish()
    assert run.status == 0 and run.out.count("in") == 2, str(run)
    assert terminal.shown.count("Password") == 1 and WORDS not in terminal.shown and terminal.echoes()
    assert WORDS not in run.out + run.err
    hosts.nothing_left(run)


@pytest.mark.parametrize("lines", [PASSWORD, QUESTION], ids=["password", "keyboard-interactive"])
def test_a_wrong_password_is_told_once(hosts, terminal, password_host, lines):
    run = hosts.start("true", config=password_host(*lines), options=["--ask-pass"], terminal=terminal)
    terminal.asks("Password for all hosts: ")
    terminal.type("open barley\n")
    run.finish()
    assert run.status == 69 and run.err.count("the password was refused") == 1 and "2 hosts" in run.err, str(run)
    assert "barley" not in run.err
    hosts.nothing_left(run)


def test_a_key_and_then_a_password(hosts, terminal, password_host):
    config = password_host("AuthenticationMethods publickey,password", "PasswordAuthentication yes",
                           keys=[str(hosts.directory / "user_key")])
    run = hosts.run("true", config=config)
    assert run.status == 69 and "asks for more than a key" in run.err and "--ask-pass" in run.err, str(run)
    run = hosts.start("echo", "in", config=config, options=["--ask-pass"], terminal=terminal)
    terminal.asks("Password for all hosts: ")
    terminal.type(WORDS + "\n")
    assert run.finish().status == 0 and run.out.count("in") == 2, str(run)
    hosts.nothing_left(run)


def test_the_password_is_not_in_memory_that_others_see(hosts, terminal, password_host):
    """Neither on a command line nor in an environment, while the job runs."""
    run = hosts.start("sh", "-c", "echo here; exec sleep 600", config=password_host(*PASSWORD), options=["--ask-pass"],
                      terminal=terminal)
    terminal.asks("Password for all hosts: ")
    terminal.type(WORDS + "\n")
    wait_until(lambda: run.out.count("here") == 2, f"both ranks\n{run}")
    for pid in [run.pid, *hosts.processes(run)]:
        for name in ("cmdline", "environ"):
            assert WORDS.encode() not in pathlib.Path(f"/proc/{pid}/{name}").read_bytes(), (pid, name)
    for file in hosts.run_directory().iterdir():
        assert WORDS not in file.read_text(), file
    os.kill(run.pid, 2)
    run.finish()
    hosts.nothing_left(run)


def test_ask_pass_without_a_terminal_is_wrong_usage(hosts):
    run = hosts.run("true", options=["--ask-pass"])
    assert run.status == 64 and "--ask-pass: there is no terminal" in run.err, str(run)


def test_ctrl_c_before_anything_ends_by_the_signal_with_the_terminal_as_it_was(hosts, terminal):
    run = hosts.start("true", options=["--ask-pass"], terminal=terminal)
    terminal.asks("Password for all hosts: ")
    terminal.type("\x03")
    assert run.finish().status == 130, str(run)
    assert terminal.echoes()


def test_the_command_line_refuses_both(hosts):
    run = hosts.run("true", options=["--ask-pass", "--batch"])
    assert run.status == 64 and "--ask-pass and --batch exclude each other" in run.err, str(run)
