"""BasicNet in PyTorch on one GPU, as bench_gpu.py measures it beside llmlaunch-train: images resident in its memory and
normalised beforehand, batches by one index operation there, no wait for the device but at each logged step.

    gpu_peer.py VARIANT DATA BATCH STEPS LOGGING_STEPS PRECISION [DEVICE]

VARIANT: eager; compile: torch.compile of model and loss; graph: the whole step, AdamW too, as one CUDA graph; compiled_graph: both.
All of them on a GPU with the fused AdamW, and with the convolutions that cuDNN finds the fastest there.
PRECISION: fp32; tf32: of convolutions and matrix products; bf16: torch.autocast's. DEVICE: cuda (default), or cpu, which has
no graph. Prints what llmlaunch-train prints.
"""
import pathlib
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration" / "pytorch"))
from basic_net import BasicNet, idx  # noqa: E402

WARM_UP = 3  # steps before a capture, on a stream of their own, as torch.cuda.graph asks for


class Steps:
    """One training step on batch number `i`, eager or compiled."""

    def __init__(self, variant, data, batch, precision, device):
        images = idx(data / "train-images-idx3-ubyte", 16).view(-1, 1, 28, 28).to(torch.float32).div(255)
        self.images = images.sub_(0.1307).div_(0.3081).to(device)
        self.labels = idx(data / "train-labels-idx1-ubyte", 8).to(torch.int64).to(device)
        torch.manual_seed(0)
        self.order = torch.randperm(len(self.labels)).to(device)
        self.batch, self.device = batch, device
        self.model = BasicNet(dropout=True).to(device)
        gpu = device == "cuda"
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=gpu or None, capturable=gpu and "graph" in variant)

        def loss_of(images, labels):
            return F.nll_loss(self.model(images), labels)

        def loss_in_bf16(images, labels):
            # Nothing is to be kept from a graph's capture for the next pass; here each weight is cast once a pass anyway.
            with torch.autocast(device, torch.bfloat16, cache_enabled=False):
                return loss_of(images, labels)

        self.loss_of = loss_in_bf16 if precision == "bf16" else loss_of
        if variant in ("compile", "compiled_graph"):
            self.loss_of = torch.compile(self.loss_of)

    def chosen(self, i):
        first = i * self.batch % (len(self.order) - self.batch + 1)
        return self.order[first:first + self.batch]

    def on(self, chosen):
        self.optimizer.zero_grad()
        loss = self.loss_of(self.images[chosen], self.labels[chosen])
        loss.backward()
        self.optimizer.step()
        return loss

    def __call__(self, i):
        return self.on(self.chosen(i))


class CapturedSteps(Steps):
    def __init__(self, variant, data, batch, precision):
        super().__init__(variant, data, batch, precision, "cuda")
        self.input = self.chosen(0).clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.on(self.input)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.on(self.input)

    def __call__(self, i):
        self.input.copy_(self.chosen(i))
        self.graph.replay()
        return self.loss


def main():
    variant, data = sys.argv[1], pathlib.Path(sys.argv[2])
    batch, steps, logging_steps = (int(word) for word in sys.argv[3:6])
    precision = sys.argv[6]
    device = sys.argv[7] if len(sys.argv) > 7 else "cuda"
    # Said in any case: by itself PyTorch takes TF32 for convolutions and not for matrix products.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    step_of = (CapturedSteps(variant, data, batch, precision) if "graph" in variant
               else Steps(variant, data, batch, precision, device))
    begin, since = time.perf_counter(), 0
    for step in range(1, steps + 1):
        loss = step_of(step - 1)
        since += batch
        if step % logging_steps == 0 or step == 1:
            shown = loss.item()  # waits for the device
            now = time.perf_counter()
            print(f"step {step}/{steps} loss {shown:.4f} ({since / (now - begin):.0f} samples/s)", flush=True)
            begin, since = now, 0


if __name__ == "__main__":
    main()
