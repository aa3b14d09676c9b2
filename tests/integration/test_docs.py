"""Manual pages, completion and the version, as the programs that read them see them."""
import os
import re
import shutil
import subprocess

import pytest

from conftest import BIN, ROOT

LLMLAUNCH = str(BIN / "llmlaunch")
PAGES = ["", "run", "exec", "hosts", "env", "store", "docs", "config", "version"]


def ask(*words, status=0, env=None):
    done = subprocess.run([LLMLAUNCH, *words], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **(env or {})})
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def needs(program):
    if not shutil.which(program):
        pytest.skip(f"no {program} here")
    return program


@pytest.mark.parametrize("page", PAGES)
def test_groff_finds_nothing_to_say_about_a_page(page):
    roff = ask("docs", "man", *([page] if page else []))
    done = subprocess.run([needs("groff"), "-man", "-Tutf8", "-ww", "-Wbreak"], input=roff, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    shown = re.sub(".\b", "", done.stdout)  # bold letters are written twice
    assert "OPTIONS" in shown and "EXIT STATUS" in shown


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_lint_passes(page):
    roff = ask("docs", "man", *([page] if page else []))
    done = subprocess.run([needs("mandoc"), "-T", "lint", "-W", "warning"], input=roff, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_man_shows_a_page_with_its_options_and_examples():
    needs("man")
    roff = ask("docs", "man", "run")
    done = subprocess.run(["man", "--local-file", "-"], input=roff, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
    shown = re.sub(".\b", "", done.stdout)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert re.search(r"^LLMLAUNCH-RUN\(1\)", shown), shown[:200]
    assert "--nproc-per-node N" in shown and "llmlaunch run -c cfg.yaml --dry-run train" in shown


def test_every_command_has_its_page_installed():
    """A command that is new has a page at once; the list for `cmake --install` is to have it, too."""
    commands = re.search(r"docs man \[([^\]]*)\]", ask("docs", "man", "--help"))[1].split("|")
    installed = re.search(r"foreach\(command ([^)]*)\)", (ROOT / "cli" / "install.cmake").read_text())[1].split()
    assert installed == commands


def test_a_page_has_the_date_that_is_given():
    page = ask("docs", "man", env={"SOURCE_DATE_EPOCH": "0"})
    assert '.TH LLMLAUNCH 1 1970-01-01 "llmlaunch ' in page
    said = ask("docs", "man", env={"SOURCE_DATE_EPOCH": "soon"}, status=64)
    assert "SOURCE_DATE_EPOCH must be a number of seconds, not 'soon'" in said


def test_an_unknown_page_or_shell_is_answered():
    assert "did you mean 'run'?" in ask("docs", "man", "rn", status=64)
    assert "it is one of bash, zsh, fish" in ask("docs", "completion", "powershell", status=64)


def complete_in_bash(tmp_path, *words):
    """What bash offers for the last word."""
    script = tmp_path / "llmlaunch.bash"
    script.write_text(ask("docs", "completion", "bash"))
    lines = (f"set -eu; source {script}\n"
             'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()\n'
             "compopt() { :; }\n"  # it works only while bash itself completes
             "_llmlaunch\n"
             'printf "%s\\n" "${COMPREPLY[@]}"\n')
    done = subprocess.run(["bash", "-c", lines, "bash", *words], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("words, offered", [
    (["llmlaunch", "ru"], ["run"]),
    (["llmlaunch", "run", "--conf"], ["--config"]),
    (["llmlaunch", "run", "--color", "al"], ["always"]),
    (["llmlaunch", "run", "--color", "=", "ne"], ["never"]),
    (["llmlaunch", "run", "--color", "="], ["auto", "always", "never"]),
    (["llmlaunch", "run", "-q", "--config", "x.y"], ["x.yaml"]),
    (["llmlaunch", "run", "--log-dir", "lo"], ["logs"]),
    (["llmlaunch", "run", "tra"], ["train"]),
    (["llmlaunch", "exec", "--exc"], ["--exclude"]),
    (["llmlaunch", "hosts", "--hostfile", "h", "--fo"], ["--fold"]),
    (["llmlaunch", "store", "wa"], ["watch"]),
    (["llmlaunch", "store", "get", "latest", "--wa"], ["--wait"]),
    (["llmlaunch", "docs", "com"], ["completion"]),
    (["llmlaunch", "docs", "completion", "z"], ["zsh"]),
    (["llmlaunch", "docs", "man", "ho"], ["hosts"]),
])
def test_bash_completes(tmp_path, words, offered):
    (tmp_path / "x.yaml").touch()
    (tmp_path / "logs").mkdir()
    (tmp_path / "train.py").touch()
    found = complete_in_bash(tmp_path, *words)
    if words[-1] == "tra":  # programs of this machine may begin so, too
        assert "train" in found and "train.py" in found
    else:
        assert found == offered


def test_bash_offers_no_options_of_llmlaunch_behind_the_program(tmp_path):
    assert complete_in_bash(tmp_path, "llmlaunch", "run", "python", "--con") == [""]


def test_fish_completes(tmp_path):
    script = tmp_path / "llmlaunch.fish"
    script.write_text(ask("docs", "completion", "fish"))

    def offered(line):
        done = subprocess.run([needs("fish"), "--no-config", "-c", f"source {script}; complete -C '{line}'"],
                              capture_output=True, text=True, timeout=60, cwd=tmp_path,
                              env={**os.environ, "HOME": str(tmp_path)})
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return [row.split("\t")[0] for row in done.stdout.splitlines()]

    assert offered("llmlaunch ru") == ["run"]
    assert offered("llmlaunch run --confi") == ["--config"]
    assert offered("llmlaunch run --color al") == ["always"]
    assert offered("llmlaunch docs completion z") == ["zsh"]
    assert offered("llmlaunch store get latest --wa") == ["--wait"]
    assert offered("llmlaunch run python --confi") == []
    assert offered("llmlaunch run -n 2 --dry") == ["--dry-run"]


def test_zsh_accepts_the_completion(tmp_path):
    script = tmp_path / "_llmlaunch"
    script.write_text(ask("docs", "completion", "zsh"))
    done = subprocess.run([needs("zsh"), "-f", "-n", str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -d {tmp_path}/dump; " \
            f"autoload +X _llmlaunch && [[ ${{_comps[llmlaunch]}} == _llmlaunch ]]"
    done = subprocess.run(["zsh", "-f", "-c", lines], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_version_tells_protocols_and_libraries():
    said = ask("version")
    first, protocols, libraries, trainer = said.splitlines()
    assert first == ask("--version").strip()
    assert re.fullmatch(r"protocols: agent \d+, rendezvous \d+", protocols)
    assert re.fullmatch(r"libraries: libssh [\d.]+, Boost [\d.]+, yaml-cpp [\d.]+, OpenSSL [\d.]+", libraries)
    assert re.fullmatch(r"trainer:   CPU( alone|, CUDA with NCCL [\d.]+)", trainer)


def test_the_hints_of_readme_name_commands_that_exist():
    text = (ROOT / "README.md").read_text()
    for command in sorted(set(re.findall(r"^    (?:build/\S+/)?llmlaunch (\w+)", text, re.M))):
        assert ask(command, "--help")
