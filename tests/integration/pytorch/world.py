"""A rank of a PyTorch job as people write it. Prints what was shown, word by word; at the end what llmlaunch told it, which
nothing before makes use of."""
import datetime
import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

backend = sys.argv[1] if len(sys.argv) > 1 else "gloo"
dist.init_process_group(backend, timeout=datetime.timedelta(seconds=60))
rank, world = dist.get_rank(), dist.get_world_size()
assert (rank, world) == (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
shown = ["init"]

total = torch.tensor([rank + 1.0])
dist.all_reduce(total)
assert total.item() == world * (world + 1) / 2
shown.append("all_reduce")

odd = dist.new_group([r for r in range(world) if r % 2])
even = dist.new_group([r for r in range(world) if r % 2 == 0])
mine = odd if rank % 2 else even
total = torch.tensor([1.0])
dist.all_reduce(total, group=mine)
assert total.item() == dist.get_world_size(mine)
shown.append("new_group")

dist.monitored_barrier(timeout=datetime.timedelta(seconds=60))
shown.append("monitored_barrier")

gathered = [None] * world
dist.all_gather_object(gathered, {"rank": rank, "text": "x" * 100_000})
assert [one["rank"] for one in gathered] == list(range(world))
said = [{"from": 0, "list": [1, 2]}] if rank == 0 else [None]
dist.broadcast_object_list(said, src=0)
assert said == [{"from": 0, "list": [1, 2]}]
shown.append("objects")

torch.manual_seed(rank)
model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for step in range(3):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
theirs = [torch.empty_like(weights) for _ in range(world)]
dist.all_gather(theirs, weights)
assert all(torch.equal(weights, other) for other in theirs)
shown.append("ddp")

dist.barrier()
print("shown:", *shown, torch.__version__)
print("store:", os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"], os.environ["LLMLAUNCH_RENDEZVOUS"],
      os.environ["TORCHELASTIC_USE_AGENT_STORE"])
dist.destroy_process_group()
