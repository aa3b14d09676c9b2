"""argv and environment are data: whatever the bytes, they arrive, and no command line on a host or here shows them."""
import json
import os

from conftest import MARK, PYTHON

HOSTS = 2

DUMP = r"""
import json, os, subprocess, sys
seen = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True).stdout
with open(os.path.join(os.environ["DUMP_TO"], os.environ["RANK"]), "w") as file:
    json.dump({
        "argv": [os.fsencode(word).hex() for word in sys.argv[1:]],
        "env": {os.fsencode(k).hex(): os.fsencode(v).hex() for k, v in os.environ.items()},
        "ps": seen.hex()}, file)
"""

VALUES = {
    "T_SPACES": "  two  words\t and a tab  ",
    "T_QUOTES": "it's \"quoted\" `twice` \\ and \\\\ back",
    "T_COMMAND": "$(touch /tmp/llmlaunch-must-not-exist) ${HOME} $$ !! && || ; | > < * ? [a-z] ~ # %s",
    "T_NEWLINES": "first\nsecond\r\n\nfourth\n",
    "T_UTF8": "Grüße, 你好, 🚀, \u202eright to left, e\u0301",
    "T_EMPTY": "",
    "T_EQUALS": "=a=b=",
    "T_LONG": "".join(chr(33 + i % 94) for i in range(100_000)),
    "T_ODD_ARGUMENTS": "--config -- -x",
}

def dumping(hosts, *words, change=lambda data: None, **more):
    """Runs DUMP on both hosts; the run, and {rank: what it found}. The dumps go to files, as they hold huge lines."""
    where = hosts.head / f"dumps-{len(hosts.runs)}"
    where.mkdir()

    def with_place(data):
        change(data)
        data["llmlaunch"].setdefault("env", {})["DUMP_TO"] = str(where)

    run = hosts.run(PYTHON, "-c", DUMP, *words, config=hosts.config(with_place), **more)
    assert run.status == 0, str(run)
    found = {int(file.name): json.loads(file.read_text()) for file in where.iterdir()}
    assert sorted(found) == [0, 1], str(run)
    return run, found


def test_environment_values_from_the_file_arrive_byte_for_byte(hosts):
    def change(data):
        # In a configuration a dollar that could begin ${VAR} is written twice.
        data["llmlaunch"]["env"] = {name: value.replace("$", "$$") for name, value in VALUES.items()}
        data["llmlaunch"]["hosts"][1]["env"] = {"T_HOST": "only $2 here"}

    run, found = dumping(hosts, change=change)
    for rank, dump in found.items():
        env = {bytes.fromhex(k): bytes.fromhex(v) for k, v in dump["env"].items()}
        for name, value in VALUES.items():
            assert env[name.encode()] == value.encode(), f"{name} on rank {rank}"
        assert env.get(b"T_HOST") == (b"only $2 here" if rank == 1 else None)
    assert not os.path.exists("/tmp/llmlaunch-must-not-exist")
    hosts.nothing_left(run)

def test_forwarded_variables_arrive_byte_for_byte_also_when_they_are_no_text(hosts):
    values = {f"FW_{name}": value.encode() for name, value in VALUES.items()}
    values["FW_BYTES"] = bytes(range(1, 256))

    def change(data):
        data["llmlaunch"]["forward_env"] = [MARK, "FW_*"]

    env = {os.fsdecode(name): os.fsdecode(value) for name, value in values.items()}
    env["NOT_FORWARDED"] = "stays here"
    run, found = dumping(hosts, change=change, env=env)
    for rank, dump in found.items():
        seen = {bytes.fromhex(k): bytes.fromhex(v) for k, v in dump["env"].items()}
        for name, value in values.items():
            assert seen[name.encode()] == value, f"{name} on rank {rank}"
        assert b"NOT_FORWARDED" not in seen
    hosts.nothing_left(run)

def test_arguments_arrive_byte_for_byte(hosts):
    words = [value.encode() for value in VALUES.values()] + [bytes(range(1, 256)), b"--help", b"-", b"--", b"@file"]
    run, found = dumping(hosts, *words)
    for rank, dump in found.items():
        assert [bytes.fromhex(word) for word in dump["argv"]] == words, f"rank {rank}"
    assert not os.path.exists("/tmp/llmlaunch-must-not-exist")
    hosts.nothing_left(run)

def test_no_process_list_and_no_log_shows_a_value_or_the_token(hosts):
    secret = "s3cr3t-5e8b17-value"

    def change(data):
        data["llmlaunch"]["env"] = {"T_SECRET_KEY": secret}
        data["llmlaunch"]["forward_env"] = [MARK, "FW_TOKEN"]

    other = "f0rw4rd3d-91c2aa-value"
    run, found = dumping(hosts, change=change, env={"FW_TOKEN": other})
    tokens = set()
    for rank, dump in found.items():
        env = {bytes.fromhex(k): bytes.fromhex(v) for k, v in dump["env"].items()}
        assert env[b"T_SECRET_KEY"] == secret.encode() and env[b"FW_TOKEN"] == other.encode()
        tokens.add(env[b"LLMLAUNCH_TOKEN"])
        shown = bytes.fromhex(dump["ps"])
        assert b"llmlaunch-agent" in shown or b"/llmlaunch/" in shown, "ps did not see the agent"
        for value in (secret.encode(), other.encode(), env[b"LLMLAUNCH_TOKEN"]):
            assert value not in shown, f"a process list on the host of rank {rank} shows a value"
    assert len(tokens) == 1 and len(tokens.copy().pop()) == 64
    token = tokens.pop().decode()
    # What llmlaunch itself wrote: its own lines and every file of the run but the ranks' own output.
    directory = hosts.run_directory(run)
    own = [directory / "job.json"] + list(directory.glob("events.jsonl"))
    for file in own:
        text = file.read_text(errors="replace")
        assert secret not in text and other not in text and token not in text, f"{file} holds a secret"
    assert secret not in run.err and other not in run.err and token not in run.err
    assert (directory.stat().st_mode & 0o077) == 0 or all((file.stat().st_mode & 0o077) == 0 for file in own)
    hosts.nothing_left(run)

def test_the_dry_run_masks_what_looks_like_a_secret(hosts):
    def change(data):
        data["llmlaunch"]["env"] = {"HF_TOKEN": "hf_abcdefgh12345678", "PLAIN": "shown"}

    run = hosts.run("true", config=hosts.config(change), options=["--dry_run"])
    assert run.status == 0, str(run)
    assert "hf_abcdefgh12345678" not in run.out + run.err, str(run)
