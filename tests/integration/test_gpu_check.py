"""scripts/gpu_check.sh without a GPU: what it says of a machine that cannot build, of programs that were built elsewhere, of checks that
hang and of a graph that a device refuses. The driver, the toolkit and the programs are stubs here."""
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
    (tmp_path / "wheels/nvidia/nccl/lib").mkdir(parents=True)
    (tmp_path / "wheels/nvidia/nccl/lib/libnccl.so.2").touch()
    stub(programs / "gpu_backend_test", '[ -z "$STUB_HANGS" ] || exec sleep 600')
    stub(programs / "unit_trainer_libraries", '[ -z "$STUB_WHEELS" ] || case $LD_LIBRARY_PATH in *wheels/nvidia/nccl/lib) ;; *) exit 1 ;; esac')
    for name in "example_nccl_all_reduce", "llmlaunch":
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
    # What needs no graph is measured all the same.
    assert "bf16: llmlaunch-train, samples/s" in out and "start to 99 %" in out, out
    assert "llmlaunch-train, CUDA graph, fp32: there was no graph to measure" in err


def test_a_graph_passes_and_is_measured_in_each_precision(check):
    status, out, err = check("--repeat", "2")
    assert status == 0, out + err
    for precision in "fp32", "tf32", "bf16":
        assert f"{precision}: llmlaunch-train, CUDA graph, samples/s" in out and "100 (100 100)" in out, out


def test_faster_algorithms_of_cudnn_are_measured_too(check, tmp_path):
    bench = tmp_path / "build/bin/convolution_bench"
    bench.write_text("#!/bin/sh\necho \"$1: the fastest that repeat | LLMLAUNCH_CUDNN_ALGORITHMS=6,1,5 saves 9.0 us\"\n")
    bench.chmod(0o755)
    train = tmp_path / "build/bin/llmlaunch-train"
    train.write_text("""#!/bin/sh
[ "$LLMLAUNCH_CUDNN_ALGORITHMS" = 6,1,5 ] && speed=200
echo "step 1/1 loss 1.0000 (${speed:-100} samples/s)"
echo "test accuracy 99.50 %"
""")
    status, out, err = check("--repeat", "1", "--only", "speed", LLMLAUNCH_PRECISIONS="tf32")
    assert status == 0, out + err
    assert "tf32: the fastest that repeat" in out and "LLMLAUNCH_CUDNN_ALGORITHMS=6,1,5 saves 9.0 us" in out, out
    assert "tf32: llmlaunch-train, CUDA graph, cuDNN's fastest, samples/s" in out and "200 (200)" in out, out


def test_a_wrong_argument_is_refused(check):
    for words in ["--repeat", "0"], ["--repet"], ["--only", "speed,all"], ["--pack", "--repeat"]:
        status, _, err = check(*words)
        assert status == 64 and "usage: scripts/gpu_check.sh [--repeat N] [--only PARTS] [--pack FILE] [BUILD_DIR]" in err, err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs")
def test_where_nothing_can_be_installed_what_is_missing_is_said(check, tmp_path):
    for name, text in ("dpkg-query", "exit 1"), ("apt-get", "exit 100"):
        (tmp_path / "tools" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "tools" / name).chmod(0o755)
    status, _, err = check(STUB_MISSING="Gloo\n")
    assert status == 69 and "error: the build needs what is not here: Gloo\n" in err, err


def test_programs_that_were_built_elsewhere_need_no_build(check, tmp_path):
    (tmp_path / "build" / "packed").touch()
    status, out, err = check("--only", "checks", CUDA_HOME="/nowhere", STUB_MISSING="Gloo\n", STUB_CMAKE_VERSION="3.0")
    assert status == 0 and "one epoch on one GPU" in out and "speed" not in out, out + err


def test_what_is_packed_are_the_programs_and_libraries_that_another_machine_may_lack(check, tmp_path):
    for name in "llmlaunch-agent", "nccl_all_reduce_bench", "convolution_bench":
        (tmp_path / "build/bin" / name).touch()
    (tmp_path / "libdnnl.so.2").touch()
    (tmp_path / "tools/ldd").write_text(f"""#!/bin/sh
echo "\tlibdnnl.so.2 => {tmp_path}/libdnnl.so.2 (0x1)"
echo "\tlibc.so.6 => /lib/libc.so.6 (0x2)"
echo "\tlibnccl.so.2 => /usr/lib/libnccl.so.2 (0x3)"
""")
    (tmp_path / "tools/strip").write_text("#!/bin/sh\n")
    for name in "ldd", "strip":
        (tmp_path / "tools" / name).chmod(0o755)
    (tmp_path / "tools/nvidia-smi").unlink()  # no GPU is needed
    status, out, err = check("--pack", str(tmp_path / "packed.tar.gz"))
    assert status == 0 and "packed.tar.gz: " in out, out + err
    names = subprocess.run(["tar", "-tzf", tmp_path / "packed.tar.gz"], capture_output=True, text=True, check=True).stdout.split()
    assert "./packed" in names and "./bin/llmlaunch-train" in names and "./bin/nccl_all_reduce_bench" in names, names
    assert [name for name in names if name.startswith("./lib/")] == ["./lib/", "./lib/libdnnl.so.2"], names


def test_the_libraries_of_a_pythons_wheels_are_found(check, tmp_path):
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh
[ "$1" != -c ] || exit 1
echo {tmp_path}/wheels/nvidia/nccl/lib
""")
    python.chmod(0o755)
    status, out, err = check("--only", "checks", STUB_WHEELS="1", LLMLAUNCH_PYTHON=str(python))
    assert status == 0, out + err


def test_a_check_that_hangs_is_a_row_and_the_others_follow(check):
    status, out, err = check("--only", "checks", STUB_HANGS="1", LLMLAUNCH_CHECK_SECONDS="1")
    rows = {line[:48].rstrip(): line[49:] for line in out.splitlines()}
    assert status == 1 and rows["CUDA backend against the CPU's"] == "FAILED   no end within 1 s", out + err
    assert rows["the same as a CUDA graph"].startswith("passed"), out + err


def test_a_peer_that_fails_is_a_row_and_no_error(tmp_path):
    train, peer = tmp_path / "llmlaunch-train", tmp_path / "python"
    train.write_text("#!/bin/sh\n" + TRAIN)
    peer.write_text("""#!/bin/sh
case $2 in
  compile) echo "no compiler"; exit 1 ;;
  *) echo "step 1/1 loss 1.0000 (50 samples/s)" ;;
esac
""")
    for program in train, peer:
        program.chmod(0o755)
    ended = subprocess.run(["python3", ROOT / "tests/bench/bench_gpu.py", "--bin", tmp_path, "--python", peer, "--repeat", "1",
                            "--precisions", "tf32"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "tf32: PyTorch, torch.compile, samples/s | failed: no compiler\n" in ended.stdout
    assert "tf32: llmlaunch-train / PyTorch | eager 2.00, the best (eager) 2.00\n" in ended.stdout
