"""The cells of the training benchmark: which there are and what they are called.

A cell is one run of one contender. ``tune`` is every point of its grid, a few steps each;
``train`` is the best of these to the target, three seeds; ``speed`` is its steps on a throttled
wire.
"""

from collections.abc import Iterator

from benchmarks.launch import Place
from benchmarks.runner import Cell
from benchmarks.store import Results
from benchmarks.training.contenders import (
    CONTENDERS,
    ENTRIES,
    NEWTON,
    NEWTON_MOST,
    NEWTON_TUNE,
    SEEDS,
    START,
    Point,
    grid,
    words,
)
from benchmarks.training.tasks import GOALS

STAGES = ("tune", "train", "speed")
RATES = ("100mbit", "1gbit")
HOSTS = 4
SPEED_START = 5  # exact steps of a run that only measures speed; the first two are warm-up
SPEED_STEADY = 8


def tune_key(task: str, contender: str, point: Point) -> str:
    """Return under which a run of the grid is stored."""
    return f"tune, {task}, {contender}, {words(point)}"


def train_key(task: str, contender: str, seed: int) -> str:
    """Return under which a run to the target on an open wire is stored."""
    return f"train, {task}, {contender}, seed {seed}"


def speed_key(task: str, contender: str, rate: str, seed: int) -> str:
    """Return under which a run on a wire is stored."""
    return f"speed, {task}, {contender}, {rate}, seed {seed}"


def best_point(results: Results, task: str, contender: str) -> Point | None:
    """Return the best point of the grid; None until all are tried, or if all failed."""
    found = []
    for point in grid(task, contender):
        run = results.get(tune_key(task, contender, point))
        if run is None:
            return None
        if run.measures.get("scores"):  # none where it failed
            score = run.measures["scores"][-1][1]
            found.append((score if GOALS[task].higher_is_better else -score, point))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def cells(results: Results) -> list[Cell]:
    """Return all cells. Those after ``tune`` take the best point so far, or the grid's first."""
    return [
        cell
        for stage in STAGES
        for contender in CONTENDERS
        for task in GOALS
        if contender in ENTRIES[task]
        for cell in OF_STAGE[stage](results, task, contender)
    ]


def _tune(_: Results, task: str, contender: str) -> Iterator[Cell]:
    few = NEWTON_TUNE if contender in NEWTON else GOALS[task].tune_steps
    for point in grid(task, contender):
        yield _cell(tune_key(task, contender, point), "tune", task, contender, point, few)


def _train(results: Results, task: str, contender: str) -> Iterator[Cell]:
    best, most = _best_or_first(results, task, contender), GOALS[task].most_steps
    if contender not in NEWTON:  # those go to the target on every wire instead
        for seed in SEEDS:
            key = train_key(task, contender, seed)
            yield _cell(key, "train", task, contender, best, most, seed=seed)


def _speed(results: Results, task: str, contender: str) -> Iterator[Cell]:
    best = _best_or_first(results, task, contender)
    for rate in RATES:
        for seed in SEEDS if contender in NEWTON else SEEDS[:1]:
            key, direct = speed_key(task, contender, rate, seed), contender in NEWTON
            steps, exact = SPEED_START + SPEED_STEADY, SPEED_START
            steps, exact = (NEWTON_MOST, START) if direct else (steps, exact)
            yield _cell(
                key, "speed", task, contender, best, steps, seed=seed, exact=exact, rate=rate
            )


OF_STAGE = {"tune": _tune, "train": _train, "speed": _speed}


def _best_or_first(results: Results, task: str, contender: str) -> Point:
    return best_point(results, task, contender) or grid(task, contender)[0]


def _cell(
    key: str,
    stage: str,
    task: str,
    contender: str,
    point: Point,
    steps: int,
    *,
    seed: int = 0,
    exact: int = START,
    rate: str | None = None,
) -> Cell:
    """Return a cell of ``steps`` steps, the first ``exact`` of them in float32."""
    settings = {"stage": stage, "task": task, "contender": contender, "point": point}
    settings |= {"steps": steps, "exact": exact, "rate": rate}
    start = f"{stage}, {contender}"
    return Cell(
        key, settings, "benchmarks.training.measure:measure", Place(HOSTS, rate), start, seed
    )
