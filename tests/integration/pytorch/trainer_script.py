"""A Hugging Face Trainer run on a tiny random model, on CPUs: nothing is fetched."""
import os
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments


class Texts(torch.utils.data.Dataset):
    def __init__(self):
        self.tokens = torch.randint(100, (32, 16), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


model = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=16, n_embd=16, n_layer=2, n_head=2))
arguments = TrainingArguments(output_dir=sys.argv[1], use_cpu=True, per_device_train_batch_size=2, num_train_epochs=1,
                              logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True)
trainer = Trainer(model=model, args=arguments, train_dataset=Texts())
result = trainer.train()
weights = sum(parameter.detach().sum() for parameter in model.parameters()).reshape(1)
same = trainer.accelerator.gather(weights)
assert torch.equal(same, same[:1].expand_as(same)), same
print("shown:", arguments.process_index, arguments.world_size, result.global_step)
print("port:", os.environ["MASTER_PORT"])
torch.distributed.destroy_process_group()
