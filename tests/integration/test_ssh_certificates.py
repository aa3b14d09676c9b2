"""Keys that a certificate authority vouches for: users' certificates from files and from ssh-agent, hosts' certificates."""
import os
import subprocess

import pytest

from test_ssh import agent, allow, make_key, with_ssh  # noqa: F401  (agent is a fixture)

HOSTS = 2


class Authority:
    def __init__(self, hosts, sshd):
        """An authority that this sshd trusts, and its sign(key) → the path of the certificate."""
        self.hosts, self.key, self.sshd = hosts, make_key(hosts, f"ca-{len(list(hosts.head.iterdir()))}"), sshd
        self.pub = self.key.with_suffix(".pub")

    def sign(self, key, *options):
        user = self.hosts.base["llmlaunch"]["hosts"][0]["user"]
        subprocess.run(["ssh-keygen", "-q", "-s", str(self.key), "-I", "test", "-n", user, *options, str(key) + ".pub"],
                       check=True)
        return key.parent / (key.name + "-cert.pub")


@pytest.fixture
def authority(hosts, extra_sshd):
    """(Authority, function that gives a configuration for the one host that trusts it and takes no other key)."""
    made = Authority(hosts, None)
    made.sshd = extra_sshd(f"TrustedUserCAKeys {made.pub}", "AuthorizedKeysFile none")
    known = hosts.head / f"known-{made.sshd.port}"
    known.write_text(made.sshd.known + "\n")

    def config(*extra, **ssh):
        file = hosts.head / f"ssh_config-{len(list(hosts.head.iterdir()))}"
        file.write_text("".join(line + "\n" for line in extra))

        def change(data):
            data["llmlaunch"]["hosts"] = [made.sshd.as_host()]
            data["llmlaunch"]["ssh"].pop("identity_file")
            data["llmlaunch"]["ssh"].update(config_file=str(file), known_hosts_file=str(known), **ssh)
            data.update(num_machines=1, num_processes=1)

        return hosts.config(change)

    return made, config


def key_of_type(hosts, kind, name, passphrase=""):
    file = hosts.head / name
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(file)], check=True)
    return file


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_beside_the_key_signs_in(hosts, authority, kind):
    ca, config = authority
    key = key_of_type(hosts, kind, f"beside-{kind}")
    ca.sign(key)
    run = hosts.run("echo", "in", config=config(identity_file=str(key)))
    assert run.status == 0 and run.out.count("in") == 1, str(run)
    assert ca.sshd.said("userauth_pubkey: publickey have ") <= 1, "the certificate went first"
    hosts.nothing_left(run)


def test_a_certificate_that_is_named_signs_in(hosts, authority):
    ca, config = authority
    key = make_key(hosts, "elsewhere")
    certificate = ca.sign(key)
    named = hosts.head / "named-certificate"
    certificate.rename(named)
    run = hosts.run("echo", "in", config=config(f"CertificateFile {named}", f"IdentityFile {key}"))
    assert run.status == 0 and run.out.count("in") == 1, str(run)
    hosts.nothing_left(run)


def test_a_certificate_that_ssh_agent_has_signs_in(hosts, authority, agent):
    ca, config = authority
    env, add = agent
    key = make_key(hosts, "in-agent")
    ca.sign(key)
    add(key)  # with its certificate
    for file in hosts.head.glob("in-agent*"):
        file.unlink()
    run = hosts.run("echo", "in", config=config(), env=env)
    assert run.status == 0 and run.out.count("in") == 1, str(run)
    hosts.nothing_left(run)


def test_ssh_agent_signs_for_a_certificate_that_only_a_file_has(hosts, authority, agent):
    ca, config = authority
    env, add = agent
    key = make_key(hosts, "half-in-agent", passphrase="open sesame")
    add(key, passphrase="open sesame")
    ca.sign(key)
    listed = subprocess.run(["ssh-add", "-l"], env={**os.environ, **env}, capture_output=True, text=True).stdout
    assert listed.count("\n") == 1 and "CERT" not in listed, listed
    run = hosts.run("echo", "in", config=config(identity_file=str(key)), env=env)
    assert run.status == 0 and run.out.count("in") == 1, str(run)
    hosts.nothing_left(run)


def test_a_certificate_of_a_key_with_a_passphrase(hosts, authority, terminal):
    ca, config = authority
    key = make_key(hosts, "locked-with-certificate", passphrase="open sesame")
    ca.sign(key)
    run = hosts.start("echo", "in", config=config(identity_file=str(key)), terminal=terminal)
    terminal.asks("Passphrase for")
    terminal.type("open sesame\n")
    assert run.finish().status == 0 and run.out.count("in") == 1, str(run)
    hosts.nothing_left(run)


def test_a_certificate_that_has_ended_is_named_with_how_to_look_at_it(hosts, authority):
    ca, config = authority
    key = make_key(hosts, "ended")
    certificate = ca.sign(key, "-V", "20200101:20200102")
    run = hosts.run("true", config=config(identity_file=str(key)))
    assert run.status == 69, str(run)
    assert f"tried {certificate}, {key}" in run.err and "ssh-keygen -L -f" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_certificate_file_that_is_none_is_named(hosts, authority):
    ca, config = authority
    key = make_key(hosts, "no-certificate")
    run = hosts.run("true", config=config(f"CertificateFile {key}.pub", f"CertificateFile {key}.none",
                                          f"IdentityFile {key}"))
    assert run.status == 69, str(run)
    assert f"{key}.pub: this is a public key, and no certificate" in run.err and f"{key}.none: no such file" in run.err, str(run)
    hosts.nothing_left(run)


def test_the_certificate_of_a_host_is_told_for_what_it_is(hosts, extra_sshd):
    """libssh 0.10 asks for plain host keys alone: the message says so, and the command that settles it does settle it."""
    sshd = extra_sshd()
    ca = make_key(hosts, "host-ca")
    known = hosts.head / f"known-{sshd.port}"
    known.write_text(f"@cert-authority *,[127.0.9.*]:* {ca.with_suffix('.pub').read_text()}")

    def change(data):
        data["llmlaunch"]["hosts"] = [sshd.as_host()]
        data["llmlaunch"]["ssh"].update(known_hosts_file=str(known))
        data.update(num_machines=1, num_processes=1)

    run = hosts.run("true", config=hosts.config(change))
    assert run.status == 69, str(run)
    assert f"{known}:1 names a certificate authority" in run.err and "libssh" in run.err, str(run)
    assert f"ssh-keyscan -p {sshd.port} -t ed25519 {sshd.address} >> {known}" in run.err, str(run)
    with open(known, "a") as file:
        file.write(sshd.known + "\n")
    run = hosts.run("echo", "in", config=hosts.config(change))
    assert run.status == 0, str(run)
    hosts.nothing_left(run)
