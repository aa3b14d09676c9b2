"""How ranks are steered and what they are given: signals, pause, stdin, limits, cores, setup lines; on real ssh hosts."""
import os
import pathlib
import pty
import re
import select
import signal
import subprocess

import pytest

from conftest import BIN, MARK, PYTHON, processes_with, wait_until

HOSTS = 2


def state_of(pid):
    """The letter of a process's state: S sleeps, T is stopped."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "-"


def changed(**keys):
    def change(data):
        data["llmlaunch"].update(keys)

    return change


# --- signals -------------------------------------------------------------------------------------------------------
CATCH = r"""
import os, signal, sys, time
def show(number, frame):
    print("got", signal.Signals(number).name, flush=True)
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), show)
print("up", flush=True)
while True:
    time.sleep(600)
"""


def test_signals_for_the_ranks_reach_every_main_process_and_stop_nothing(hosts):
    options = ("--forward-signal", "HUP,WINCH")
    run = hosts.start(PYTHON, "-c", CATCH, "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGWINCH", options=options,
                      config=hosts.config(slots=2))
    wait_until(lambda: run.out.count("up") == 4, f"four ranks\n{run}")
    for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGWINCH"):
        os.kill(run.pid, getattr(signal, name))
        wait_until(lambda: run.out.count(f"got {name}") == 4, f"{name} in every rank\n{run}")
        assert f"llmlaunch: {name} sent to 4 ranks\n" in run.err, str(run)
    os.kill(run.pid, signal.SIGTERM)
    assert run.finish(30).status == 143, str(run)
    hosts.nothing_left(run)


class Job:
    """llmlaunch as a shell with job control starts it: a process group of its own in the session of its parent."""

    def __init__(self, hosts, *words, **config):
        self.file = hosts.head / "paused.yaml"
        self.file.write_text(hosts.config(**config))
        self.out = hosts.head / "paused.out"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LLMLAUNCH_")}
        environment.update({"HOME": str(hosts.head / "home"), MARK: "paused"})
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                [str(BIN / "llmlaunch"), "run", "--config", str(self.file), *words], cwd=hosts.head, env=environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                preexec_fn=lambda: (os.setpgid(0, 0), signal.signal(signal.SIGTSTP, signal.SIG_DFL)))

    def said(self):
        return self.out.read_text(errors="replace")

    def ranks(self):
        return [int(pid) for pid in re.findall(r"rank pid (\d+)", self.said())]

    def stop(self):
        """As Ctrl-Z: what a shell's wait sees."""
        os.kill(self.process.pid, signal.SIGTSTP)
        pid, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTSTP, status

    def end(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def start_job(hosts):
    """start_job(timeouts=…): a Job whose two ranks run until job.go is there."""
    jobs = []

    def start(**keys):
        go = hosts.head / "paused-go"
        go.unlink(missing_ok=True)
        jobs.append(Job(hosts, "sh", "-c", f'echo "rank pid $$"; until [ -e "{go}" ]; do sleep 0.05; done; echo done',
                        change=changed(**keys)))
        jobs[-1].go = go
        wait_until(lambda: len(jobs[-1].ranks()) == 2, f"both ranks: {jobs[-1].said()}")
        return jobs[-1]

    yield start
    for one in jobs:
        one.end()


def test_ctrl_z_stops_the_ranks_and_llmlaunch_and_sigcont_continues_them(hosts, start_job):
    job = start_job()
    for _ in range(2):
        job.stop()
        # Their SIGSTOP has been sent before the shell has its prompt; a busy machine may take a moment to act on it.
        wait_until(lambda: [state_of(pid) for pid in job.ranks()] == ["T", "T"], "ranks that stand")
        os.kill(job.process.pid, signal.SIGCONT)
        wait_until(lambda: all(state_of(pid) not in "T-" for pid in job.ranks()), "ranks that go on")
    job.go.touch()
    assert job.process.wait(60) == 0, job.said()
    assert job.said().count("continued after") == 2 and job.said().count("done") == 2, job.said()
    hosts.nothing_left()


def test_kill_9_of_a_stopped_llmlaunch_leaves_no_rank(hosts, start_job):
    job = start_job(timeouts={"head": 3})  # not the default of 15 s, which would be sat out
    job.stop()
    os.kill(job.process.pid, signal.SIGKILL)
    job.process.wait()
    hosts.nothing_left(within=20)


def test_where_no_shell_could_continue_it_ctrl_z_does_not_stop_the_job_for_good(hosts):
    go = hosts.head / "orphaned-go"
    run = hosts.start("sh", "-c", f'echo up; until [ -e "{go}" ]; do sleep 0.05; done')  # leads a session: orphaned
    wait_until(lambda: run.out.count("up") == 2, f"both ranks\n{run}")
    os.kill(run.pid, signal.SIGTSTP)
    run.said("continued after")
    go.touch()
    assert run.finish(60).status == 0, str(run)
    hosts.nothing_left(run)


# --- stdin ---------------------------------------------------------------------------------------------------------
def with_stdin(hosts, data, *words, **config):
    file = hosts.head / "stdin.yaml"
    file.write_text(hosts.config(**config))
    return subprocess.run([str(BIN / "llmlaunch"), "run", "--config", str(file), *words], input=data,
                          capture_output=True, timeout=120, cwd=hosts.head)


def test_stdin_goes_to_rank_0_or_to_all_or_to_nobody(hosts):
    data = bytes(range(256)) * 2000  # 512 kB: many windows
    count = ("sh", "-c", "sha256sum")
    for to, readers in (("0", {0}), ("all", {0, 1}), ("none", set())):
        ended = with_stdin(hosts, data, "--stdin", to, *count)
        assert ended.returncode == 0, ended
        sums = dict(re.findall(r"\[rank (\d) \S+\] (\w+) ", ended.stdout.decode()))
        assert len(sums) == 2, ended
        wanted = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True).stdout.split()[0].decode()
        for rank, found in sums.items():
            assert (found == wanted) == (int(rank) in readers), ended
    hosts.nothing_left()


@pytest.mark.parametrize("kind", ["/dev/null", "file", "closed"])
def test_stdin_that_is_no_pipe_ends_where_it_ends(hosts, kind):
    file = hosts.head / "stdin.yaml"
    file.write_text(hosts.config())
    path = file if kind == "file" else "/dev/null"
    with open(path, "rb") as stream:
        close = (lambda: os.close(0)) if kind == "closed" else None
        ended = subprocess.run([str(BIN / "llmlaunch"), "run", "--stdin", "all", "--config", str(file), "wc", "-c"],
                               stdin=stream, preexec_fn=close, capture_output=True, text=True, timeout=60, cwd=hosts.head)
    assert ended.returncode == 0, ended
    size = file.stat().st_size if kind == "file" else 0
    assert sorted(re.findall(r"\] (\d+)$", ended.stdout, re.M)) == [str(size)] * 2, ended


def test_a_rank_that_does_not_read_makes_nobody_grow(hosts):
    """What it does not take stays in the writer's hands, but for three windows: a pipe, llmlaunch's and the rank's own."""
    file = hosts.head / "stdin.yaml"
    file.write_text(hosts.config())
    go = hosts.head / "read-go"
    script = f'echo up; until [ -e "{go}" ]; do sleep 0.05; done; wc -c'
    process = subprocess.Popen([str(BIN / "llmlaunch"), "run", "--stdin", "0", "--config", str(file), "sh", "-c", script],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=hosts.head)
    try:
        os.set_blocking(process.stdin.fileno(), False)
        written, piece = 0, b"x" * 4096
        while select.select([], [process.stdin], [], 3.0)[1]:  # until nobody takes anything for three seconds
            written += os.write(process.stdin.fileno(), piece)
            assert written < 1 << 20, "a megabyte was taken for a rank that reads nothing"
        assert 64 << 10 <= written <= 5 * (64 << 10), written
        go.touch()
        os.set_blocking(process.stdin.fileno(), True)
        out, err = process.communicate(b"y" * 100_000, timeout=60)
    finally:
        process.kill()
        process.wait()
    assert re.search(rf"\[rank 0 \S+\] {written + 100_000}$", out.decode(), re.M), (out, err)


def test_a_terminal_in_the_background_is_not_read_and_stops_nobody(hosts):
    """As `llmlaunch --stdin 0 … &` at a prompt: reading would stop it by SIGTTIN."""
    file = hosts.head / "stdin.yaml"
    file.write_text(hosts.config())
    go = hosts.head / "tty-go"
    script = f'echo up; until [ -e "{go}" ]; do sleep 0.05; done'
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(hosts.head)
        command = f'set -m; "{BIN}/llmlaunch" run --stdin 0 --config "{file}" sh -c \'{script}\' & wait $!; echo "status $?"'
        os.execv("/bin/bash", ["bash", "-c", command])
    said = bytearray()

    def look():
        if select.select([terminal], [], [], 0)[0]:
            try:
                said.extend(os.read(terminal, 65536))
            except OSError:
                return True
        return False

    try:
        wait_until(lambda: look() or said.count(b"up") == 2, "both ranks")
        os.write(terminal, b"typed for the shell\n")
        go.touch()
        wait_until(lambda: look() or b"status" in said, f"its end: {bytes(said)}")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    assert b"status 0" in said, bytes(said)
    hosts.nothing_left()


# --- what ranks are given ------------------------------------------------------------------------------------------
def test_limits_and_umask_are_those_of_the_file(hosts):
    change = changed(limits={"nofile": 99, "core": 0, "stack": "4M"}, umask="027")
    run = hosts.run("sh", "-c", "echo $(ulimit -n) $(ulimit -c) $(ulimit -s) $(umask)", config=hosts.config(change))
    assert run.status == 0, str(run)
    assert run.out.count("] 99 0 4096 0027\n") == 2, str(run)


def test_a_limit_above_the_hard_limit_is_told_by_host_and_both_values_before_any_rank_starts(hosts):
    hard = subprocess.run(["sh", "-c", "ulimit -Hn"], capture_output=True, text=True, check=True).stdout.strip()
    touched = hosts.head / "touched"
    run = hosts.run("touch", str(touched), config=hosts.config(changed(limits={"nofile": int(hard) + 1})))
    assert run.status == 69, str(run)
    assert (f"llmlaunch: error: 2 hosts test[01-02]: limit nofile {int(hard) + 1} is above the hard limit there, {hard}\n"
            "   no rank was started on any host\n") in run.err, str(run)
    assert not touched.exists()
    hosts.nothing_left(run)


def cpus_of_ranks(run):
    """{rank: the set of CPUs that it may use}"""
    found = {}
    for rank, text in re.findall(r"\[rank (\d) \S+\] Cpus_allowed_list:\s+(\S+)", run.out):
        ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
        found[int(rank)] = {cpu for part in ends for cpu in range(part[0], part[-1] + 1)}
    return found


def core_of(cpu):
    """The CPUs that share its core, as the kernel writes them."""
    try:
        return pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def test_bound_ranks_share_no_core_and_the_threads_are_said_once(hosts):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is only one CPU")
    run = hosts.run("sh", "-c", "grep Cpus_allowed_list /proc/self/status; echo threads $OMP_NUM_THREADS",
                    options=("--cpu-bind", "core"), config=hosts.config(slots=2), env={"OMP_NUM_THREADS": "9"})
    assert run.status == 0, str(run)
    cpus = cpus_of_ranks(run)
    assert len(cpus) == 4 and not cpus[0] & cpus[1] and not cpus[2] & cpus[3], str(run)
    assert run.err.count("OMP_NUM_THREADS, set nowhere, is the cores of each rank: ") == 1, str(run)
    threads = {int(rank): int(count) for rank, count in re.findall(r"\[rank (\d) \S+\] threads (\d+)$", run.out, re.M)}
    assert threads == {rank: len({core_of(cpu) for cpu in own}) for rank, own in cpus.items()}, str(run)


BINDINGS = {
    "accelerate's key": (["--set", "enable_cpu_affinity=true"], None),
    "accelerate's option": (["--enable_cpu_affinity"], None),
    "accelerate's key in a job on CPUs": (["--set", "enable_cpu_affinity=true", "--cpu"], None),
    "torchrun's option": (["--numa-binding", "node"],
                          "--numa-binding node: taken as --cpu-bind gpu, which gives each rank cores of its own"),
    "torchrun's option without a difference": (["--numa-binding=exclusive"], None),
}


@pytest.mark.parametrize("how", sorted(BINDINGS))
def test_bindings_of_accelerate_and_torchrun_bind_the_ranks(hosts, how):
    """On a host without GPUs, too, where torchrun would bind nothing: there by NUMA nodes, which is said."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is only one CPU")
    options, note = BINDINGS[how]
    run = hosts.run("sh", "-c", "grep Cpus_allowed_list /proc/self/status", options=options, config=hosts.config(slots=2))
    assert run.status == 0, str(run)
    lists = dict(re.findall(r"\[rank (\d) \S+\] Cpus_allowed_list:\s+(\S+)", run.out))
    assert len(lists) == 4 and lists["0"] != lists["1"] and lists["2"] != lists["3"], str(run)
    assert note is None or note in run.err, str(run)


def test_a_binding_that_another_setting_decides_is_said_to_have_no_effect(hosts):
    run = hosts.run("sh", "-c", "grep Cpus_allowed_list /proc/self/status", config=hosts.config(slots=1),
                    options=["--set", "enable_cpu_affinity=true", "--cpu-bind", "none"])
    assert run.status == 0, str(run)
    assert ("--set enable_cpu_affinity: enable_cpu_affinity has no effect: cpu_bind decides which cores a rank gets "
            "(--cpu-bind)") in run.err, str(run)
    own = open("/proc/self/status").read().split("Cpus_allowed_list:")[1].split()[0]
    assert set(re.findall(r"Cpus_allowed_list:\s+(\S+)", run.out)) == {own}, str(run)


def test_setup_lines_of_all_and_of_one_host_make_the_ranks_environment(hosts):
    def change(data):
        data["llmlaunch"]["setup"] = ["export BASE=all", "echo loading; module() { echo \"$@\"; }; module load cuda"]
        data["llmlaunch"]["hosts"][1]["setup"] = "export BASE=$BASE-and-own"
        data["llmlaunch"]["rank_env"] = {"PLACE": "{rank}/{local_rank}/{node_rank}/{world_size}/{host}"}

    profile = hosts.home("test01") / ".profile"
    profile.write_text("echo profile noise\nexport SHLIB=from-profile\n")
    try:
        run = hosts.run("sh", "-c", "echo $BASE $SHLIB $PLACE", config=hosts.config(change), env={"SHELL": "/bin/sh"})
    finally:
        profile.unlink()
    assert run.status == 0, str(run)
    assert "[rank 0 test01] all from-profile 0/0/0/2/test01\n" in run.out, str(run)
    assert "[rank 1 test02] all-and-own 1/0/1/2/test02\n" in run.out, str(run)
    for line in ("test01 said: profile noise", "test01 said: loading", "test02 said: load cuda"):
        assert f"llmlaunch: {line}\n" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_setup_line_that_fails_names_host_line_status_and_output_and_no_rank_starts(hosts):
    def change(data):
        data["llmlaunch"]["hosts"][1]["setup"] = ["true", "echo out of luck; (exit 7)"]

    run = hosts.run("touch", str(hosts.head / "touched"), config=hosts.config(change))
    assert run.status == 69, str(run)
    assert ("llmlaunch: error: host test02 (node_rank 1, rank 1): setup line 2 'echo out of luck; (exit 7)' failed with "
            "status 7\n   the last line that was printed:\n     | out of luck\n   no rank was started on any host\n"
            ) in run.err, str(run)
    assert not (hosts.head / "touched").exists()
    hosts.nothing_left(run)


def test_a_setup_line_that_hangs_is_named_at_the_start_deadline(hosts):
    change = changed(setup="sleep 1000", timeouts={"start": 2})
    run = hosts.run("true", config=hosts.config(change))
    assert run.status == 69, str(run)
    assert "setup line 1 'sleep 1000' did not end within 2 s" in run.err, str(run)
    hosts.nothing_left(run)


def test_secrets_of_setup_lines_are_on_no_command_line(hosts):
    secret = "hf_0123456789secret"
    run = hosts.start("true", config=hosts.config(changed(setup=[f"export HF_TOKEN={secret}", "echo in setup; sleep 1"])))
    run.said("in setup")
    for command in hosts.processes(run).values():
        assert secret not in command, command
    assert run.finish().status == 0, str(run)
    assert secret not in run.err + run.out
    assert secret not in "".join(file.read_text(errors="replace") for file in hosts.run_directory().iterdir())
    hosts.nothing_left(run)


def test_denied_variables_are_not_forwarded(hosts):
    change = changed(forward_env=[MARK, "HF_*", "!HF_TOKEN"])
    run = hosts.run("sh", "-c", "echo token=$HF_TOKEN home=$HF_HOME", config=hosts.config(change),
                    env={"HF_TOKEN": "secret", "HF_HOME": "/hf"})
    assert run.status == 0, str(run)
    assert run.out.count("token= home=/hf") == 2, str(run)


@pytest.mark.parametrize("command", ["run", "exec"])
def test_the_token_of_other_jobs_does_not_reach_ranks_of_this_machine(hosts, command):
    def this_machine(data):
        data["llmlaunch"].update(hosts=["localhost"], setup=["echo setup=$LLMLAUNCH_JOIN_TOKEN."] * (command == "run"))
        data.update(num_machines=1, num_processes=1)

    run = hosts.run("env", config=hosts.config(this_machine), command=command,
                    env={"LLMLAUNCH_JOIN_TOKEN": "it-is-for-nobody-here", "OTHER": "is-inherited"})
    assert run.status == 0 and "OTHER=is-inherited" in run.out, str(run)
    assert "it-is-for-nobody-here" not in run.out + run.err and "LLMLAUNCH_JOIN_TOKEN" not in run.out, str(run)
    if command == "run":
        assert "setup=." in run.out + run.err, str(run)
    hosts.nothing_left(run)


def test_workers_of_other_launchers_find_their_place(hosts):
    names = ("RANK ROLE_RANK HOROVOD_RANK OMPI_COMM_WORLD_RANK HOROVOD_SIZE OMPI_COMM_WORLD_SIZE GROUP_RANK CROSS_RANK "
             "HOROVOD_CROSS_RANK").split()
    run = hosts.run("sh", "-c", "echo " + " ".join(f"${name}" for name in names))
    assert run.status == 0, str(run)
    assert "[rank 1 test02] 1 1 1 1 2 2 1 1 1\n" in run.out, str(run)
