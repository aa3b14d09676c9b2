"""Where a setting comes from, as a user sees it: --set, variables, include, references, --explain. No host is needed:
the machine itself runs the ranks."""

import os
import subprocess

from conftest import BIN

SECRET = "open-sesame-4711"


def llmlaunch(*words, cwd, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMLAUNCH_")}
    environment.update(variables)
    return subprocess.run([os.path.join(BIN, "llmlaunch"), *words], cwd=cwd, env=environment, capture_output=True,
                          text=True, timeout=120, stdin=subprocess.DEVNULL)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def explained(done):
    assert done.returncode == 0, done.stderr
    lines = {}
    for line in done.stdout.splitlines():
        key, _, rest = line.partition(" = ")
        value, _, where = rest.rpartition("  (")
        lines[key] = (value, where.rstrip(")"))
    return lines


def test_the_command_line_wins_over_variables_and_these_over_the_file(tmp_path):
    write(tmp_path / "cfg.yaml", "num_processes: 3\nllmlaunch:\n  include: sub/base.yaml\n  ssh: {user: file}\n")
    write(tmp_path / "sub/base.yaml", "llmlaunch:\n  ssh: {user: base, port: 7}\n  env: {A: base}\n")
    words = ["run", "-c", "cfg.yaml", "--explain", "true"]
    values = explained(llmlaunch(*words, cwd=tmp_path))
    assert values["num_processes"] == ("3", "cfg.yaml:1:16")
    assert values["llmlaunch.ssh.user"] == ("file", "cfg.yaml:4:15")
    assert values["llmlaunch.ssh.port"] == ("7", "sub/base.yaml:2:27")
    assert values["llmlaunch.env.A"] == ("base", "sub/base.yaml:3:12")
    assert values["llmlaunch.log_dir"] == ("llmlaunch-logs", "default")
    variables = {"LLMLAUNCH_NUM_PROCESSES": "4", "LLMLAUNCH_SSH_PORT": "8", "LLMLAUNCH_SSH_USER": "variable"}
    words = ["run", "-c", "cfg.yaml", "--set", "llmlaunch.ssh.user=set", "--set", "num_processes=5", "-n", "2",
             "--log-dir", "here", "--explain", "true"]
    values = explained(llmlaunch(*words, cwd=tmp_path, **variables))
    assert values["num_processes"] == ("2", "--num-processes")
    assert values["llmlaunch.ssh.user"] == ("set", "--set llmlaunch.ssh.user")
    assert values["llmlaunch.ssh.port"] == ("8", "LLMLAUNCH_SSH_PORT")
    assert values["llmlaunch.log_dir"] == ("here", "--log-dir")
    assert sorted(os.listdir(tmp_path)) == ["cfg.yaml", "sub"], "--explain starts nothing and writes nothing"


def test_ranks_get_what_the_layers_come_to(tmp_path):
    write(tmp_path / "cfg.yaml", "llmlaunch:\n  env: {A: '${WHO:-nobody} $$5', B: file}\n")
    done = llmlaunch("run", "-c", "cfg.yaml", "-q", "--set", "llmlaunch.env.B=set", "--set", "llmlaunch.logs.prefix=none",
                     "sh", "-c", "echo $A $B $WORLD_SIZE", cwd=tmp_path, WHO="me", LLMLAUNCH_NUM_PROCESSES="2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["me $5 set 2"] * 2


def test_exec_and_hosts_take_settings_without_a_file(tmp_path):
    done = llmlaunch("hosts", "--set", "llmlaunch.hosts=[n1, n2]", "--fold", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "n[1-2]\n"), done.stderr
    done = llmlaunch("exec", "--explain", "-w", "localhost", "--set", "llmlaunch.ssh.port=2222", "true", cwd=tmp_path)
    values = explained(done)
    assert values["llmlaunch.hosts"] == ("localhost", "--hosts")
    assert values["llmlaunch.ssh.port"] == ("2222", "--set llmlaunch.ssh.port")
    assert "num_processes" not in values


def test_what_is_wrong_is_said_where_it_stands(tmp_path):
    write(tmp_path / "cfg.yaml", "llmlaunch:\n  workdir: /x/${NOT_SET}\n")
    rows = [
        (["-c", "cfg.yaml"], {}, 78, "cfg.yaml:2:15: llmlaunch.workdir: the variable NOT_SET is not set"),
        (["--set", "llmlaunch.ssh.prot=1"], {}, 78, "did you mean 'llmlaunch.ssh.port'?"),
        (["--set", "llmlaunch.ssh.port=x"], {}, 78, "    1 | llmlaunch.ssh.port=x"),
        (["--set", "num_processes"], {}, 64, "--set must be KEY=VALUE, not 'num_processes'"),
        ([], {"LLMLAUNCH_SSH_PORT": "x"}, 78, "LLMLAUNCH_SSH_PORT: llmlaunch.ssh.port must be a whole number"),
    ]
    for words, variables, status, message in rows:
        done = llmlaunch("run", *words, "touch", "started", cwd=tmp_path, HF_HOME=str(tmp_path), **variables)
        assert done.returncode == status, done.stderr
        assert message in done.stderr
        assert not (tmp_path / "started").exists()


def test_a_misspelt_variable_is_said_once_and_changes_nothing(tmp_path):
    done = llmlaunch("run", "true", cwd=tmp_path, HF_HOME=str(tmp_path), LLMLAUNCH_NUM_PROCESES="2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("LLMLAUNCH_NUM_PROCESES is no setting; did you mean LLMLAUNCH_NUM_PROCESSES?") == 1


def test_a_secret_of_a_reference_reaches_the_ranks_and_nothing_else(tmp_path):
    write(tmp_path / "cfg.yaml", "llmlaunch:\n  env: {PLAIN: 'x-${HF_TOKEN}'}\n  logs: {per_rank: false, merged: false}\n")
    words = ["run", "-c", "cfg.yaml"]
    for what in (["--dry-run"], ["--explain"]):
        done = llmlaunch(*words, *what, "true", cwd=tmp_path, HF_TOKEN=SECRET)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert "********" in done.stdout
    write(tmp_path / "expected", SECRET)
    done = llmlaunch(*words, "-v", "--workdir", str(tmp_path), "sh", "-c", 'test "$PLAIN" = "x-$(cat expected)"',
                     cwd=tmp_path, HF_TOKEN=SECRET)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    (tmp_path / "expected").unlink()
    for folder, _, files in os.walk(tmp_path):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                assert SECRET.encode() not in file.read(), name
