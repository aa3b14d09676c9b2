"""Hugging Face's Trainer on a model of the trainer's, without dropout: from the weights of the same seed, on the same images in
the same order. Prints for each file of arguments its TrainerState as a line of JSON, with the names of the checkpoints that it left
and what the weights that it ended with give on the test images, or the words with which it was refused.

    hf_trainer.py DATA ARGUMENTS…

ARGUMENTS: a JSON file of TrainingArguments, and resume_from_checkpoint among them is done. Trainer's own optimizer would not decay
biases, and its order of images is drawn as by nobody else: both are given here.
"""
import dataclasses
import json
import pathlib
import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DistributedSampler
from transformers import Trainer, TrainingArguments

from basic_net import MODELS, idx


class Images(torch.utils.data.Dataset):
    def __init__(self, folder, part):
        images = idx(folder / f"{part}-images-idx3-ubyte", 16).view(-1, 1, 28, 28).to(torch.float32).div(255)
        self.images = images.sub_(0.1307).div_(0.3081)
        self.labels = idx(folder / f"{part}-labels-idx1-ubyte", 8).to(torch.int64)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"images": self.images[index], "labels": self.labels[index]}


class Classifier(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.net = MODELS["mlp"]()

    def forward(self, images, labels):
        logits = self.net.logits(images)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class OrderedTrainer(Trainer):
    def _get_train_sampler(self, *_):
        return DistributedSampler(self.train_dataset, 1, 0, seed=self.args.data_seed)


def trained(data, given):
    arguments = TrainingArguments(**given, use_cpu=True, report_to=[], disable_tqdm=True, remove_unused_columns=False)
    model = Classifier(arguments.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, betas=(arguments.adam_beta1, arguments.adam_beta2),
                                  eps=arguments.adam_epsilon, weight_decay=arguments.weight_decay)
    trainer = OrderedTrainer(model=model, args=arguments, train_dataset=Images(data, "train"), eval_dataset=Images(data, "t10k"),
                             optimizers=(optimizer, None), compute_metrics=lambda found: {
                                 "accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())})
    trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
    state = dataclasses.asdict(trainer.state)
    state["checkpoints"] = sorted(path.name for path in pathlib.Path(arguments.output_dir).glob("checkpoint-*"))
    state["at_the_end"] = trainer.evaluate()
    return state


def main():
    torch.set_num_threads(1)
    for file in sys.argv[2:]:
        try:
            state = trained(pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(file).read_text(encoding="utf-8")))
        except ValueError as error:
            state = {"refused": str(error)}
        print("state:", json.dumps(state), flush=True)


main()
