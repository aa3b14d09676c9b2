"""Training over ssh: the main job, and the proof that four ranks on two hosts do the arithmetic of one process."""
import json
import os
import re
import signal
import subprocess

import pytest

from conftest import BIN, MARK, SCALE, processes_with
from test_faults import headline
from test_run import bytes_sent_to

HOSTS = 2


@pytest.fixture(scope="module", autouse=True)
def trainer():
    assert (BIN / "llmlaunch-train").is_file(), f"{BIN / 'llmlaunch-train'} is not built"


def accuracy(run):
    found = re.findall(r"accuracy\D*([\d.]+)", run.out)
    assert found, f"no accuracy was printed\n{run}"
    return float(found[-1])


def hashes(run):
    """{epoch: {rank: parameter hash}}."""
    found = {}
    for rank, epoch, value in re.findall(r"^\[rank (\d+) \S+\].*epoch (\d+).*hash[ =:]+([0-9a-f]{8,})", run.out, re.M):
        found.setdefault(int(epoch), {})[int(rank)] = value
    return found


def losses(file):
    """{step: loss} from the file that --loss_file names."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return {entry["step"]: entry["loss"] for entry in found}


@pytest.mark.skipif(SCALE > 1, reason="a whole epoch takes minutes under sanitizers; the short runs below stay")
def test_two_ssh_hosts_train_one_epoch_to_97_percent(hosts):
    run = hosts.run("train", "--log_level_replica", "info", timeout=300)
    assert run.status == 0, str(run)
    assert accuracy(run) >= 97.0, str(run)
    (by_rank,) = hashes(run).values()
    assert sorted(by_rank) == [0, 1] and len(set(by_rank.values())) == 1, str(run)
    hosts.nothing_left(run)


@pytest.mark.usefixtures("via")
def test_two_hosts_with_two_ranks_give_the_losses_of_one_process_with_the_fourfold_batch(hosts):
    steps = 20 if SCALE == 1 else 4
    same = ["--max_steps", steps, "--dropout", "off", "--seed", 7, "--train_samples", 4 * 16 * steps, "--eval_samples", 100,
            "--log_level_replica", "info"]
    curves = {}
    for name, batch, config in (
            ("four ranks", 16, hosts.config(slots=2)),
            ("one process", 64, hosts.config(lambda data: data.update(num_machines=1, num_processes=1)
                                             or data["llmlaunch"].update(hosts=[{"name": "localhost", "slots": 1}])))):
        file = hosts.head / f"losses-{name.replace(' ', '-')}"
        run = hosts.run("train", "--per_device_train_batch_size", str(batch), "--loss_file", str(file),
                        *[str(word) for word in same], config=config, timeout=300)
        assert run.status == 0, str(run)
        curves[name] = losses(file)
        assert len(curves[name]) == steps, str(run)
        for epoch, by_rank in hashes(run).items():
            assert len(set(by_rank.values())) == 1, f"epoch {epoch}: the ranks' parameters differ\n{run}"
        if name == "four ranks":
            assert [sorted(by_rank) for by_rank in hashes(run).values()], f"no parameter hash was printed\n{run}"
            assert all(sorted(by_rank) == [0, 1, 2, 3] for by_rank in hashes(run).values()), str(run)
        hosts.nothing_left(run)
    first, second = curves["four ranks"], curves["one process"]
    assert first.keys() == second.keys()
    worst = max(abs(first[step] - second[step]) for step in first)
    assert worst <= 1e-4, f"the loss curves differ by {worst}: {first} against {second}"
    assert min(second.values()) < max(second.values()), "the loss never moved: nothing was trained"


# What is never pushed: it has to fit the host's own loader.
GLIBC = re.compile(r"(ld-linux.*|lib(c|m|mvec|pthread|dl|rt|resolv|util|anl|nsl|nss_(files|dns|compat)))\.so\.\d+")


def libraries_of(pid):
    """The shared libraries that a process has mapped, glibc's left out."""
    with open(f"/proc/{pid}/maps") as maps:
        files = {line.split(None, 5)[5].rstrip("\n") for line in maps if len(line.split(None, 5)) == 6}
    return {file for file in files if re.search(r"\.so(\.|$)", file) and not GLIBC.fullmatch(os.path.basename(file))}


def test_ranks_load_only_libraries_that_were_pushed_and_those_cross_the_wire_once(hosts):
    caches = [hosts.home(name).resolve() / ".cache" / "llmlaunch" for name in hosts.names]
    for cache in caches:
        subprocess.run(["rm", "-rf", str(cache)], check=True)
    sent = []
    for attempt in range(2):
        run = hosts.start("train", "--use_cpu", "--num_train_epochs", "1000", "--logging_steps", "1")
        run.said("step ", timeout=120)
        sent.append(bytes_sent_to(hosts, run.pid))
        for rank, cache in enumerate(caches):
            pids = [pid for pid, line in processes_with(f"RANK={rank}").items()
                    if pid in processes_with(f"{MARK}={run.mark}") and line.split()[0].endswith("/llmlaunch-train")]
            assert len(pids) == 1, f"{pids}\n{run}"
            assert os.readlink(f"/proc/{pids[0]}/exe").startswith(f"{cache}/"), str(run)
            libraries = libraries_of(pids[0])
            assert {"libdnnl", "libgloo", "libstdc++"} <= {os.path.basename(file).split(".so")[0] for file in libraries}
            assert [file for file in libraries if not file.startswith(f"{cache}/")] == [], f"the host's own\n{run}"
        os.kill(run.pid, signal.SIGINT)
        assert run.finish(60).status == 130, str(run)
        hosts.nothing_left(run)
    pushed = sum(file.stat().st_size for cache in caches for file in cache.rglob("*.so*"))
    assert pushed > 2 * 10_000_000, f"only {pushed} bytes of libraries are on the hosts"
    assert sent[0] > pushed, f"the first run sent {sent[0]} bytes, and {pushed} are on the hosts"
    assert sent[1] < 2 * 64_000, f"the second run sent {sent[1]} bytes to hosts that have everything"
    left = [file for cache in caches for file in cache.rglob("*") if GLIBC.fullmatch(file.name)]
    assert left == [], "glibc's own parts were pushed"


def test_a_library_that_was_damaged_on_a_host_is_sent_again(hosts):
    short = ["train", "--use_cpu", "--max_steps", "1", "--train_samples", "256", "--eval_samples", "64"]
    assert hosts.run(*short, timeout=300).status == 0
    (library,) = (hosts.home("test01") / ".cache" / "llmlaunch").rglob("libgloo.so*")
    whole = library.read_bytes()
    library.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    run = hosts.run(*short, timeout=300)
    assert run.status == 0, str(run)
    assert library.read_bytes() == whole
    hosts.nothing_left(run)


def test_what_the_loader_says_on_a_host_reaches_the_user_with_the_cause(hosts):
    """Real words of a real loader, from programs whose needs were changed to what no machine has."""
    program = open("/bin/ls", "rb").read()
    cases = [(b"GLIBC_2.", b"GLIBC_9.", 1, "version `GLIBC_9.", "glibc on test0[12] is older"),
             (b"libselinux.so.1", b"libselinuX.so.1", 127, "error while loading shared libraries: libselinuX.so.1",
              "install on test0[12] what brings that library")]
    for old, new, status, words, hint in cases:
        assert old in program, f"/bin/ls of this machine has no {old}"
        changed = hosts.head / "changed"
        changed.write_bytes(program.replace(old, new))
        changed.chmod(0o755)
        run = hosts.run(str(changed))
        assert run.status == status, str(run)
        assert words in run.err, str(run)
        assert re.search(f"^ *hint: {hint}", run.err, re.M), str(run)
        hosts.nothing_left(run)


@pytest.mark.usefixtures("via")
def test_ctrl_c_during_training_stops_both_hosts(hosts):
    run = hosts.start("train", "--num_train_epochs", "1000", "--logging_steps", "1")
    run.said("step ", timeout=120)
    os.kill(run.pid, signal.SIGINT)
    run.finish(60)
    assert run.status == 130, str(run)
    hosts.nothing_left(run)


@pytest.mark.usefixtures("via")
def test_a_trainer_that_is_killed_is_named_and_the_other_stops(hosts):
    run = hosts.start("train", "--num_train_epochs", "1000", "--logging_steps", "1")
    run.said("step ", timeout=120)
    victim = [pid for pid, line in processes_with("RANK=1").items()
              if pid in processes_with(f"{MARK}={run.mark}") and "agent" not in line.split()[0]]
    assert len(victim) == 1, victim
    os.kill(victim[0], signal.SIGKILL)
    run.finish(60)
    assert run.status == 128 + signal.SIGKILL, str(run)
    assert re.search(r"rank 1\b", run.err) and "SIGKILL" in run.err and "test02" in run.err, str(run)
    hosts.nothing_left(run)


@pytest.mark.parametrize("early", [0, 1])
def test_a_rank_that_ends_well_before_it_joins_is_not_waited_for(hosts, early):
    """Until timeouts.rendezvous it was, 300 s."""
    other = f'if [ "$RANK" = {early} ]; then exit 0; fi; exec "$@"'
    run = hosts.run("sh", "-c", other, "sh", str(BIN / "llmlaunch-train"), "--use_cpu", timeout=120)
    assert run.status == 69, str(run)
    said = f"rank {early} (test0{early + 1}) has ended without having joined"
    assert run.err.count(said) == 3 and "all ranks join, or none: does each run the same program" in run.err, str(run)
    hosts.nothing_left(run)


def test_variables_where_llmlaunch_runs_are_flags_of_all_ranks(hosts):
    short = ["train", "--use_cpu", "--train_samples", "256", "--eval_samples", "64", "--logging_steps", "1"]
    run = hosts.run(*short, env={"LLMLAUNCH_TRAIN_MAX_STEPS": "2", "LLMLAUNCH_TRAIN_LOGGING_STEPS": "100"})
    assert run.status == 0 and "step 1/2" in run.out and "step 2/2" in run.out, str(run)
    run = hosts.run(*short, env={"LLMLAUNCH_TRAIN_MAX_STEP": "2"})
    assert run.status == 78, str(run)
    assert "environment variable LLMLAUNCH_TRAIN_MAX_STEP: is no option of the trainer" in run.err, str(run)
    assert "did you mean LLMLAUNCH_TRAIN_MAX_STEPS?" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_wrong_flag_of_the_trainer_is_said_once_with_its_status(hosts):
    run = hosts.run("train", "--learning_rat", "1")
    assert run.status not in (0, None), str(run)
    assert headline(run).startswith("llmlaunch: error: rank 0 "), str(run)
    times = (run.out + run.err).count("unknown flag '--learning_rat'")
    assert times == 2 or (SCALE > 1 and times == 3), str(run)  # rank 0's line, and the headline's; the other waits 2 s
    assert "stopped by SIGTERM" not in run.out + run.err, str(run)
    hosts.nothing_left(run)


def test_the_trainer_s_word_typed_wrong_is_a_program_that_is_nowhere(hosts):
    run = hosts.run("trian")
    assert run.status == 127, str(run)
    assert "no program 'trian' in PATH" in run.err and "; or did you mean 'train', the built-in trainer?\n" in run.err, str(run)


@pytest.mark.parametrize("question, answer", [("--help", "Trains a small network"), ("-h", "Trains a small network"),
                                              ("--version", "llmlaunch-train ")])
def test_the_trainer_s_help_needs_no_host_and_no_configuration(hosts, question, answer):
    run = hosts.run("train", "--max_steps", "1", question, config="no such key: 1\n")
    assert run.status == 0 and run.err == "", str(run)
    assert run.out.startswith(answer), str(run)
    assert run.out.count(answer) == 1, str(run)


def test_a_main_process_ip_that_leads_nowhere_is_found_before_ranks_start(hosts):
    """A link-local address without its interface: connect refuses it, and no packet leaves this machine."""
    def change(data):
        data["main_process_ip"] = "fe80::dead:beef"

    run = hosts.run("train", "--max_steps", "1", config=hosts.config(change), timeout=60)
    assert run.status == 69, str(run)
    assert re.search(r"no connection to the rendezvous on the head \(\[fe80::dead:beef\]:\d+: Invalid argument\)", run.err), run
    assert "main_process_ip fe80::dead:beef is no address of this machine" in run.err, str(run)
    hosts.nothing_left(run)


def test_a_main_process_ip_that_nobody_knows_ends_in_the_time_of_the_rendezvous(hosts):
    address = "nohost.invalid"

    def change(data):
        data["main_process_ip"] = address
        data["llmlaunch"]["timeouts"] = {"rendezvous": 3}

    run = hosts.run("train", "--max_steps", "1", config=hosts.config(change), timeout=60)
    assert run.status == 69, str(run)
    assert re.search(rf"rank [01] \(test0[12]\): no .* rendezvous {address}:\d+", run.err), str(run)
    assert f"{address} must be an address of the machine where llmlaunch runs (main_process_ip)" in run.err, str(run)
    assert f"main_process_ip {address} is no address of this machine" not in run.err, str(run)
    hosts.nothing_left(run)
