"""BasicNet in PyTorch, as bench_trainer.py measures it beside llmlaunch-train: DDP over Gloo where there are several ranks,
images in memory and normalised beforehand, batches by one index operation. Prints what llmlaunch-train prints.

    trainer_peer.py train DATA BATCH STEPS LOGGING_STEPS
    trainer_peer.py all_reduce
"""
import pathlib
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration" / "pytorch"))
from basic_net import BasicNet, idx  # noqa: E402

VALUES = 1_199_882


def train(data, batch, steps, logging_steps):
    ranks = rank = 0
    if dist.is_initialized():
        ranks, rank = dist.get_world_size(), dist.get_rank()
    images = idx(data / "train-images-idx3-ubyte", 16).view(-1, 1, 28, 28).to(torch.float32).div(255)
    images.sub_(0.1307).div_(0.3081)
    labels = idx(data / "train-labels-idx1-ubyte", 8).to(torch.int64)
    torch.manual_seed(0)
    model = BasicNet(dropout=True)
    if ranks:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    order = torch.randperm(len(labels))[rank::max(1, ranks)]
    begin, since = time.perf_counter(), 0
    for step in range(1, steps + 1):
        first = (step - 1) * batch % (len(order) - batch + 1)
        chosen = order[first:first + batch]
        optimizer.zero_grad()
        loss = F.nll_loss(model(images[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        since += batch * max(1, ranks)
        if step % logging_steps == 0 or step == 1:
            shown = loss.item()
            now = time.perf_counter()
            if rank == 0:
                print(f"step {step}/{steps} loss {shown:.4f} ({since / (now - begin):.0f} samples/s)", flush=True)
            begin, since = now, 0


def all_reduce():
    gradient = torch.ones(VALUES)
    times = []
    for round_ in range(220):
        dist.barrier()
        begin = time.perf_counter()
        dist.all_reduce(gradient)
        gradient.div_(dist.get_world_size())
        if round_ >= 20:
            times.append(time.perf_counter() - begin)
    if dist.get_rank() == 0:
        print(f"all_reduce_ms {1000 * statistics.median(times):.3f}", flush=True)


def main():
    import os
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    if sys.argv[1] == "all_reduce":
        all_reduce()
    else:
        train(pathlib.Path(sys.argv[2]), *(int(word) for word in sys.argv[3:6]))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
