"""The shared library as others use it: installed, found by pkg-config or CMake, linked by C99, loaded by Python, in real jobs."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from conftest import BIN, PYTHON

HOSTS = 2
HERE = pathlib.Path(__file__).parent / "c_library"
HEADER = HERE.parents[2] / "rendezvous" / "llmlaunch_rendezvous.h"


def output_of(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def work():
    with tempfile.TemporaryDirectory(prefix="llmlaunch-c-") as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


@pytest.fixture(scope="module")
def prefix(work):
    """Where the library is installed; another name than it was configured for, as a package is moved."""
    output_of("cmake", "--install", str(BIN.parent), "--component", "rendezvous", "--prefix", str(work / "first"))
    (work / "first").rename(work / "moved")
    return work / "moved"


@pytest.fixture(scope="module")
def by_pkg_config(work, prefix):
    directory = next(prefix.rglob("pkgconfig"))
    env = dict(os.environ, PKG_CONFIG_PATH=str(directory))
    flags = output_of("pkg-config", "--cflags", "--libs", "llmlaunch_rendezvous", env=env).split()
    program = work / "rank_by_pkg_config"
    output_of("cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", str(HERE / "rank.c"), "-o", str(program),
              *flags, f"-Wl,-rpath,{directory.parent}")
    return program


@pytest.mark.usefixtures("via")
def test_a_c99_program_found_it_by_pkg_config_and_every_call_works_in_a_job(hosts, by_pkg_config):
    run = hosts.run(str(by_pkg_config))
    assert run.status == 0, str(run)
    assert run.out.count("all calls work") == 2, str(run)
    hosts.nothing_left(run)


@pytest.mark.usefixtures("via")
def test_a_cmake_project_found_it_and_runs_in_a_job(hosts, work, prefix):
    build = work / "project"
    output_of("cmake", "-S", str(HERE), "-B", str(build), f"-DCMAKE_PREFIX_PATH={prefix}")
    output_of("cmake", "--build", str(build))
    run = hosts.run(str(build / "rank"), config=hosts.config(slots=2))
    assert run.status == 0, str(run)
    assert run.out.count("all calls work") == 4, str(run)
    hosts.nothing_left(run)


def compiled_as_its_first_comment_says(source, work, prefix):
    """The indented lines of the comment, but the last, which runs it. Its library lies where no loader looks."""
    text = source.read_text()
    lines = re.findall(r"^(?://| \*)   (\S.*)$", text, re.M)
    assert lines[-1].startswith("llmlaunch run "), lines
    shutil.copy(source, work)
    output_of("sh", "-ec", "\n".join(lines[:-1]), cwd=work, env=dict(os.environ, PKG_CONFIG_PATH=str(next(prefix.rglob("pkgconfig")))))
    return work / source.stem


@pytest.mark.skipif("asan" in str(BIN) or "tsan" in str(BIN), reason="its library needs the sanitizer's runtime first")
def test_the_gloo_example_is_compiled_as_its_first_comment_says(hosts, work, prefix):
    program = compiled_as_its_first_comment_says(HERE.parents[2] / "trainer" / "examples" / "gloo_all_reduce.cpp", work, prefix)
    run = hosts.run(str(program), config=hosts.config(slots=2))
    assert run.status == 0 and run.out.count("of 4: the sum is 10") == 4, str(run)
    hosts.nothing_left(run)


def test_a_project_that_asks_for_another_version_is_told_which_there_is(work, prefix):
    source = work / "newer"
    source.mkdir()
    (source / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.16)\nproject(p LANGUAGES C)\n"
                                           "find_package(llmlaunchRendezvous 9.0 REQUIRED)\n")
    done = subprocess.run(["cmake", "-S", str(source), "-B", str(source / "b"), f"-DCMAKE_PREFIX_PATH={prefix}"],
                          capture_output=True, text=True)
    assert done.returncode != 0
    assert "version: 0.1.0" in done.stderr, done.stderr


@pytest.mark.usefixtures("via")
def test_the_end_of_the_generation_comes_by_descriptor_and_by_callback(hosts, by_pkg_config):
    run = hosts.run(str(by_pkg_config), "end")
    assert run.status == 3, str(run)
    for way in ("callback", "descriptor", "late callback"):
        assert re.search(rf"^\[rank 0 test01\] {way} .*generation \d+ has ended: ", run.out, re.M), str(run)
    hosts.nothing_left(run)


@pytest.mark.usefixtures("via")
def test_python_loads_it_with_nothing_compiled(hosts, prefix):
    library = next(prefix.rglob("libllmlaunch_rendezvous.so.0"))
    run = hosts.run(PYTHON, str(HERE / "rank.py"), str(library))
    assert run.status == 0, str(run)
    assert "[rank 0 test01] other rank: from 1" in run.out and "[rank 1 test02] other rank: from 0" in run.out, str(run)
    hosts.nothing_left(run)


@pytest.mark.usefixtures("via")
def test_ranks_whose_nccl_differs_are_told_with_both_hosts_before_they_enter_it(hosts, prefix):
    library = next(prefix.rglob("libllmlaunch_rendezvous.so.0"))
    run = hosts.run(PYTHON, str(HERE / "rank.py"), str(library), "22807", "22703")
    assert run.status == 1, str(run)
    first = "rank 0 (test01) has NCCL 2.28.7, but rank 1 (test02) has NCCL 2.27.3"
    second = "rank 1 (test02) has NCCL 2.27.3, but rank 0 (test01) has NCCL 2.28.7"
    assert first in run.err or second in run.err, str(run)
    assert "other rank" not in run.out, str(run)
    hosts.nothing_left(run)


def test_outside_a_job_the_missing_variable_is_named(by_pkg_config):
    env = {name: value for name, value in os.environ.items() if not name.startswith("LLMLAUNCH_")}
    done = subprocess.run([str(by_pkg_config)], capture_output=True, text=True, env=env)
    assert done.returncode == 1
    assert "not_found: environment variable LLMLAUNCH_RENDEZVOUS is not set" in done.stderr, done.stderr
    assert "hint: start the program with 'llmlaunch run'" in done.stderr, done.stderr


def test_the_library_shows_the_functions_of_its_header_and_nothing_else(prefix):
    if not shutil.which("nm"):
        pytest.skip("no nm here")
    library = next(prefix.rglob("libllmlaunch_rendezvous.so.0"))
    names = re.findall(r"^\S+ +T (\w+)@@LLMLAUNCH_RENDEZVOUS_0$", output_of("nm", "-D", "--defined-only", str(library)), re.M)
    others = [line for line in output_of("nm", "-D", "--defined-only", str(library)).splitlines()
              if "llmlaunch_rdv_" not in line and not line.endswith(" A LLMLAUNCH_RENDEZVOUS_0")]
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    declared = re.findall(r"\b(llmlaunch_rdv_\w+)\(", text)
    assert len(declared) > 20 and sorted(names) == sorted(declared)
    assert others == []
    assert "SONAME               libllmlaunch_rendezvous.so.0" in output_of("objdump", "-p", str(library))


def test_every_function_in_the_header_stands_under_its_comment():
    documented, seen, bare = False, 0, []
    for line in HEADER.read_text().splitlines():
        declared = re.match(r"[a-z][\w *]*\b(llmlaunch_rdv_\w+)\(", line)
        if declared:
            seen += 1
            if not documented:
                bare.append(declared[1])
        documented = line.endswith("*/") or (documented and line != "")
    assert seen > 20 and bare == []
