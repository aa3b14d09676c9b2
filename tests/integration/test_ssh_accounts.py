"""Accounts as administrators make them: login shells, homes that are full or may not run programs, forced commands."""
import os
import shutil
import subprocess

import pytest

HOSTS = 1
SHELLS = ["/bin/bash", "/bin/sh", "/usr/bin/tcsh", "/bin/bsd-csh", "/usr/bin/fish"]


@pytest.fixture
def account(hosts, extra_sshd, tmp_path):
    """account(shell=…, mounts="sh lines", lines=[…]) → the text of a configuration for one host whose sshd sees another
    /etc/passwd and other file systems than we do."""
    if os.geteuid() != 0:
        pytest.skip("another login shell for one sshd needs a mount namespace, and that needs root")
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no mount namespace here: {tried.stderr.strip()}")

    def make(shell="/bin/bash", mounts="", lines=(), **ssh):
        passwd = tmp_path / "passwd"
        entries = [line.split(":") for line in open("/etc/passwd").read().splitlines()]
        user = hosts.base["llmlaunch"]["hosts"][0]["user"]
        passwd.write_text("".join(":".join([*entry[:6], shell if entry[0] == user else entry[6]]) + "\n"
                                  for entry in entries))
        script = f"mount --bind {passwd} /etc/passwd\n{mounts}\nexec \"$@\"\n"
        sshd = extra_sshd(*lines, under=["unshare", "--mount", "sh", "-ec", script, "sh"])
        known = hosts.head / f"known-{sshd.port}"
        known.write_text(sshd.known + "\n")

        def change(data):
            data["llmlaunch"]["hosts"] = [sshd.as_host()]
            data["llmlaunch"]["ssh"].update(known_hosts_file=str(known), **ssh)

        return hosts.config(change)

    return make


def places(hosts, options):
    """Mounts over every directory that the agent could go to."""
    here = hosts.directory / "test01"
    return "\n".join(f"mount -t tmpfs -o {options} none {place}" for place in (here / "home", here / "run", here / "tmp",
                                                                              "/dev/shm"))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_login_shell_is_gone_through(hosts, account, shell):
    if not os.access(shell, os.X_OK):
        pytest.skip(f"{shell} is not installed")
    run = hosts.run("sh", "-c", "echo in; cat /proc/$PPID/comm", config=account(shell=shell))
    assert run.status == 0 and "in\n" in run.out and "llmlaunch-agent"[:15] not in run.err, str(run)
    hosts.nothing_left(run)


@pytest.mark.parametrize("shell, file, text", [("/usr/bin/tcsh", ".cshrc", "echo hello from cshrc\n"),
                                               ("/bin/bsd-csh", ".cshrc", "echo hello from cshrc\n"),
                                               ("/usr/bin/fish", ".config/fish/config.fish", "echo hello from fish\n")])
def test_startup_files_of_other_shells_are_noise_as_well(hosts, account, shell, file, text):
    if not os.access(shell, os.X_OK):
        pytest.skip(f"{shell} is not installed")
    rc = hosts.home("test01") / file
    rc.parent.mkdir(parents=True, exist_ok=True)
    rc.write_text(text)
    run = hosts.run("echo", "in", config=account(shell=shell))
    rc.unlink()
    assert run.status == 0 and f"said: {text[5:].strip()}" in run.err, str(run)


def test_an_account_without_a_login_is_told_with_the_words_of_its_shell(hosts, account):
    run = hosts.run("true", config=account(shell="/usr/sbin/nologin"))
    assert run.status == 69 and "said: This account is currently not available." in run.err, str(run)
    assert "the command that starts the agent ended before the agent ran" in run.err, str(run)
    assert "a login shell that is none" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_login_shell_that_is_not_there_is_a_refusal(hosts, account):
    run = hosts.run("true", config=account(shell="/nonexistent/shell"))
    assert run.status == 69 and "public key authentication" in run.err and "was refused" in run.err, str(run)
    hosts.nothing_left(run)


@pytest.mark.parametrize("options", ["noexec", "size=64k"])
def test_a_home_that_has_no_room_or_runs_no_program_is_left_for_the_next_place(hosts, account, options):
    run = hosts.run("echo", "in", config=account(mounts=f"mount -t tmpfs -o {options} none {hosts.home('test01')}"))
    assert run.status == 0 and run.out.count("in") == 1, str(run)
    cache = hosts.directory / "test01" / "run" / "llmlaunch"
    assert len(list(cache.glob("agent-*"))) == 1, "it went to $XDG_RUNTIME_DIR"
    shutil.rmtree(cache)
    hosts.nothing_left(run)


def test_no_place_where_programs_may_run_is_told_with_each_of_them(hosts, account):
    run = hosts.run("true", config=account(mounts=places(hosts, "noexec")))
    assert run.status == 69 and "no directory for the agent" in run.err, str(run)
    assert f"{hosts.home('test01')}/.cache/llmlaunch: programs may not run there" in run.err, str(run)
    assert run.err.count("programs may not run there") >= 4, str(run)
    hosts.nothing_left(run)


def test_no_place_with_room_is_told_with_the_size(hosts, account):
    size = os.path.getsize(os.environ["LLMLAUNCH_BIN_DIR"] + "/llmlaunch-agent") if "LLMLAUNCH_BIN_DIR" in os.environ else ""
    run = hosts.run("true", config=account(mounts=places(hosts, "size=64k")))
    assert run.status == 69 and f"no room for {size}" in run.err and "no directory for the agent" in run.err, str(run)
    hosts.nothing_left(run)


def test_no_sftp_is_needed(hosts, account):
    """test_hosts.sh's sshd's have none: this says so."""
    assert "sftp" not in (hosts.directory / "test01" / "sshd.conf").read_text()
    run = hosts.run("echo", "in", config=account())
    assert run.status == 0, str(run)
    hosts.nothing_left(run)


def test_a_forced_command_that_runs_what_was_asked_for_is_gone_through(hosts, account):
    run = hosts.run("echo", "in", config=account(lines=["ForceCommand eval \"$SSH_ORIGINAL_COMMAND\""]))
    assert run.status == 0 and run.out.count("in") == 1, str(run)
    hosts.nothing_left(run)


def test_a_forced_command_that_does_something_else_is_told(hosts, account):
    run = hosts.run("true", config=account(lines=["ForceCommand echo backups only"]))
    assert run.status == 69 and "said: backups only" in run.err and "ForceCommand" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_banner_is_shown_when_it_says_why_and_not_otherwise(hosts, account, tmp_path):
    banner = tmp_path / "banner"
    banner.write_text("Closed for maintenance.\nAsk the helpdesk.\n")
    run = hosts.run("echo", "in", config=account(lines=[f"Banner {banner}"]))
    assert run.status == 0 and "maintenance" not in run.err, str(run)
    run = hosts.run("true", config=account(lines=[f"Banner {banner}", "AuthorizedKeysFile none"]))
    assert run.status == 69 and "said: Closed for maintenance." in run.err and "said: Ask the helpdesk." in run.err, str(run)
    hosts.nothing_left(run)
