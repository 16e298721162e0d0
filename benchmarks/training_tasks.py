"""What is trained in the training benchmark: two tasks, each with data, network, loss and target.

All contenders see the same minibatches in the same order: minibatch number i is a function of i
and the seed alone, and worker k takes the k-th share of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import char_lm
from thinwire.data import MinibatchSampler, load_mnist
from thinwire.models import build_model

HIDDEN = (2048, 2048, 1024)  # with 784 inputs and 10 outputs: 7.9 million parameters


@dataclass(frozen=True)
class Task:
    """Something to train.

    Attributes:
        name: as on the command line.
        model: makes the network, the same on every worker.
        loss: (module, minibatch) -> mean loss; a minibatch is a tensor of sample numbers.
        minibatches: makes the stream of global minibatches.
        score: network -> what the target is about, the same on every worker.
        score_name: its words.
        target: the score to reach.
        higher_is_better: of scores.
        minibatch: samples, over all workers.
        eval_every: steps between scores.
        most_steps: after which a run that has not reached the target is given up.
        adam: whether AdamW trains it (else SGD with momentum).
    """

    name: str
    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Tensor], Tensor]
    minibatches: Callable[[], Callable[[], Tensor]]
    score: Callable[[nn.Module], float]
    score_name: str
    target: float
    higher_is_better: bool
    minibatch: int
    eval_every: int
    most_steps: int
    adam: bool

    def reached(self, score: float) -> bool:
        """Whether a score meets the target."""
        return score >= self.target if self.higher_is_better else score <= self.target


def over_workers(total: Tensor) -> Tensor:
    """The sum over workers, in place."""
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def _share() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def mnist(seed: int = 0) -> Task:
    """An 8M-parameter perceptron; the target is 98 % test accuracy."""
    data = load_mnist()

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(module(data.train.inputs[batch]), data.train.targets[batch])

    @torch.no_grad()
    def accuracy(module: nn.Module) -> float:
        rank, world = _share()
        inputs, targets = data.test.inputs[rank::world], data.test.targets[rank::world]
        right = sum(
            (module(x).argmax(1) == y).sum()
            for x, y in zip(inputs.split(1024), targets.split(1024), strict=True)
        )
        total = over_workers(torch.as_tensor(right, dtype=torch.float64))
        return 100 * total.item() / len(data.test)

    return Task(
        "mnist",
        model=lambda: build_model(784, HIDDEN, 10, "relu", seed),
        loss=loss,
        minibatches=lambda: MinibatchSampler(len(data.train), 512, seed).next_minibatch,
        score=accuracy,
        score_name="test accuracy (%)",
        target=98.0,
        higher_is_better=True,
        minibatch=512,
        eval_every=20,
        most_steps=1200,
        adam=False,
    )


def transformer(seed: int = 0) -> Task:
    """The character transformer; the target is a held-out loss."""
    train, held_out = char_lm.load_text()

    def stream() -> Callable[[], Tensor]:
        generator = torch.Generator().manual_seed(seed)
        last = len(train) - char_lm.CONTEXT
        return lambda: torch.randint(last, (char_lm.BATCH,), generator=generator)

    @torch.no_grad()
    def nats(module: nn.Module) -> float:
        rank, world = _share()
        windows = torch.arange(0, char_lm.HELD_OUT * char_lm.CONTEXT, char_lm.CONTEXT)[rank::world]
        losses = [char_lm.loss_of(module, held_out, some) for some in windows.chunk(4)]
        return over_workers(torch.stack(losses).double().mean()).item() / world

    def model() -> nn.Module:
        torch.manual_seed(seed)
        return char_lm.Transformer()

    return Task(
        "transformer",
        model=model,
        loss=lambda module, batch: char_lm.loss_of(module, train, batch),
        minibatches=stream,
        score=nats,
        score_name="held-out loss (nats per character)",
        target=2.0,
        higher_is_better=False,
        minibatch=char_lm.BATCH,
        eval_every=20,
        most_steps=1500,
        adam=True,
    )


TASKS: dict[str, Callable[..., Task]] = {"mnist": mnist, "transformer": transformer}


def describe(task: Task) -> dict[str, Any]:
    """What of a task a result depends on."""
    values = sum(p.numel() for p in task.model().parameters())
    return {"target": task.target, "minibatch": task.minibatch, "parameters": values}
