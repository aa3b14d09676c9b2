"""Everything that people get wrong, and the whole of what they are told: tests/fixtures/answers/*.txt through the
real program. A case is

    === an unknown key                          its name
    $ llmlaunch config check cfg.yaml           words as for a shell; VARIABLE=value before the program
    --- cfg.yaml                                a file beside it, to the next such line; "(escaped)": \\x00 and the like
    num_machine: 8
    --- says 78                                 the exit status, and then stderr, whole
    llmlaunch: error: …

LLMLAUNCH_TEST_ACCEPT=1 writes what the program says now; read it before it is committed.
"""
import collections
import os
import pathlib
import re
import shlex
import subprocess

import pytest

from conftest import BIN, ROOT

FOLDER = ROOT / "tests" / "fixtures" / "answers"
ACCEPT = os.environ.get("LLMLAUNCH_TEST_ACCEPT") == "1"
FEWEST = 500
SECRET = re.compile(r"hunter2|sesame|hf_[A-Za-z0-9]{6}")  # what stands in the inputs where a secret does
Case = collections.namedtuple("Case", "file name command files status says")


@pytest.fixture(autouse=True)
def programs():
    """A wrong input never comes as far as the agent."""


def parse(path):
    cases = []
    for block in re.split(r"(?m)^=== ", path.read_text())[1:]:
        head, *parts = re.split(r"(?m)^--- ", block)
        name, command = head.rstrip("\n").split("\n$ ")
        files, status, says = {}, None, ""
        for part in parts:
            title, _, text = part.partition("\n")
            if title.startswith("says"):
                status, says = int(title.split()[1]), text.rstrip("\n") + "\n"
            else:
                files[title] = text
        cases.append(Case(path, name, command, files, status, says))
    return cases


def written(cases):
    text = ""
    for case in cases:
        text += f"=== {case.name}\n$ {case.command}\n"
        text += "".join(f"--- {title}\n{content}" for title, content in case.files.items())
        text += f"--- says {case.status}\n{case.says}\n"
    return text


CASES = [case for path in sorted(FOLDER.glob("*.txt")) for case in parse(path)]


def put(folder, title, content):
    if title.endswith(" (escaped)"):
        title = title.removesuffix(" (escaped)")
        data = content.rstrip("\n").encode().decode("unicode_escape").encode("latin-1")
    else:
        data = content.encode()
    (folder / title).parent.mkdir(exist_ok=True)
    (folder / title).write_bytes(data)


def run(case, folder):
    """(exit status, stderr with the folder as DIR)."""
    for title, content in case.files.items():
        put(folder, title, content)
    before = sorted(folder.rglob("*"))
    words = shlex.split(case.command)
    own = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        own[name] = value
    assert words.pop(0) == "llmlaunch", case.command
    sanitizer = {name: os.environ[name] for name in ("LSAN_OPTIONS",) if name in os.environ}
    done = subprocess.run([str(BIN / "llmlaunch"), *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                          cwd=folder,
                          env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C", **sanitizer, **own})
    assert done.stdout == b"", done.stdout
    assert sorted(folder.rglob("*")) == before, "something was left behind"
    return done.returncode, done.stderr.decode().replace(str(folder), "DIR")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file.stem}: {case.name}")
def test_what_is_said(case, tmp_path):
    status, says = run(case, tmp_path)
    if ACCEPT:
        kept = [one._replace(status=status, says=says) if one.name == case.name else one for one in parse(case.file)]
        case.file.write_text(written(kept))
        return
    assert (status, says) == (case.status, case.says)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file.stem}: {case.name}")
def test_every_answer_is_an_error_of_llmlaunch_with_a_status_of_its_own(case):
    assert case.says.startswith("llmlaunch: ") and "llmlaunch: error: " in case.says
    assert case.says.count("llmlaunch: error: ") == 1
    assert case.status in (64, 78)
    assert "\x1b" not in case.says
    assert not SECRET.search(case.says), "a secret is told"


def test_there_are_enough_and_each_has_a_name_of_its_own():
    names = [(case.file, case.name) for case in CASES]
    assert len(set(names)) == len(names) >= FEWEST
    commands = {shlex.split(case.command)[1] for case in CASES if case.command.startswith("llmlaunch ") and " " in case.command}
    assert {"run", "exec", "hosts", "config", "docs"} <= commands


def test_no_input_stands_twice():
    inputs = {}
    for case in CASES:
        key = (tuple(shlex.split(case.command)), tuple(sorted(case.files.items())))
        assert key not in inputs, f"{case.file.stem}: {case.name} repeats {inputs[key]}"
        inputs[key] = f"{case.file.stem}: {case.name}"


def test_the_files_are_as_they_would_be_written():
    for path in sorted(FOLDER.glob("*.txt")):
        assert path.read_text() == written(parse(path)), path
