"""Every wrong input has one clear message. Each file of tests/fixtures/bad_inputs is one of them:

    NAME=VALUE … run --config cfg.yaml true     the command line, in the words of a shell, with its variables
    ==== cfg.yaml                               a file that it reads; there may be several, or none
    num_machine: 2
    ==== 78                                     the exit status, and below it everything that is said
    llmlaunch: error: cfg.yaml:1:1: unknown key …

{cwd} stands for the directory in which it was said. Nothing may be left behind, on stdout neither. LLMLAUNCH_TEST_ACCEPT=1 writes what was said into the files: read the
difference as somebody who has just made that mistake.
"""
import os
import pathlib
import re
import shlex
import subprocess

import pytest

from conftest import BIN, ROOT

CASES = sorted((ROOT / "tests" / "fixtures" / "bad_inputs").rglob("*.txt"))
FEWEST = 150
STATUS = {64, 78}  # usage, configuration
HEADER = re.compile(rb"^==== (.*)\n", re.MULTILINE)
VARIABLE = re.compile(r"^[A-Z_]+=")
SECRET = b"sesame"  # stands in the inputs where a secret does


def parts_of(text):
    """(command line, {file name: bytes}, expected status, expected words) of a case."""
    pieces = HEADER.split(text)
    command, rest = pieces[0].decode().strip(), list(zip(pieces[1::2], pieces[2::2]))
    assert rest, "no '==== STATUS' line"
    status, words = rest.pop()
    return command, {name.decode(): content for name, content in rest}, int(status), words


def answer(command, files, directory):
    """What llmlaunch makes of it, in a directory that has these files and nothing else."""
    for name, content in files.items():
        (directory / name).write_bytes(content)
    words = shlex.split(command)
    variables = {}
    while VARIABLE.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "NO_COLOR": "1", **variables}
    if "LSAN_OPTIONS" in os.environ:
        environment["LSAN_OPTIONS"] = os.environ["LSAN_OPTIONS"]
    return subprocess.run([str(BIN / "llmlaunch"), *words], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60, check=False)


def words_of(said, directory):
    return said.stderr.replace(bytes(directory), b"{cwd}")


def left_behind(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_wrong_input_has_its_message(case, tmp_path):
    text = case.read_bytes()
    command, files, status, words = parts_of(text)
    said = answer(command, files, tmp_path)
    assert said.returncode in STATUS, said.stderr.decode(errors="replace")
    assert said.stdout == b""
    assert left_behind(tmp_path) == sorted(files)
    assert SECRET not in said.stderr
    assert said.stderr.startswith((b"llmlaunch: error: ", b"llmlaunch: warning: "))
    assert b"llmlaunch: error: " in said.stderr
    if os.environ.get("LLMLAUNCH_TEST_ACCEPT") == "1":
        upto = list(HEADER.finditer(text))[-1].start()
        case.write_bytes(text[:upto] + b"==== %d\n" % said.returncode + words_of(said, tmp_path))
        return
    assert words_of(said, tmp_path).decode() == words.decode()
    assert said.returncode == status


def test_there_are_many_and_all_are_different():
    assert len(CASES) >= FEWEST
    inputs = {}
    for case in CASES:
        command, files, _, _ = parts_of(case.read_bytes())
        key = (command, tuple(sorted(files.items())))
        assert key not in inputs, f"{case} repeats {inputs[key]}"
        inputs[key] = case
