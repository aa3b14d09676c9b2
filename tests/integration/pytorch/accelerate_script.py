"""A script of Hugging Face accelerate as its users write them: BasicNet on random digits, on CPUs, two steps."""
import os

import torch
import torch.nn.functional as F
from accelerate import Accelerator


class BasicNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(1, 32, 3), torch.nn.Conv2d(32, 64, 3)
        self.dropout1, self.dropout2 = torch.nn.Dropout(0.25), torch.nn.Dropout(0.5)
        self.fc1, self.fc2 = torch.nn.Linear(9216, 128), torch.nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        x = F.relu(self.fc1(torch.flatten(self.dropout1(x), 1)))
        return F.log_softmax(self.fc2(self.dropout2(x)), dim=1)


accelerator = Accelerator(cpu=True)
torch.manual_seed(0)
data = torch.utils.data.TensorDataset(torch.randn(64, 1, 28, 28), torch.randint(10, (64,)))
loader = torch.utils.data.DataLoader(data, batch_size=8)
model = BasicNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
seen = 0
for images, labels in loader:
    optimizer.zero_grad()
    accelerator.backward(F.nll_loss(model(images), labels))
    optimizer.step()
    seen += len(labels)
all_seen = accelerator.gather(torch.tensor([seen])).sum().item()
weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
same = accelerator.gather(weights.sum().reshape(1))
assert torch.equal(same, same[:1].expand_as(same)), same
accelerator.wait_for_everyone()
print("shown:", accelerator.process_index, accelerator.num_processes, accelerator.distributed_type, all_seen)
print("port:", os.environ["MASTER_PORT"])
accelerator.end_training()
