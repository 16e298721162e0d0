"""thinwire with Accelerate (pip install accelerate): one line after prepare().

torchrun --standalone --nproc-per-node 2 examples/with_accelerate.py [STEPS]
"""

import sys

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import thinwire

accelerator = Accelerator(cpu=True)
torch.manual_seed(0)
inputs = torch.randn(20_000, 256)
data = TensorDataset(inputs, (inputs @ torch.randn(256, 10)).argmax(dim=1))
model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model, optimizer, loader = accelerator.prepare(
    model, optimizer, DataLoader(data, batch_size=32, shuffle=True)
)
state = thinwire.compress(model)  # prepare() has made it a DDP model

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 150
for step, (batch, targets) in zip(range(1, steps + 1), loader, strict=False):
    loss = nn.functional.cross_entropy(model(batch), targets)
    optimizer.zero_grad()
    accelerator.backward(loss)
    optimizer.step()
    if step % 25 == 0 or step == steps:
        sent = state.ledger.total().bytes / 1e6
        accelerator.print(f"step {step:3d}  loss {loss.item():.3f}  sent {sent:6.1f} MB")
accelerator.end_training()
