"""Loads llmlaunch-train's weights into the same network of PyTorch and tests them on the images of DIR: loss, right answers,
and how far the logits are from those that llmlaunch-train wrote with --predict, relative to the largest.

    load_checkpoint.py CHECKPOINT DIR PREDICTIONS
"""
import json
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from basic_net import MODELS, idx


def main():
    folder, data, predictions = (pathlib.Path(word) for word in sys.argv[1:])
    torch.set_num_threads(1)
    state = (json.loads((folder / "trainer_state.json").read_text()) |
             json.loads((folder / "llmlaunch_state.json").read_text()))
    model = MODELS[state["model"]]().eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    written = load_file(predictions)
    count = len(written["labels"])
    images = idx(data / "t10k-images-idx3-ubyte", 16).view(-1, 1, 28, 28).to(torch.float32).div(255)
    images.sub_(0.1307).div_(0.3081)
    labels = idx(data / "t10k-labels-idx1-ubyte", 8).to(torch.int64)[:count]
    with torch.no_grad():
        logits = model.logits(images[:count])
    said = F.log_softmax(logits, dim=1)
    assert torch.equal(written["labels"], labels.to(torch.uint8))
    moments = load_file(folder / "optimizer.safetensors")
    shapes = {name: list(value.shape) for name, value in model.named_parameters()}
    assert {name: list(value.shape) for name, value in moments.items()} == {
        f"{moment}.{name}": shape for moment in ("exp_avg", "exp_avg_sq") for name, shape in shapes.items()}
    print(json.dumps({"loss": F.nll_loss(said, labels).item(), "right": int((said.argmax(1) == labels).sum()),
                      "error": ((written["logits"] - logits).abs().max() / logits.abs().max()).item(), "state": state}))


if __name__ == "__main__":
    main()
