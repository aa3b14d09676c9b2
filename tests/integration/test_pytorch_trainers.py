"""Scripts of Hugging Face accelerate and transformers, as people write them, on two hosts: they find their world and the
head's store. Both environments of scripts/python_env.sh: transformers is in the second one, PyTorch in the first."""
import pathlib
import re

from test_pytorch_store import SCRIPTS, config, python, said  # noqa: F401, the fixtures
from test_train_reports import python as readers  # noqa: F401

HOSTS = 2


def on_cpus(hosts):
    return config(hosts).replace("distributed_type: MULTI_GPU", "distributed_type: MULTI_CPU")


def heads_port_is_every_ranks(run, via):
    """MASTER_PORT is that of the head, or by ssh that of each host's way to it."""
    head = re.search(r"rendezvous port (\d+)", run.err).group(1)
    ports = said(run, "port")
    assert len(ports) == 4 and all((port == head) == (via == "direct") for port in ports.values()), str(run)


def test_an_accelerate_script_trains_on_two_hosts(hosts, python, via):  # noqa: F811
    run = hosts.run(python, str(SCRIPTS / "accelerate_script.py"), config=on_cpus(hosts), timeout=240)
    assert run.status == 0, str(run)
    shown = said(run, "shown")
    assert sorted(shown) == [0, 1, 2, 3], str(run)
    for rank, words in shown.items():
        assert words == f"{rank} 4 DistributedType.MULTI_CPU 64", str(run)
    heads_port_is_every_ranks(run, via)
    hosts.nothing_left(run)


def test_a_trainer_trains_on_two_hosts(hosts, python, readers, via):  # noqa: F811
    packages = next((pathlib.Path(python).parents[1] / "lib").glob("python3*")) / "site-packages"
    run = hosts.run(readers, str(SCRIPTS / "trainer_script.py"), str(hosts.head / "out"), config=on_cpus(hosts), timeout=400,
                    options=["--env", f"PYTHONPATH={packages}"])
    assert run.status == 0, str(run)
    shown = said(run, "shown")
    assert shown == {rank: f"{rank} 4 4" for rank in range(4)}, str(run)
    heads_port_is_every_ranks(run, via)
    hosts.nothing_left(run)
