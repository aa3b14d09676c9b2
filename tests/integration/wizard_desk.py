"""Where a person sits who calls `llmlaunch config`: a home, an ssh configuration, a working directory."""
import os
import uuid

import pytest
import yaml

from conftest import BIN, MARK, Run


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
