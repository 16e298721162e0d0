"""A character transformer on the standard library's source, AdamW; --hook none is plain DDP.

torchrun --standalone --nproc-per-node 4 examples/char_transformer.py --hook sign --steps 600
"""

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import thinwire

parser = argparse.ArgumentParser()
for flag, default in {"hook": "sign", "steps": 600, "start-steps": 60, "beta1": 0.5}.items():
    parser.add_argument(f"--{flag}", default=default, type=type(default))
args = parser.parse_args()
dist.init_process_group("gloo")
rank, world, context, width = dist.get_rank(), dist.get_world_size(), 64, 96
text = b"".join(p.read_bytes() for p in sorted(Path(argparse.__file__).parent.glob("[a-d]*.py")))
data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long() % 128
train, test = data[:-100_000], data[-100_000:]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(128, width), nn.Embedding(context, width)
        layer = nn.TransformerEncoderLayer(width, 4, batch_first=True, norm_first=True, dropout=0)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, 128)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(context))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.layers(self.token(x) + self.place.weight, self.mask, is_causal=True))


def loss_of(net: nn.Module, source: torch.Tensor, windows: int) -> torch.Tensor:
    starts = torch.randint(len(source) - context, (windows, 1))
    batch = source[starts + torch.arange(context + 1)]
    return nn.functional.cross_entropy(net(batch[:, :-1]).transpose(1, 2), batch[:, 1:])


torch.manual_seed(0)
ddp = DistributedDataParallel(Transformer())
if args.hook != "none":
    state = thinwire.OneBitState(start_steps=args.start_steps, code=args.hook)
    ddp.register_comm_hook(state, thinwire.onebit_hook)
optimizer = torch.optim.AdamW(ddp.parameters(), lr=3e-3, betas=(args.beta1, 0.999))
for step in range(args.steps):
    torch.manual_seed(1 + step * world + rank)
    optimizer.zero_grad()
    loss_of(ddp, train, 32 // world).backward()
    optimizer.step()
loss = loss_of(ddp.module, test, 512)
if rank == 0:
    print(f"{args.hook}, {args.steps} steps: {loss:.3f} nats a character")
dist.destroy_process_group()
