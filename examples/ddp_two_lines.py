"""A DDP script whose gradients travel in an eighth of the bytes: one line more. Run it with

torchrun --standalone --nproc-per-node 4 examples/ddp_two_lines.py [--dense]
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import thinwire

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
)
ddp = DistributedDataParallel(model)

state = thinwire.compress(ddp, code="float32" if "--dense" in sys.argv else "4-bit")

optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1, momentum=0.9)
labels_of = torch.randn(256, 10)
for step in range(150):
    torch.manual_seed(1 + step * world + rank)
    inputs = torch.randn(64, 256)
    loss = nn.functional.cross_entropy(ddp(inputs), (inputs @ labels_of).argmax(dim=1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0 and step % 25 == 24:
        sent = state.ledger.total().bytes / 1e6
        print(f"step {step + 1:3d}  loss {loss.item():.3f}  sent {sent:7.1f} MB")
dist.destroy_process_group()
