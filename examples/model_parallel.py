"""One model over two workers, and 1-bit gradients between the pairs. Run it with

torchrun --standalone --nproc-per-node 4 examples/model_parallel.py [--dense]
"""

import gc
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import thinwire

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size() // 2, 2), mesh_dim_names=("data", "model"))
row, rows = mesh["data"].get_local_rank(), mesh["data"].size()

torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
)
# "4" stays whole: both workers of a pair compute it, to the same bits.
parallelize_module(model, mesh["model"], {"0": ColwiseParallel(), "2": RowwiseParallel()})

optimizer = thinwire.OneBitSGD(
    model.named_parameters(),
    lr=0.1,
    momentum=0.5,
    code="float32" if "--dense" in sys.argv else "sign",
    start_steps=20,
    process_group=mesh["data"].get_group(),  # who exchanges: the workers with the same shards
)
labels_of = torch.randn(256, 10)
for step in range(60):
    torch.manual_seed(1 + step * rows + row)  # both workers of a pair draw the same samples
    inputs = torch.randn(64, 256)
    loss = nn.functional.cross_entropy(model(inputs), (inputs @ labels_of).argmax(dim=1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if dist.get_rank() == 0 and step % 20 == 19:
        sent = optimizer.ledger.total("gradients", "updates").bytes / 1e6
        print(f"step {step + 1:3d}  loss {loss.item():.3f}  sent to other pairs {sent:7.1f} MB")
optimizer.close()
gc.collect()  # torch's tensors hold on to groups, which would abort the process at its end
dist.destroy_process_group()
