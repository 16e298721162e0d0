"""A character-level transformer on the standard library's source, AdamW, four workers. Run it with

    torchrun --standalone --nproc-per-node 4 examples/char_transformer.py [--hook KIND] [--steps N]

KIND: none (plain DDP), fp16 (PyTorch's hook), or a code of thinwire's: float32, sign, ...
"""

import argparse
import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

import thinwire

parser = argparse.ArgumentParser()
parser.add_argument("--hook", default="sign")
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--cold-start", type=int, default=60)
parser.add_argument("--beta1", type=float, default=0.5)
args = parser.parse_args()
dist.init_process_group("gloo")
rank, world, context, width = dist.get_rank(), dist.get_world_size(), 64, 96

files = sorted(Path(argparse.__file__).parent.glob("[a-d]*.py"))
text = "".join(path.read_text(encoding="utf-8", errors="ignore") for path in files).encode(
    "ascii", "ignore"
)
data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
train, test = data[: int(0.95 * len(data))], data[int(0.95 * len(data)) :]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(128, width), nn.Embedding(context, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, 128)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(context))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.layers(self.token(x) + self.place.weight, self.mask, is_causal=True))


def loss_of(net: nn.Module, source: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    batch = torch.stack([source[s : s + context + 1] for s in starts.tolist()])
    return nn.functional.cross_entropy(net(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


torch.manual_seed(0)
model = Transformer()
ddp = DistributedDataParallel(model)
state = thinwire.OneBitState(
    cold_start=args.cold_start, code="float32" if args.hook in ("none", "fp16") else args.hook
)
if args.hook == "fp16":
    ddp.register_comm_hook(None, fp16_compress_hook)
elif args.hook != "none":
    ddp.register_comm_hook(state, thinwire.onebit_hook)
optimizer = torch.optim.AdamW(
    ddp.parameters(), lr=3e-3, betas=(args.beta1, 0.999), weight_decay=0.0
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
for step in range(args.steps):
    generator = torch.Generator().manual_seed(step * world + rank)
    loss = loss_of(
        ddp, train, torch.randint(len(train) - context, (32 // world,), generator=generator)
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
with torch.no_grad():
    final = loss_of(model, test, torch.arange(0, 128 * context, context)).item()
if rank == 0:
    print(json.dumps({**vars(args), "test_loss": final, "bytes": state.ledger.total().bytes}))
dist.destroy_process_group()
