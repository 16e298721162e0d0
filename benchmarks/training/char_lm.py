"""The character-level language model of the benchmarks: its text, network and loss."""

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

CONTEXT, BATCH, HELD_OUT = 64, 32, 512
Text = tuple[Tensor, Tensor]
"""Characters to train on, and those held out."""


class Transformer(nn.Module):
    """A causal transformer over ASCII; by default the model of examples/char_transformer.py.

    Args:
        width: of its layers.
        layers: how many.
    """

    def __init__(self, width: int = 96, layers: int = 2) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(128, width), nn.Embedding(CONTEXT, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(width, 128)
        # No buffer, which DistributedDataParallel would send to all workers in every step.
        self.mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)

    def forward(self, x: Tensor) -> Tensor:
        """[N, CONTEXT] characters -> [N, CONTEXT, 128] logits."""
        return self.out(self.layers(self.token(x) + self.place.weight, self.mask, is_causal=True))


def load_text() -> Text:
    """Return the source of the standard library's modules a to d."""
    files = sorted(Path(argparse.__file__).parent.glob("[a-d]*.py"))
    return split("".join(path.read_text(encoding="utf-8", errors="ignore") for path in files))


def split(text: str) -> Text:
    """Return the ASCII characters of a text as numbers, the last twentieth held out."""
    data = torch.frombuffer(bytearray(text.encode("ascii", "ignore")), dtype=torch.uint8).long()
    return data[: int(0.95 * len(data))], data[int(0.95 * len(data)) :]


def loss_of(net: nn.Module, source: Tensor, starts: Tensor) -> Tensor:
    """Mean cross entropy in nats of the windows that begin at ``starts``."""
    batch = torch.stack([source[s : s + CONTEXT + 1] for s in starts.tolist()])
    return F.cross_entropy(net(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def held_out_losses(net: nn.Module, held_out: Tensor, windows: int = HELD_OUT) -> Tensor:
    """[4] mean cross entropies of this worker's share of the first held-out windows."""
    share = slice(dist.get_rank(), None, dist.get_world_size())
    starts = torch.arange(0, windows * CONTEXT, CONTEXT)[share]
    return torch.stack([loss_of(net, held_out, some) for some in starts.chunk(4)])
