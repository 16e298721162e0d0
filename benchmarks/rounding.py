"""What one unit in the last place of the start does to each Hessian-free method.

    python -m benchmarks.rounding

Every run is repeated from starts that are one unit in the last place away, up or down at random in
every parameter, and with its samples summed in other chunks. Prints, over problems of twelve seeds,
the least, median and greatest relative distance of the parameters after some steps. Other numbers
of workers or threads, and other processors, round differently by as much.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thinwire
from thinwire.data import load_mnist
from thinwire.models import build_model
from thinwire.train.prepare import normalise

SEEDS = range(12)
METHODS: tuple[Mapping[str, Any], ...] = (
    {"method": "gauss-newton"},
    {"method": "cg"},
    {"method": "hybrid"},
    {"method": "bicgstab"},
    {"method": "bicgstab", "least_cosine": 0.7},
)


def nudge(model: nn.Module, seed: int) -> None:
    """Move every parameter by one unit in the last place, up or down at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            up = torch.randint(0, 2, p.shape, generator=generator).bool()
            p.copy_(torch.nextafter(p, torch.where(up, torch.inf, -torch.inf).to(p)))


def small(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """301 samples of four classes in float64 and a network of 92 parameters."""
    torch.manual_seed(seed)
    inputs = torch.randn(301, 6, dtype=torch.float64)
    targets = (inputs[:, :3] @ torch.randn(3, 4, dtype=torch.float64)).argmax(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 4)).double(), inputs, targets


def mnist(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """6000 images of MNIST in float32 and a perceptron 784-64-10."""
    data, _ = normalise(load_mnist(None, progress=lambda _: None), "all")
    model = build_model(784, [64], 10, "sigmoid", seed, initialisation="torch")
    return model, data.train.inputs[:6000], data.train.targets[:6000]


def run(
    make: Any, seed: int, steps: int, options: Mapping[str, Any], chunk: int, nudged: int = 0
) -> Iterator[Tensor]:
    """The parameters after every step."""
    model, inputs, targets = make(seed)
    if nudged:
        nudge(model, nudged)
    optimizer = thinwire.HessianFree(model.parameters(), **options)
    objective = thinwire.Objective(model, F.cross_entropy, (inputs, targets), chunk=chunk)
    for _ in range(steps):
        optimizer.step(objective)
        yield torch.cat([p.detach().reshape(-1).double() for p in model.parameters()])


def amplified(
    make: Any, seed: int, steps: int, options: Mapping[str, Any], chunks: Sequence[int]
) -> list[float]:
    """After every step the greatest relative distance of a run from the undisturbed one."""
    first, *others = chunks
    straight = list(run(make, seed, steps, options, first))
    ways = [(first, 1), (first, 2), *((chunk, 0) for chunk in others)]
    distances = [
        [float((a - b).norm() / a.norm()) for a, b in zip(straight, other, strict=True)]
        for other in (run(make, seed, steps, options, *way) for way in ways)
    ]
    return [max(step) for step in zip(*distances, strict=True)]


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    for make, steps, options, chunks in (
        (
            small,
            5,
            {"curvature_batch": 128, "solver_iterations": 8, "curvature": "sharded"},
            (50, 37, 301),
        ),
        (mnist, 8, {"curvature_batch": 1024}, (2000, 1000, 6000)),
    ):
        for method in METHODS:
            found = [amplified(make, seed, steps, {**options, **method}, chunks) for seed in SEEDS]
            for step in (1, steps):
                over = [one[step - 1] for one in found]
                shown = f"{min(over):.0e} / {statistics.median(over):.0e} / {max(over):.0e}"
                print(f"{make.__name__:6} {method} step {step}: {shown}", flush=True)


if __name__ == "__main__":
    main()
