"""Which key the wizard installs on hosts that take only a password: the one that signs in there afterwards."""
import pathlib
import subprocess

import pytest
import yaml

from conftest import wait_until
from test_ssh_secrets import WORDS, password_host  # noqa: F401 (a fixture)
from test_wizard import Talk, basics, desk, middle  # noqa: F401 (a fixture)

HOSTS = 2


def make_key(path, comment):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)
    return path


@pytest.fixture
def account(desk, password_host, tmp_path):  # noqa: F811
    """A host that takes a password and the keys of a file that is still empty. (its name, that file)"""
    place = tmp_path / "account"
    place.mkdir(mode=0o700)
    config = yaml.safe_load(password_host("PasswordAuthentication yes", "AuthenticationMethods any",
                                          f"AuthorizedKeysFile {place / '.ssh' / 'authorized_keys'}",
                                          f"SetEnv HOME={place}"))
    desk.known.write_text(pathlib.Path(config["llmlaunch"]["ssh"]["known_hosts_file"]).read_text())
    desk.stanzas.clear()
    host = config["llmlaunch"]["hosts"][0]

    def reached_by(*lines):
        desk.stanzas[:] = [f"Host {host['name']}\n  HostName {host['address']}\n  Port {host['port']}\n"
                           f"  User {host['user']}\n" + "".join(f"  {line}\n" for line in lines)]
        (desk.home / ".ssh" / "config").write_text("".join(desk.stanzas))
        return host["name"], place / ".ssh" / "authorized_keys"

    return reached_by


def install(desk, terminal, name, key, env=None):  # noqa: F811
    talk = Talk(terminal, desk.start("-o", "out.yaml", terminal=terminal, env=env))
    basics(talk, name)
    middle(talk)
    talk.asked("was refused")
    talk.choose(f"Install {key} on {name}", "yes")
    talk.asked("Password for all hosts: ")
    terminal.type(WORDS + "\n")
    talk.asked(f"{name}: the key is installed")
    talk.answer("Ranks")  # it signs in: the hosts were asked again
    talk.choose("Mixed precision")
    talk.choose("Write out.yaml?")
    assert talk.run.finish().status == 0, f"{talk.run}\n{terminal.shown}"


def test_the_key_of_the_ssh_configuration_is_installed(hosts, desk, terminal, account):  # noqa: F811
    make_key(desk.home / ".ssh" / "id_ed25519", "not me")
    work = make_key(desk.home / ".ssh" / "work", "me at work")
    name, file = account("IdentityFile ~/.ssh/work", "IdentitiesOnly yes")
    install(desk, terminal, name, f"{work}.pub")
    assert file.read_text() == work.with_suffix(".pub").read_text()


def test_a_pub_file_that_is_no_key_is_passed_over(hosts, desk, terminal, account):  # noqa: F811
    make_key(desk.home / ".ssh" / "empty", "lost")
    (desk.home / ".ssh" / "empty").unlink()
    (desk.home / ".ssh" / "empty.pub").write_text("\n")
    other = make_key(desk.home / ".ssh" / "other", "there")
    name, file = account("IdentityFile ~/.ssh/empty", "IdentityFile ~/.ssh/other", "IdentitiesOnly yes")
    install(desk, terminal, name, f"{other}.pub")
    assert file.read_text() == other.with_suffix(".pub").read_text()


def test_a_key_of_the_agent_is_installed_where_there_is_no_file(hosts, desk, terminal, account, tmp_path):  # noqa: F811
    key = make_key(tmp_path / "carried", "carried over")
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, "the agent's socket")
        subprocess.run(["ssh-add", "-q", str(key)], env={"SSH_AUTH_SOCK": str(socket)}, check=True, stderr=subprocess.DEVNULL)
        key.unlink()
        name, file = account()
        install(desk, terminal, name, "the key 'carried over' of ssh-agent", env={"SSH_AUTH_SOCK": str(socket)})
        assert file.read_text() == key.with_suffix(".pub").read_text()
    finally:
        agent.kill()
        agent.wait()


def test_without_a_key_it_says_how_to_make_one(hosts, desk, terminal, account):  # noqa: F811
    (desk.home / ".ssh" / "id_ed25519.pub").write_text("\n")
    name, file = account()
    talk = Talk(terminal, desk.start("-o", "out.yaml", terminal=terminal))
    basics(talk, name)
    middle(talk)
    talk.asked("There is no key of yours to install: ssh-keygen -t ed25519 makes one.")
    talk.asked("1 of 1 hosts cannot be used")
    terminal.type("\x03")
    assert talk.run.finish().status == 130, str(talk.run)
    assert not file.exists()
