"""The trainer's models as a PyTorch user writes them: DistributedDataParallel over Gloo, DistributedSampler, AdamW, no dropout. Rank 0
writes the mean of the ranks' losses of each step, a line of JSON each, as llmlaunch-train's --loss_file does, and with --fp16 says
which steps GradScaler left out.

    basic_net.py --data DIR --batch 16 --steps 100 --losses FILE [--model mlp] [--bf16 | --fp16 | --tf32] [--accumulate 1] [--clip 0] [--warmup 0]
                 [--lr 0.001] [--beta1 0.9] [--beta2 0.999] [--epsilon 1e-8] [--weight_decay 0.01] [--seed 0] [--data_seed SEED]
                 [--bucket_cap MIB] [--drop_last] [--device cuda]
"""
import argparse
import json
import os
import pathlib
import struct

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class BasicNet(nn.Module):
    def __init__(self, dropout=False):
        super().__init__()
        self.shares = (0.25, 0.5) if dropout else (0, 0)
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def logits(self, x):
        x = F.dropout(F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2), self.shares[0], self.training)
        x = F.dropout(F.relu(self.fc1(torch.flatten(x, 1))), self.shares[1], self.training)
        return self.fc2(x)

    def forward(self, x):
        return F.log_softmax(self.logits(x).float(), dim=1)


class Mlp(nn.Module):
    def __init__(self, dropout=False):
        super().__init__()
        self.share = 0.2 if dropout else 0
        self.fc1 = nn.Linear(784, 512)
        self.fc2 = nn.Linear(512, 512)
        self.fc3 = nn.Linear(512, 10)

    def logits(self, x):
        x = F.dropout(F.relu(self.fc1(torch.flatten(x, 1))), self.share, self.training)
        x = F.dropout(F.relu(self.fc2(x)), self.share, self.training)
        return self.fc3(x)

    def forward(self, x):
        return F.log_softmax(self.logits(x).float(), dim=1)


MODELS = {"basicnet": BasicNet, "mlp": Mlp}


def idx(path, header):
    data = path.read_bytes()
    assert struct.unpack(">I", data[4:8])[0] > 0
    return torch.frombuffer(bytearray(data[header:]), dtype=torch.uint8)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--losses", required=True)
    parser.add_argument("--model", choices=MODELS, default="basicnet")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_seed", type=int)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--beta1", type=float, default=0.9)
    parser.add_argument("--beta2", type=float, default=0.999)
    parser.add_argument("--epsilon", type=float, default=1e-8)
    parser.add_argument("--weight_decay", type=float, default=1e-2)
    parser.add_argument("--bucket_cap", type=float)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--clip", type=float, default=0)
    parser.add_argument("--warmup", type=int, default=0)
    narrow = parser.add_mutually_exclusive_group()
    narrow.add_argument("--bf16", action="store_true")
    narrow.add_argument("--fp16", action="store_true")
    narrow.add_argument("--tf32", action="store_true")
    parser.add_argument("--drop_last", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    # Said in any case, as llmlaunch-train's: by itself PyTorch takes TF32 for convolutions and not for matrix products.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = options.tf32
    torch.backends.cudnn.deterministic = True
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    ranks, rank = dist.get_world_size(), dist.get_rank()

    # ToTensor and Normalize.
    images = idx(options.data / "train-images-idx3-ubyte", 16).view(-1, 1, 28, 28).to(torch.float32).div(255)
    images.sub_(0.1307).div_(0.3081)
    dataset = TensorDataset(images, idx(options.data / "train-labels-idx1-ubyte", 8).to(torch.int64))
    order = options.seed if options.data_seed is None else options.data_seed
    sampler = DistributedSampler(dataset, ranks, rank, seed=order, drop_last=options.drop_last)
    loader = DataLoader(dataset, batch_size=options.batch, sampler=sampler, drop_last=options.drop_last)

    torch.manual_seed(options.seed)
    model = MODELS[options.model]().to(options.device)
    if ranks > 1 or options.device == "cpu":  # one process on a GPU needs no Gloo that knows its memory
        model = nn.parallel.DistributedDataParallel(model, bucket_cap_mb=options.bucket_cap)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(options.beta1, options.beta2), eps=options.epsilon,
                                  weight_decay=options.weight_decay)
    # From 0 up in a straight line, then down to 0 at the last step.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1.0 if not options.warmup else done / options.warmup
                                                 if done < options.warmup else
                                                 max(0.0, (options.steps - done) / (options.steps - options.warmup)))
    scaler = torch.amp.GradScaler(options.device, enabled=options.fp16)
    step, epoch, losses, skipped = 0, 0, [], []
    while step < options.steps:
        sampler.set_epoch(epoch)
        epoch += 1
        batches = list(loader)
        for first in range(0, len(batches), options.accumulate):
            if step == options.steps:
                break
            group = batches[first:first + options.accumulate]
            optimizer.zero_grad()
            mine = 0.0
            for number, (x, y) in enumerate(group):
                x, y = x.to(options.device), y.to(options.device)
                model.require_backward_grad_sync = number + 1 == len(group)
                with torch.autocast(options.device, dtype=torch.float16 if options.fp16 else torch.bfloat16,
                                    enabled=options.bf16 or options.fp16):
                    loss = F.nll_loss(model(x), y)
                mine += loss.item() / len(group)
                scaler.scale(loss / len(group)).backward()
            if options.clip:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), options.clip)
            scaler.step(optimizer)
            scale = scaler.get_scale()
            scaler.update()
            step += 1
            # As accelerate: a step that was left out moves no schedule.
            if scaler.get_scale() < scale:
                skipped.append(step)
            else:
                schedule.step()
            losses.append(mine)
    total = torch.tensor(losses, dtype=torch.float64)
    dist.all_reduce(total)
    if rank == 0:
        with open(options.losses, "w", encoding="utf-8") as file:
            for number, loss in enumerate(total.tolist(), 1):
                file.write(json.dumps({"step": number, "loss": loss / ranks}) + "\n")
        if options.fp16:
            print(f"skipped steps: {skipped}", flush=True)
    dist.destroy_process_group()
    print(f"[rank {os.environ['RANK']}] done", flush=True)
    # The work is done and the files are closed. PyTorch 2.15 on a busy machine now and then aborts while it takes down its
    # own threads ("terminate called without an active exception").
    os._exit(0)


if __name__ == "__main__":
    main()
