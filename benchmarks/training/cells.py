"""The cells of the training benchmark: which there are and what they are called.

A cell is one run of one contender. ``tune`` is every point of its grid, and then what it alone has
at the best of them, a few steps each; ``train`` is the best of all, three seeds; ``speed`` is its
steps on a throttled wire.
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
    UNCHANGED,
    Point,
    changed,
    grid,
    words,
)
from benchmarks.training.tasks import GOALS

STAGES = ("tune", "train", "speed")
RATES = ("10mbit", "100mbit", "1gbit")
HEAVY = {"mnist", "brown"}  # too large for 10 Mbit/s: one dense step takes 40 s
HOSTS = 4
SPEED_START = 5  # steps of the start in a run that only measures speed; the first two are warm-up
SPEED_ROUNDS = 8  # at least so many steps, and four rounds


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
    """Return the best point of all; None until all are tried, or if all failed."""
    contender = UNCHANGED.get(contender, contender)
    first = grid(task, contender)
    best = _best(results, task, contender, first)
    if best is None:
        return None
    return _best(results, task, contender, [best, *changed(contender, best)])


def _best(results: Results, task: str, contender: str, points: list[Point]) -> Point | None:
    """Return the best of these; None until all are tried, or if all failed."""
    found = []
    for point in points:
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


def _tune(results: Results, task: str, contender: str) -> Iterator[Cell]:
    if contender in UNCHANGED:
        return
    few = NEWTON_TUNE if contender in NEWTON else GOALS[task].tune_steps
    first = grid(task, contender)
    best = _best(results, task, contender, first)
    for point in [*first, *(changed(contender, best) if best else ())]:
        yield _cell(tune_key(task, contender, point), "tune", task, contender, point, few)


def _train(results: Results, task: str, contender: str) -> Iterator[Cell]:
    best, most = _best_or_first(results, task, contender), GOALS[task].most_steps
    if contender not in NEWTON:  # those go to the target on every wire instead
        for seed in SEEDS:
            key = train_key(task, contender, seed)
            yield _cell(key, "train", task, contender, best, most, seed=seed)


def _speed(results: Results, task: str, contender: str) -> Iterator[Cell]:
    best = _best_or_first(results, task, contender)
    direct = contender in NEWTON
    start = SPEED_START if best.get("start") else 0
    steady = max(SPEED_ROUNDS, 4 * int(best.get("every", 1)))
    for rate in RATES:
        if rate == RATES[0] and task in HEAVY:
            continue
        for seed in SEEDS if direct else SEEDS[:1]:
            point = best | ({"start": start} if start else {})
            steps = NEWTON_MOST if direct else start + steady
            key = speed_key(task, contender, rate, seed)
            yield _cell(key, "speed", task, contender, point, steps, seed=seed, rate=rate)


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
    rate: str | None = None,
) -> Cell:
    """Return a cell of ``steps`` steps."""
    settings = {"stage": stage, "task": task, "contender": contender, "point": point}
    settings |= {"steps": steps, "rate": rate}
    start = f"{stage}, {contender}"
    return Cell(
        key, settings, "benchmarks.training.measure:measure", Place(HOSTS, rate), start, seed
    )
