"""Rank 0's real ncclGetUniqueId bytes reach every rank on every host bit for bit. Needs NCCL's library, not a GPU."""
import re

import pytest

from conftest import BIN

HOSTS = 2
pytestmark = pytest.mark.usefixtures("via")


@pytest.fixture(autouse=True)
def program():
    if not (BIN / "nccl_id_rank").is_file():
        pytest.skip("this build has no NCCL (nccl_id_rank was not built)")


def digests(run, what="unique id sha256"):
    found = dict(re.findall(rf"^\[rank (\d+) \S+\] rank \1 {what} ([0-9a-f]{{64}})$", run.out, re.M))
    return {int(rank): digest for rank, digest in found.items()}


def test_every_rank_on_two_hosts_has_the_same_128_bytes(hosts):
    run = hosts.run(str(BIN / "nccl_id_rank"), config=hosts.config(slots=2))
    assert run.status == 0, str(run)
    assert sorted(digests(run)) == [0, 1, 2, 3], str(run)
    assert len(set(digests(run).values())) == 1, f"the ranks hold different ids\n{run}"
    shared = digests(run, "has 3 of 3 unique ids with sha256")
    assert sorted(shared) == [0, 1, 2, 3], f"not every rank has the ids of three ranks\n{run}"
    assert len(set(shared.values())) == 1, f"the ranks hold different ids, or in another order\n{run}"
    again = hosts.run(str(BIN / "nccl_id_rank"), config=hosts.config(slots=2))
    assert again.status == 0 and len(set(digests(again).values())) == 1, str(again)
    assert digests(again)[0] != digests(run)[0], "two jobs were handed the same id"
    hosts.nothing_left(run)
    hosts.nothing_left(again)
