"""The flags of ``thinwire plan``."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from thinwire.cli.train import recipe_of
from thinwire.cli.usage import shortly
from thinwire.plan import Goal, Profile, Setting, make_goal, make_setting
from thinwire.plan.methods import DENSE, MOST_EVERY, ONE_BIT, Method, local_steps
from thinwire.plan.paper import SECOND_GPU
from thinwire.plan.profile import MOST_SIZE
from thinwire.plan.units import parse_counts, parse_rate, parse_seconds
from thinwire.report import Run
from thinwire.train import Recipe

T = TypeVar("T")
MOST_WORKERS = 4096  # as of a recipe; every owner's packet is added up
MOST_MINIBATCH = 2**31
MOST_SAMPLES = 2**20  # in a sub-batch that is measured
MOST_PARAMETERS = 10**10  # of a perceptron that is measured
MOST_LAYERS = 500  # each has two parameters, and a profile at most 1000 buckets
SEVERAL = 64
TABLES = 16  # one for each minibatch, with a figure
_BOUNDS: dict[str, tuple[float, float]] = {
    "per_node": (1, MOST_WORKERS),
    "model_parallel": (1, MOST_WORKERS),
    "efficiency": (0.001, 1),
    "bucket_mb": (1e-6, 1e6),
    "every": (0, MOST_EVERY),
    "delay": (0, MOST_EVERY),
    "target": (-1e12, 1e12),
}


@dataclass(frozen=True)
class PlanFields:
    """Predict speed, K-hat and H-hat from a profile of this machine; --calibrate measures one."""

    profile: Path = Path("profile.json")
    """The profile to read, or with --calibrate to write."""
    workers: str | None = None
    """Numbers of workers: 1..1024 (doubling) or 1,2,4. With --calibrate: processes to start."""
    minibatch: str | None = None
    """Samples in a minibatch, over all workers; one or more, such as 512,4096. The recipe's by
    default, 1024 without one."""
    recipe: str | None = None
    """Recipe whose minibatch and local steps are planned, such as mnist-local or mine.toml."""
    every: int | None = None
    """Also plan rounds of so many local steps, by 1 bit; the recipe's local.every by default."""
    delay: int | None = None
    """Local steps beside which the exchange of a round goes on; the recipe's by default."""
    bandwidth: str | None = None
    """Line rate of each machine's link, such as 1Gbit/s; the profile's measured one by default."""
    latency: str | None = None
    """Start-up of a collective, such as 50us; the profile's by default, 50us without one."""
    per_node: int = 1
    """Workers in one machine; they share its link."""
    inner_bandwidth: str = "100Gbit/s"
    """Between workers of one machine, where there are several."""
    model_parallel: int = 1
    """Also plan 1-bit with each model over this many workers [Seide 2014, section 5.5]."""
    efficiency: float = SECOND_GPU
    """Of each further worker in model parallelism; 0.55 to 0.9 in [Seide 2014, section 5.5]."""
    shared: bool = False
    """All workers run on the one machine that was calibrated, and share its processors."""
    fit: tuple[Path, ...] = ()
    """Run folders whose convergence turns speed into time to the target."""
    target: float = 2.5
    """What to reach, with --fit: of a rate, such as the error, in per cent."""
    metric: str = "test"
    """On which samples: test or train; or what else runs measured there, such as test_loss."""
    out: Path = Path("plan.svg")
    """Where the figure goes; several add what they show: plan-1024.svg, plan-target.svg."""
    calibrate: bool = False
    """Measure this machine and, with --workers K or under torchrun, this network."""
    layers: tuple[int, ...] = (784, 512, 512, 512, 10)
    """With --calibrate: widths of the perceptron, inputs and classes included."""
    activation: Literal["relu", "sigmoid"] = "relu"
    """With --calibrate: between its layers."""
    adagrad: Literal["none", "aggregate", "smoothed"] = "aggregate"
    """With --calibrate: part of post-processing, beside momentum."""
    bucket_mb: float = 25.0
    """With --calibrate: as exchange.bucket-mb of a recipe."""
    sizes: str = "16..2048"
    """With --calibrate: sub-batch sizes to measure."""

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                flag, got = f"--{name.replace('_', '-')}", shortly(value)
                raise ValueError(f"{flag}: expected {least:g} to {most:g}, got {got}")
        if not 2 <= len(self.layers) <= MOST_LAYERS or not all(
            1 <= n <= MOST_SIZE for n in self.layers
        ):
            raise ValueError(
                f"--layers: expected two to {MOST_LAYERS} widths from 1 to {MOST_SIZE}, "
                f"got {' '.join(map(shortly, self.layers[:10]))}{' ...' * (len(self.layers) > 10)}"
            )
        parameters = sum((before + 1) * after for before, after in itertools.pairwise(self.layers))
        if parameters > MOST_PARAMETERS:
            raise ValueError(
                f"--layers: expected at most {MOST_PARAMETERS} parameters, got {parameters}"
            )

    @property
    def worker_counts(self) -> list[int]:
        """--workers as numbers."""
        text = self.workers or "1..64"
        return _named("--workers", lambda given: parse_counts(given, MOST_WORKERS, SEVERAL), text)

    @property
    def minibatches(self) -> list[int]:
        """--minibatch as numbers."""
        text = str(self._recipe.minibatch) if self.minibatch is None else self.minibatch
        return _named(
            "--minibatch", lambda given: parse_counts(given, MOST_MINIBATCH, TABLES), text
        )

    @property
    def local(self) -> list[Method]:
        """The method with local steps that --recipe, --every and --delay ask for, if any.

        Raises:
            ValueError: the delay is not shorter than a round, or no profile measures the code.
        """
        recipe = self._recipe
        every = recipe.local.every if self.every is None else self.every
        delay = recipe.local.delay if self.delay is None else self.delay
        if delay and delay >= every:
            raise ValueError(f"--delay: expected less than --every, which is {every}, got {delay}")
        known: dict[object, Method] = {method.code: method for method in (ONE_BIT, DENSE)}
        code = recipe.exchange.code
        if every and code not in known:
            raise ValueError(
                f"--recipe: expected exchange.code sign or float32, as profiles have, got {code}"
            )
        return [local_steps(known[code], every, delay)] if every else []

    @cached_property
    def _recipe(self) -> Recipe:
        """The one that was named; without one, what recipes have by default."""
        return Recipe() if self.recipe is None else recipe_of(self.recipe, [])[1]

    @property
    def sub_batches(self) -> list[int]:
        """--sizes as numbers."""
        return _named(
            "--sizes", lambda given: parse_counts(given, MOST_SAMPLES, SEVERAL), self.sizes
        )

    def goal(self, runs: Sequence[Run]) -> Goal:
        """Return --metric and --target as a goal of these runs.

        Raises:
            ValueError: the runs have no such metric, or it cannot have such a value.
        """
        return _flagged(lambda: make_goal(self.metric, self.target, runs))

    def setting(self, profile: Profile) -> Setting:
        """Put the profile into the network that was asked for.

        Raises:
            ValueError: a flag cannot be read, or no bandwidth is known.
        """
        bandwidth = _optional("--bandwidth", parse_rate, self.bandwidth)
        latency = _optional("--latency", parse_seconds, self.latency)
        inner = _named("--inner-bandwidth", parse_rate, self.inner_bandwidth)
        return _flagged(
            lambda: make_setting(
                profile,
                bandwidth=bandwidth,
                latency=latency,
                per_node=self.per_node,
                inner_bandwidth=inner,
                efficiency=self.efficiency,
                shared=self.shared,
            )
        )


def _named(flag: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from None


def _optional(flag: str, parse: Callable[[str], T], text: str | None) -> T | None:
    return None if text is None else _named(flag, parse, text)


def _flagged(make: Callable[[], T]) -> T:
    """An error of the planner begins with the field's name; the user knows it as a flag."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"--{error}") from None
