"""The cells of the training benchmark: which there are, what they are called, how long they take.

A cell is one run of one contender. ``tune`` is every point of its grid, a few steps each;
``train`` is the best of these to the target, three seeds; ``speed`` is its steps on a throttled
wire.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.training_contenders import (
    ENTRIES,
    NEWTON,
    NEWTON_MOST,
    NEWTON_TUNE,
    SEEDS,
    START,
    Settings,
    grid,
    words,
)
from benchmarks.training_tasks import GOALS

STAGES = ("tune", "train", "speed")
SPEED_START = 5  # exact steps of a run that only measures speed; the first two are warm-up
SPEED_STEADY = 8

# Seconds a cell takes on two quiet cores, roughly, until the first of its kind has been stored.
GUESS = {
    ("tune", "mnist"): 14.0,
    ("train", "mnist"): 100.0,
    ("speed", "mnist"): 20.0,
    ("tune", "transformer"): 4.0,
    ("train", "transformer"): 18.0,
    ("speed", "transformer"): 4.0,
    ("tune", "families"): 5.0,
    ("train", "families"): 18.0,
    ("speed", "families"): 12.0,
}
LAUNCH = 10.0  # seconds until four workers stand


@dataclass(frozen=True)
class Job:
    """One cell to be measured.

    Attributes:
        stage: one of STAGES.
        task: its name.
        contender: its name.
        settings: the point of the grid.
        seed: of everything.
        steps: after which it ends.
        exact: first steps in float32, where the contender has such a thing.
        rate: the wire; None: this machine's loopback.
    """

    stage: str
    task: str
    contender: str
    settings: Settings
    seed: int
    steps: int
    exact: int
    rate: str | None = None

    @property
    def key(self) -> str:
        """Under which it is stored."""
        if self.stage == "tune":
            return tune_key(self.task, self.contender, self.settings)
        if self.stage == "train":
            return train_key(self.task, self.contender, self.seed)
        return speed_key(self.task, self.contender, self.rate or "none", self.seed)

    def to_json(self) -> dict[str, Any]:
        """What a worker is told."""
        return {"key": self.key, **asdict(self)}


def tune_key(task: str, contender: str, settings: Settings) -> str:
    """Of a run of the grid."""
    return f"tune, {task}, {contender}, {words(settings)}"


def train_key(task: str, contender: str, seed: int) -> str:
    """Of a run to the target on an open wire."""
    return f"train, {task}, {contender}, seed {seed}"


def speed_key(task: str, contender: str, rate: str, seed: int) -> str:
    """Of a run on a wire."""
    return f"speed, {task}, {contender}, {rate}, seed {seed}"


def best_settings(runs: dict[str, Any], task: str, contender: str) -> Settings | None:
    """The point of the grid with the best score; None until all are tried, or if all failed."""
    found = []
    for settings in grid(task, contender):
        run = runs.get(tune_key(task, contender, settings))
        if run is None:
            return None
        if run.get("scores"):  # none where it failed
            score = run["scores"][-1][1]
            found.append((score if GOALS[task].higher_is_better else -score, settings))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def jobs(
    runs: dict[str, Any],
    stage: str,
    tasks: Sequence[str],
    contenders: Sequence[str],
    rates: Sequence[str],
) -> Iterator[Job]:
    """The cells of a stage. Those after ``tune`` take the best point, or the grid's first."""
    for contender in contenders:
        for task in tasks:
            if contender not in ENTRIES[task]:
                continue
            newton = contender in NEWTON
            if stage == "tune":
                few = NEWTON_TUNE if newton else GOALS[task].tune_steps
                for settings in grid(task, contender):
                    yield Job(stage, task, contender, settings, 0, few, START)
                continue
            best = best_settings(runs, task, contender) or grid(task, contender)[0]
            if stage == "train":
                most = GOALS[task].most_steps
                seeds = () if newton else SEEDS  # those go to the target on every wire instead
                yield from (Job(stage, task, contender, best, s, most, START) for s in seeds)
                continue
            for rate in rates:
                if newton:
                    yield from (
                        Job(stage, task, contender, best, s, NEWTON_MOST, START, rate)
                        for s in SEEDS
                    )
                else:
                    steps = SPEED_START + SPEED_STEADY
                    yield Job(stage, task, contender, best, 0, steps, SPEED_START, rate)


def missing(runs: dict[str, Any], wanted: Iterator[Job]) -> list[Job]:
    """Those of them that are not stored, or were with other settings than they would have now."""

    def stored(job: Job) -> bool:
        run = runs.get(job.key)
        return run is not None and run["settings"] == job.to_json()

    return [job for job in wanted if not stored(job)]


def expected_seconds(runs: dict[str, Any], todo: Sequence[Job]) -> float:
    """How long these cells will take, judged by stored ones of the same stage and task."""
    total = 0.0
    for job in todo:
        known = [
            run["wall"]
            for run in runs.values()
            if "wall" in run
            and (run["settings"]["stage"], run["settings"]["task"], run["settings"]["rate"])
            == (job.stage, job.task, job.rate)
        ]
        total += statistics.median(known) if known else GUESS[job.stage, job.task]
    return total + LAUNCH * len({(job.stage, job.contender, job.rate) for job in todo})
