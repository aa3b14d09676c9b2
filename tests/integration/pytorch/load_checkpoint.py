"""Loads llmlaunch-train's weights into PyTorch's BasicNet and tests them on the images of DIR: loss and right answers.

    load_checkpoint.py CHECKPOINT DIR
"""
import json
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from basic_net import BasicNet, idx


def main():
    folder, data = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    torch.set_num_threads(1)
    model = BasicNet()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    images = idx(data / "t10k-images-idx3-ubyte", 16).view(-1, 1, 28, 28).to(torch.float32).div(255)
    images.sub_(0.1307).div_(0.3081)
    labels = idx(data / "t10k-labels-idx1-ubyte", 8).to(torch.int64)
    with torch.no_grad():
        said = model(images)
    moments = load_file(folder / "optimizer.safetensors")
    shapes = {name: list(value.shape) for name, value in model.named_parameters()}
    assert {name: list(value.shape) for name, value in moments.items()} == {
        f"{moment}.{name}": shape for moment in ("exp_avg", "exp_avg_sq") for name, shape in shapes.items()}
    print(json.dumps({"loss": F.nll_loss(said, labels).item(), "right": int((said.argmax(1) == labels).sum()),
                      "state": json.loads((folder / "trainer_state.json").read_text()) |
                               json.loads((folder / "llmlaunch_state.json").read_text())}))


if __name__ == "__main__":
    main()
