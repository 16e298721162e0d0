"""Local steps of AdamW on every worker, exchanged every eighth step in one bit a value. Run it with

torchrun --standalone --nproc-per-node 4 examples/local_steps.py [STEPS]
"""

import sys

import torch
import torch.distributed as dist
from torch import nn

import thinwire

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
)

inner = torch.optim.AdamW(model.parameters(), lr=1e-3)
optimizer = thinwire.LocalSteps(inner, model.named_parameters(), every=8, start_steps=8)

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 150
labels_of = torch.randn(256, 10)
for step in range(1, steps + 1):
    torch.manual_seed(step * world + rank)
    inputs = torch.randn(64, 256)
    loss = nn.functional.cross_entropy(model(inputs), (inputs @ labels_of).argmax(dim=1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0 and step % 25 == 0:
        sent = optimizer.ledger.total().bytes / 1e6
        print(f"step {step:3d}  loss {loss.item():.3f}  sent {sent:6.2f} MB")
optimizer.end_round()  # from here on every worker has the same model
dist.destroy_process_group()
