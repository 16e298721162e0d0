"""Event files nobody would write by training: huge, deep, sparse, full of names and numbers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Lines = Iterator[dict[str, Any]]

METRICS = [
    {"name": f"m{i}", "title": "t" * 60, "thresholds": list(range(20))} for i in range(10**4)
]


def start(**fields: Any) -> dict[str, Any]:
    return {"event": "start", "schema": 1, "name": "x", "method": "m", "workers": 4, **fields}


def step(number: int, **fields: Any) -> dict[str, Any]:
    counters = {"samples": number * 10, "communications": number, "bytes_sent": number * 100}
    return {
        "event": "step", "step": number, "epoch": number / 100, "loss": 1 / (1 + number),
        "seconds": number * 0.1, "error": 0.5, **counters, **fields,
    }  # fmt: skip


def epoch(number: int, **fields: Any) -> dict[str, Any]:
    scores = {"train_loss": 1.0, "test_loss": 1.0, "train_error": 0.1, "test_error": 0.1}
    return {**step(number * 100), **scores, "event": "epoch", **fields}


def a_gap() -> Lines:
    yield start()
    yield step(1)
    yield step(10**18)
    yield epoch(10**15)


def many_lines() -> Lines:
    yield start()
    yield from (step(number) for number in range(10**6))


def many_epochs() -> Lines:
    yield start()
    yield from (epoch(number) for number in range(19_000))


def many_starts() -> Lines:
    for number in range(999):
        yield start()
        yield from (step(number * 2), step(number * 2 + 1), epoch(number))


def starts_after_many_steps() -> Lines:
    """What every resumed run repeats is looked for among all that is kept."""
    yield start()
    yield from (step(number) for number in range(49_000))
    for number in range(999):
        yield start()
        yield step(49_000 + number)


def long_texts() -> Lines:
    yield start(name="n" * 900_000, versions={"torch": "v" * 100_000})
    for number in range(200):
        yield step(number, note="x" * 900_000)


def many_metrics() -> Lines:
    yield start(metrics=METRICS[:16])
    for number in range(2_000):
        scores = {
            f"{side}_m{i}": 1.0 / (number + 1) for i in range(16) for side in ("train", "test")
        }
        yield epoch(number, **scores)


def too_many_metrics() -> Lines:
    yield start(metrics=METRICS)


def many_keys() -> Lines:
    yield start()
    yield from (step(number, **{f"k{i}": i for i in range(9_000)}) for number in range(500))


def deep() -> Lines:
    value: Any = 1
    for _ in range(900):
        value = [value]
    yield start()
    yield from (step(number, times=value, residual_ratio=value) for number in range(500))


def huge_numbers() -> Lines:
    yield start(workers=10**300, params=10**300, seed=10**300, batch=1e308)
    for number in range(100):
        yield step(number, seconds=1e308, bytes_sent=10**300, loss=1e308, lr=1e308, minibatch=1e308)
        yield epoch(number, seconds=1e308, train_loss=-1e308, test_loss=1e308, test_error=1e308)
    yield {"event": "end", "steps": 10**300, "seconds": 1e308, "bytes_sent_per_worker": 1e308}


def tiny_numbers() -> Lines:
    yield start(workers=1e-308)
    yield from (step(n, seconds=5e-324, loss=5e-324, bytes_sent=5e-324) for n in range(100))
    yield from (epoch(n, seconds=5e-324, train_loss=5e-324, test_error=5e-324) for n in range(100))


def thousands_of_workers() -> Lines:
    traffic = [
        {"stage": f"s{i}", "collectives": 1, "messages": 1, "bytes": 10**6} for i in range(4_900)
    ]
    yield start(workers=10**6)
    yield from (step(number, workers=list(range(9_000))) for number in range(200))
    yield {"event": "end", "steps": 200, "traffic": traffic, "workers": list(range(5_000))}


def many_phases() -> Lines:
    yield start()
    for number in range(6_000):
        yield {"event": "phase", "step": number, "phase": f"p{number}"}
        yield {**step(number), "event": "selection", "minibatch": number + 1, "tried": [[1, 2]] * 5}
        yield {**step(number), "event": "decay", "lr": 1e-3, "best": 0.1}


def many_terms() -> Lines:
    times = {f"t{i}": 1e-3 for i in range(4_000)}
    yield start()
    yield from (step(number, times=times) for number in range(400))


SMALL: list[Callable[[], Lines]] = [
    a_gap, many_epochs, many_starts, starts_after_many_steps, many_metrics, too_many_metrics, deep,
    huge_numbers, tiny_numbers, thousands_of_workers, many_phases, many_terms,
]  # fmt: skip
LARGE: list[Callable[[], Lines]] = [many_lines, long_texts, many_keys]


def write_hostile(folder: Path, make: Callable[[], Lines]) -> Path:
    """A run folder with these events."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.jsonl").open("w") as file:
        for event in make():
            file.write(json.dumps(event) + "\n")
    return folder
