"""Published rivals in few bytes, written anew from their papers for the training benchmark.

Each is what its authors describe and no more; none is part of the library. All travel by gloo's
collectives, and what they pack is packed to the bit, so that their bytes are what they could be.

DiLoCo       H local steps, then the mean of anchor - theta, in float32 or 8 bits [Douillard 2023]
SparseLoCo   the same with the largest k of each 4096, 2 bits a value [Sarfi 2025]
DeMo         every step the largest k of 64 x 64 cosine coefficients of the momentum [Peng 2024]
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

CHUNK, SIDE = 4096, 64  # values of which k are chosen; their square root
INDEX_BITS = 12
BLOCK = 256  # values that share a scale of 8 bits

Mean = Callable[[Tensor], Tensor]
"""What each worker holds, [n] -> what all take for the mean, [n]; the same on every worker."""


class LocalRounds(torch.optim.Optimizer):
    """Rounds of local steps by any optimiser; at the end of each the anchor is moved.

    Args:
        inner: the optimiser of every worker.
        every: steps in a round.
        mean: how what the workers have moved becomes one.
        lr: of the anchor.
        momentum: of the anchor, Nesterov's; 0 has none.
    """

    def __init__(
        self, inner: torch.optim.Optimizer, every: int, mean: Mean, lr: float, momentum: float
    ) -> None:
        self.parameters = [p for group in inner.param_groups for p in group["params"]]
        super().__init__(self.parameters, {"lr": lr})
        self.inner, self.every, self.mean = inner, every, mean
        self.anchor = nn.utils.parameters_to_vector(self.parameters).detach().clone()
        self.anchor.grad = torch.zeros_like(self.anchor)
        self.outer = torch.optim.SGD([self.anchor], lr, momentum, nesterov=momentum > 0)
        self.taken = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in torch."""
        self.inner.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take a step; at the end of a round go on from the moved anchor."""
        self.inner.step()
        self.taken += 1
        if self.taken % self.every == 0:
            moved = self.anchor - nn.utils.parameters_to_vector(self.parameters)
            self.anchor.grad = self.mean(moved)
            self.outer.step()
            nn.utils.vector_to_parameters(self.anchor.clone(), self.parameters)


def in_float32(values: Tensor) -> Tensor:
    """Return the mean; one all-reduce."""
    dist.all_reduce(values)
    return values / dist.get_world_size()


def in_8_bits(values: Tensor) -> Tensor:
    """Return the mean through two stages of 8 bits, a scale for each 256 values, no feedback."""
    world = dist.get_world_size()
    padded = torch.nn.functional.pad(values, (0, -len(values) % (world * BLOCK)))
    packets = list(torch.stack([_to_8_bits(part) for part in padded.chunk(world)]))
    received = [torch.empty_like(packet) for packet in packets]
    dist.all_to_all(received, packets)
    own = _to_8_bits(torch.stack([_from_8_bits(packet) for packet in received]).mean(0))
    gathered = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(gathered, own)
    return torch.cat([_from_8_bits(packet) for packet in gathered])[: len(values)]


class ChosenOfEach4096:
    """The mean of the largest k values of each 4096 with error feedback, in one all-gather.

    A value travels as 12 bits of place and 2 bits: its sign and which of two sizes it has, those of
    the smaller and of the larger half of the chosen.

    Args:
        keep: k.
        decay: of what is carried to the next exchange.
    """

    def __init__(self, keep: int, decay: float = 0.95) -> None:
        self.keep, self.decay = keep, decay
        self.carried: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """See ``Mean``."""
        if self.carried is None:
            self.carried = torch.zeros_like(values)
        self.carried.mul_(self.decay).add_(values)
        rows = torch.nn.functional.pad(self.carried, (0, -len(values) % CHUNK)).view(-1, CHUNK)
        size, place = rows.abs().topk(self.keep, 1)
        half = max(1, self.keep // 2)
        levels = torch.stack([size[:, half:].mean(1), size[:, :half].mean(1)], 1)
        levels = levels.nan_to_num(0.0).bfloat16()
        large = torch.arange(self.keep) < half
        negative = rows.gather(1, place) < 0
        packet = [_packed(place * 4 + 2 * negative + large, INDEX_BITS + 2), _bytes(levels)]
        packets = _gathered(torch.cat(packet))
        decoded = [self._decode(packet, len(rows)) for packet in packets]
        own = decoded[dist.get_rank()].view(-1)[: len(values)]
        self.carried.sub_(own)
        return torch.stack(decoded).mean(0).view(-1)[: len(values)]

    def _decode(self, packet: Tensor, rows: int) -> Tensor:
        """[bytes] -> [rows, 4096]."""
        split = len(packet) - 4 * rows
        codes = _unpacked(packet[:split], INDEX_BITS + 2, rows * self.keep).view(rows, self.keep)
        levels = packet[split:].clone().view(torch.bfloat16).float().view(rows, 2)
        value = levels.gather(1, codes & 1) * (1 - 2 * (codes >> 1 & 1))
        return torch.zeros(rows, CHUNK).scatter_(1, codes >> 2, value)


class DeMo(torch.optim.Optimizer):
    """Decoupled momentum: what travels are the momentum's largest cosine coefficients.

    m = decay m + g;  q = the largest k of each 64 x 64 tile's coefficients;  m = m - q;
    theta = theta - lr sign(mean of the q over the workers). A value travels as 12 bits of place and
    a bfloat16.

    Args:
        parameters: the model's; gradients are this worker's own.
        lr: learning rate.
        decay: of the momentum.
        keep: k.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], lr: float, decay: float, keep: int
    ) -> None:
        super().__init__(parameters, {"lr": lr})
        self.parameters: list[nn.Parameter] = self.param_groups[0]["params"]
        self.decay, self.keep = decay, keep
        self.momentum = [torch.zeros_like(p) for p in self.parameters]
        self.cosines = _cosines(SIDE)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take a step."""
        for m, p in zip(self.momentum, self.parameters, strict=True):
            m.mul_(self.decay).add_(p.grad if p.grad is not None else 0.0)
        tiles = [_tiles(m) for m in self.momentum]
        rows = self.cosines @ torch.cat(tiles) @ self.cosines.T
        rows = rows.reshape(-1, CHUNK)
        place = rows.abs().topk(self.keep, 1).indices
        value = rows.gather(1, place).bfloat16()
        packets = _gathered(torch.cat([_packed(place, INDEX_BITS), _bytes(value)]))
        own, total = torch.zeros_like(rows), torch.zeros_like(rows)
        for rank, packet in enumerate(packets):
            split = len(packet) - 2 * value.numel()
            where = _unpacked(packet[:split], INDEX_BITS, place.numel()).view(place.shape)
            what = packet[split:].clone().view(torch.bfloat16).float().view(value.shape)
            total.scatter_add_(1, where, what)
            if rank == dist.get_rank():
                own.scatter_(1, where, what)
        counts = [len(tile) for tile in tiles]
        for m, sent in zip(self.momentum, self._back(own, counts), strict=True):
            m.sub_(_untiled(sent, m.shape))
        for p, mean in zip(self.parameters, self._back(total, counts), strict=True):
            p.sub_(_untiled(mean, p.shape).sign(), alpha=self.param_groups[0]["lr"])

    def _back(self, rows: Tensor, counts: Sequence[int]) -> Sequence[Tensor]:
        """Coefficients [tiles, 4096] -> each parameter's tiles."""
        return (self.cosines.T @ rows.view(-1, SIDE, SIDE) @ self.cosines).split(list(counts))


def _cosines(n: int) -> Tensor:
    """The orthogonal cosine transform, [n, n]."""
    k = torch.arange(n, dtype=torch.float64)
    table = torch.cos(math.pi / n * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / n)
    table[0] /= math.sqrt(2)
    return table.float()


def _as_matrix(shape: torch.Size) -> tuple[int, int]:
    """Rows and columns; a vector is folded."""
    if len(shape) < 2:
        return -(-shape.numel() // SIDE), SIDE
    return shape[0], shape[1:].numel()


def _tiles(values: Tensor) -> Tensor:
    """A parameter in tiles of 64 x 64, padded with zeros: [tiles, 64, 64]."""
    rows, columns = _as_matrix(values.shape)
    flat = values.reshape(-1)
    matrix = torch.nn.functional.pad(flat, (0, rows * columns - len(flat))).view(rows, columns)
    matrix = torch.nn.functional.pad(matrix, (0, -columns % SIDE, 0, -rows % SIDE))
    return matrix.unflatten(0, (-1, SIDE)).unflatten(2, (-1, SIDE)).transpose(1, 2).flatten(0, 1)


def _untiled(tiles: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of ``_tiles``."""
    rows, columns = _as_matrix(shape)
    across = -(-columns // SIDE)
    matrix = tiles.unflatten(0, (-1, across)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return matrix[:rows, :columns].reshape(-1)[: shape.numel()].view(shape)


def _to_8_bits(values: Tensor) -> Tensor:
    """[n], n a multiple of 256 -> bytes."""
    rows = values.view(-1, BLOCK)
    scale = rows.abs().amax(1, keepdim=True) / 127
    codes = (rows / scale.clamp(min=torch.finfo(torch.float32).tiny)).round().to(torch.int8)
    return torch.cat([_bytes(codes), _bytes(scale)])


def _from_8_bits(packet: Tensor) -> Tensor:
    rows = len(packet) // (BLOCK + 4)
    codes = packet[: rows * BLOCK].view(torch.int8).view(rows, BLOCK)
    scale = packet[rows * BLOCK :].clone().view(torch.float32)
    return (codes * scale[:, None]).view(-1)


def _bytes(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.uint8).view(-1)


def _packed(numbers: Tensor, bits: int) -> Tensor:
    """Numbers below 2^bits, end to end, as bytes."""
    digits = numbers.reshape(-1, 1) >> torch.arange(bits) & 1
    digits = torch.nn.functional.pad(digits.view(-1), (0, -digits.numel() % 8)).view(-1, 8)
    return (digits << torch.arange(8)).sum(1).to(torch.uint8)


def _unpacked(packed: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of ``_packed``: so many numbers, int64."""
    digits = (packed.long()[:, None] >> torch.arange(8) & 1).view(-1)[: count * bits]
    return (digits.view(-1, bits) << torch.arange(bits)).sum(1)


def _gathered(packet: Tensor) -> list[Tensor]:
    """Every worker's packet, by rank."""
    packets = [torch.empty_like(packet) for _ in range(dist.get_world_size())]
    dist.all_gather(packets, packet)
    return packets
