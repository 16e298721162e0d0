"""What the drop-in costs users who change nothing else.

    python -m benchmarks.training.ordinary [--only convolutional ...]

Two ordinary scripts under DistributedDataParallel, with the one line of the README and without: a
residual convolutional network with batch norm (SGD, momentum 0.9, cosine) on 10 000 images of
Fashion-MNIST (Debian's package dataset-fashion-mnist, or the folder in THINWIRE_FASHION), and a GPT
of a million parameters (AdamW, betas 0.9 and 0.95, clipped at 1, warm-up and cosine) on the source
of Python's standard library. Two workers over loopback gloo; all see the same data in the same
order. Rates are those that suit DistributedDataParallel.
"""

import statistics
import sys
from typing import Any

from benchmarks.command import main
from benchmarks.launch import Place
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results, measured
from benchmarks.tables import Table

SEEDS = (0, 1, 2)
SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "convolutional": ("test error %", {"lr": 0.1, "epochs": 6}),
    "gpt": ("loss", {"lr": 0.001, "steps": 500}),
    "gpt, lr 0.003": ("loss", {"lr": 0.003, "steps": 500}),
}
HOW = ("DDP", "thinwire", "sign", "PowerSGD rank 4")  # "thinwire" is its default


def key_of(script: str, how: str, seed: int) -> str:
    """Return what a run is called."""
    return f"{script}, {how}, seed {seed}"


def cells(_: Results) -> list[Cell]:
    """Return all runs."""
    found = []
    for script, (_, settings) in SCRIPTS.items():
        function = f"benchmarks.training.ordinary_runs:measure_{script.split(',')[0]}"
        for how in HOW:
            for seed in SEEDS:
                own = {"script": script, "how": how, **settings}
                key = key_of(script, how, seed)
                found.append(Cell(key, own, function, Place(2), key, seed))
    return found


def tables(results: Results) -> list[Table]:
    """Return a line for each script and way: scores by seed, their mean, and bytes."""
    runs, rows = measured(results), []
    for script, (score, _) in SCRIPTS.items():
        for how in HOW:
            seeds = [runs.get(key_of(script, how, seed)) for seed in SEEDS]
            known = [run.measures for run in seeds if run is not None]
            if known:
                scores = [one[score] for one in known]
                fewer = f"{known[0]['fewer']:.2f}" if "fewer" in known[0] else "-"
                each = " / ".join(f"{value:.3f}" for value in scores)
                rows.append([script, how, score, each, f"{statistics.mean(scores):.3f}", fewer])
    headings = ("script", "exchange", "score", "seeds 0 / 1 / 2", "mean", "fewer bytes")
    return [Table("Ordinary scripts, nothing else changed", headings, rows)]


BENCHMARK = Benchmark("ordinary", "benchmarks.training.ordinary", cells, tables, 120.0, ("script",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
