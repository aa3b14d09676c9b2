"""scripts/gpu_check.sh without a GPU: what it says of a machine that cannot build, and of a graph that a device refuses. The driver,
the toolkit and the programs are stubs here."""
import os
import subprocess

import pytest

from conftest import ROOT

SCRIPT = str(ROOT / "scripts" / "gpu_check.sh")

CMAKE = """
case "$*" in
  *--version*) echo "cmake version ${STUB_CMAKE_VERSION:-3.25.1}" ;;
  *MISSING_FILE=*) for word; do case $word in -DMISSING_FILE=*) printf "$STUB_MISSING" >"${word#*=}" ;; esac; done ;;
  *--preset*) [ "$CUDACXX" = "$STUB_NVCC" ] || exit 9 ;;
esac
"""
TRAIN = """
case "$*" in
  *"--train_samples 8"*) echo "no GPU: a stub" >&2; exit 69 ;;
  *"--cuda_graph false"*) ;;
  *--cuda_graph*) [ -z "$STUB_REFUSES" ] || echo "--cuda_graph: 1 of 1 ranks cannot; every step is started by the host" ;;
esac
echo "step 1/1 loss 1.0000 (100 samples/s)"
echo "epoch 1/1 done: parameter hash abcdef"
echo "test accuracy 99.50 %"
"""


@pytest.fixture(autouse=True)
def programs():
    """These tests need no program of ours."""


@pytest.fixture
def check(tmp_path):
    """Runs the script where stubs are in PATH: its status, stdout and stderr."""
    tools, programs, toolkit = tmp_path / "tools", tmp_path / "build" / "bin", tmp_path / "toolkit" / "bin"
    for folder in tools, programs, toolkit:
        folder.mkdir(parents=True)

    def stub(file, text=""):
        file.write_text("#!/bin/sh\n" + text)
        file.chmod(0o755)

    stub(tools / "nvidia-smi", "echo 'a stub'")
    stub(tools / "cmake", CMAKE)
    stub(tools / "ninja")
    stub(tools / "dpkg-query", "echo installed")
    stub(toolkit / "nvcc")
    for name in "unit_trainer_libraries", "gpu_backend_test", "example_nccl_all_reduce", "llmlaunch":
        stub(programs / name)
    stub(programs / "llmlaunch-train", TRAIN)

    def run(*arguments, **more):
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path), "CUDA_HOME": str(toolkit.parent),
                       "STUB_NVCC": str(toolkit / "nvcc"), **more}
        ended = subprocess.run(["bash", SCRIPT, *arguments, str(tmp_path / "build")], env=environment, capture_output=True, text=True,
                               timeout=60, check=False)
        return ended.returncode, ended.stdout, ended.stderr

    return run


def test_all_that_the_build_needs_and_does_not_find_is_one_message(check):
    status, _, err = check(STUB_MISSING="Gloo\nCLI11\n")
    assert status == 69 and "error: the build needs what is not here: Gloo, CLI11\n" in err, err
    status, _, err = check(STUB_CMAKE_VERSION="3.18.4", CXX="/nowhere/c++")
    assert status == 69 and "not here: a C++ compiler (GCC 12), CMake 3.25 (here: 3.18.4), perhaps libraries" in err, err


def test_what_is_missing_is_found_out_at_once(tmp_path):
    found = tmp_path / "missing"
    without = [f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in ("Gloo", "CLI11", "CUDAToolkit")]
    subprocess.run(["cmake", "-S", ROOT / "scripts" / "needs", "-B", tmp_path / "build", f"-DMISSING_FILE={found}", *without],
                   capture_output=True, timeout=60, check=True)
    names = found.read_text().splitlines()
    assert [name for name in names if "NCCL" not in name and "cuDNN" not in name] == ["CLI11", "Gloo", "CUDA Toolkit"]


def test_a_graph_that_the_device_refused_has_not_passed(check):
    status, out, err = check("--repeat", "1", STUB_REFUSES="1")
    rows = {line[:48].rstrip(): line[49:].split() for line in out.splitlines()}
    for name in "the same as a CUDA graph", "both ways end with the same weights", "speed beside PyTorch":
        assert rows[name][0] == "FAILED", out + err
    assert rows["one epoch on one GPU"][0] == "passed" and status == 1, out + err
    assert "llmlaunch-train, CUDA graph, fp32: there was no graph to measure" in err


def test_a_graph_passes_and_is_measured_in_each_precision(check):
    status, out, err = check("--repeat", "2")
    assert status == 0, out + err
    for precision in "fp32", "tf32", "bf16":
        assert f"{precision}: llmlaunch-train, CUDA graph, samples/s" in out and "100 (100 100)" in out, out


def test_a_wrong_argument_is_refused(check):
    for words in ["--repeat", "0"], ["--repet"]:
        status, _, err = check(*words)
        assert status == 64 and "usage: scripts/gpu_check.sh [--repeat N] [BUILD_DIR]" in err, err
