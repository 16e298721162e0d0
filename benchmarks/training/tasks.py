"""What is trained in the training benchmark: tasks, each with data, network, loss and target.

All contenders see the same minibatches in the same order: minibatch number i is a function of i
and the seed alone, and worker k takes the k-th share of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import mean_over_workers, over_workers
from benchmarks.training import char_lm, ordinary_runs
from benchmarks.training.brown import load_brown
from thinwire.data import Dataset, MinibatchSampler, load_mnist
from thinwire.models import build_model
from thinwire.train.prepare import normalise

HIDDEN = (2048, 2048, 1024)  # with 784 inputs and 10 outputs: 7.9 million parameters


@dataclass(frozen=True)
class Goal:
    """What a task's runs aim at, and how long they may take.

    Attributes:
        score: what is measured, in words.
        target: the score to reach.
        higher_is_better: of scores.
        minibatch: samples, over all workers.
        eval_every: steps between scores.
        eval_from: steps before the first score; nobody meets the target sooner.
        tune_steps: length of a run of the grid.
        most_steps: over which the learning rate falls to 0, in a straight line; a run that has not
            reached the target by then has failed.
        to_the_end: whether a run takes them all, for the last score counts too.
    """

    score: str
    target: float
    higher_is_better: bool
    minibatch: int
    eval_every: int
    eval_from: int
    tune_steps: int
    most_steps: int
    to_the_end: bool = False

    def reached(self, score: float) -> bool:
        """Whether a score meets the target."""
        return score >= self.target if self.higher_is_better else score <= self.target


NATS, ERROR = "held-out loss (nats per character)", "test error (%)"
GOALS = {
    "mnist": Goal("test accuracy (%)", 98.0, True, 512, 20, 240, 60, 450),
    "transformer": Goal(NATS, 2.0, False, char_lm.BATCH, 20, 100, 100, 400, to_the_end=True),
    "brown": Goal(NATS, 1.9, False, 16, 50, 100, 100, 600, to_the_end=True),
    "fashion": Goal(ERROR, 13.0, False, 128, 100, 200, 100, 600, to_the_end=True),
    "families": Goal("test accuracy (%)", 97.0, True, 128, 50, 500, 200, 2000),
}


@dataclass(frozen=True)
class Task:
    """Something to train.

    Attributes:
        name: as on the command line.
        seed: of the network, the minibatches and whatever else is drawn.
        model: makes the network, the same on every worker.
        loss: (module, minibatch) -> mean loss; a minibatch is a tensor of sample numbers.
        minibatches: makes the stream of global minibatches.
        score: network -> what the goal is about, the same on every worker.
        adam: whether AdamW trains it (else SGD with momentum).
        samples: all training samples, for methods that take no minibatches; None: not for those.
    """

    name: str
    seed: int
    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Tensor], Tensor]
    minibatches: Callable[[], Callable[[], Tensor]]
    score: Callable[[nn.Module], float]
    adam: bool = False
    samples: tuple[Tensor, Tensor] | None = None

    @property
    def goal(self) -> Goal:
        """See ``GOALS``."""
        return GOALS[self.name]


@cache
def images() -> Dataset:
    """MNIST as ``thinwire train`` has it."""
    dataset, _ = normalise(load_mnist(), "all")
    return dataset


def perceptron(name: str, seed: int, model: Callable[[], nn.Module], *, adam: bool = False) -> Task:
    """A task on MNIST; its score is test accuracy."""
    data, minibatch = images(), GOALS[name].minibatch

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(module(data.train.inputs[batch]), data.train.targets[batch])

    @torch.no_grad()
    def accuracy(module: nn.Module) -> float:
        share = slice(dist.get_rank(), None, dist.get_world_size())
        batches = data.test.inputs[share].split(1024), data.test.targets[share].split(1024)
        right = sum(float((module(x).argmax(1) == y).sum()) for x, y in zip(*batches, strict=True))
        return 100 * over_workers(right) / len(data.test)

    return Task(
        name,
        seed,
        model,
        loss,
        minibatches=lambda: MinibatchSampler(len(data.train), minibatch, seed).next_minibatch,
        score=accuracy,
        adam=adam,
        samples=(data.train.inputs, data.train.targets),
    )


def mnist(seed: int = 0) -> Task:
    """An 8M-parameter perceptron. SGD does not reach the target in so few steps, Adam does."""
    return perceptron("mnist", seed, lambda: build_model(784, HIDDEN, 10, "relu", seed), adam=True)


def families(seed: int = 0) -> Task:
    """The perceptron of H, small enough for both families on a few cores."""

    def model() -> nn.Module:
        return build_model(784, (400,), 10, "sigmoid", seed, initialisation="torch")

    return perceptron("families", seed, model)


def characters(
    name: str, seed: int, text: char_lm.Text, model: Callable[[], nn.Module], held_out: int
) -> Task:
    """A task of predicting the next character; its score is the held-out loss."""
    train, rest = text

    def stream() -> Callable[[], Tensor]:
        generator = torch.Generator().manual_seed(seed)
        last, minibatch = len(train) - char_lm.CONTEXT, GOALS[name].minibatch
        return lambda: torch.randint(last, (minibatch,), generator=generator)

    @torch.no_grad()
    def nats(module: nn.Module) -> float:
        losses = char_lm.held_out_losses(module, rest, held_out)
        return mean_over_workers(losses.double().mean().item())

    def made() -> nn.Module:
        torch.manual_seed(seed)
        return model()

    return Task(
        name,
        seed,
        made,
        lambda module, batch: char_lm.loss_of(module, train, batch),
        minibatches=stream,
        score=nats,
        adam=True,
    )


def transformer(seed: int = 0) -> Task:
    """A small character transformer, on the source of the standard library."""
    text = char_lm.load_text()
    return characters("transformer", seed, text, char_lm.Transformer, char_lm.HELD_OUT)


def brown(seed: int = 0) -> Task:
    """A transformer of 5 million parameters, on the Brown corpus of American English."""
    return characters("brown", seed, load_brown(), lambda: char_lm.Transformer(256, 6), 256)


def fashion(seed: int = 0) -> Task:
    """A residual convolutional network on Fashion-MNIST."""
    data = ordinary_runs.fashion()
    train, test = (ordinary_runs.images(part.inputs) for part in (data.train, data.test))

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(module(train[batch]), data.train.targets[batch])

    @torch.no_grad()
    def error(module: nn.Module) -> float:
        share = slice(dist.get_rank(), None, dist.get_world_size())
        module.eval()
        parts = zip(test[share].split(500), data.test.targets[share].split(500), strict=True)
        wrong = sum(float((module(x).argmax(1) != y).sum()) for x, y in parts)
        module.train()
        return 100 * over_workers(wrong) / len(data.test)

    def model() -> nn.Module:
        torch.manual_seed(seed)
        return ordinary_runs.convolutional()

    minibatch = GOALS["fashion"].minibatch
    return Task(
        "fashion",
        seed,
        model,
        loss,
        minibatches=lambda: MinibatchSampler(len(data.train), minibatch, seed).next_minibatch,
        score=error,
    )


TASKS: dict[str, Callable[..., Task]] = {
    "mnist": mnist,
    "transformer": transformer,
    "brown": brown,
    "fashion": fashion,
    "families": families,
}
