"""Bytes against loss: what each code and number of bits costs and gives.

    python -m benchmarks.training.frontier [--only "lm sign" ...]

Two tasks. Names that begin with "lm": a character-level transformer (254 528 parameters, AdamW) on
the source of Python's standard library, 4 workers, loss on 32 768 held-out characters in nats.
Names that begin with "mnist": a 784-512-512-512-10 perceptron under OneBitSGD, 2 workers, test
error. All processes talk over loopback gloo; within a task all runs see the same data in the same
order.
"""

import sys
from dataclasses import asdict, dataclass

from benchmarks.command import main
from benchmarks.launch import Place
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results
from benchmarks.tables import Table, number, of_measures

STEPS, EPOCHS = 600, 5  # of the transformer, of the perceptron


@dataclass(frozen=True)
class Lm:
    """A run of the transformer.

    Attributes:
        how: "ddp", "fp16" (torch's hook), "hook", "owner" (OwnerOptimizer) or "1-bit Adam".
        start: fraction of the steps that travel in float32 first.
    """

    how: str
    code: str | tuple[str, str] = "sign"
    beta1: float = 0.5
    start: float = 0.1
    lr: float = 0.003
    steps: int = STEPS


@dataclass(frozen=True)
class Local(Lm):
    """The same by local steps of AdamW, the start being rounds of one step.

    Attributes:
        every: steps in a round.
        delay: steps after which a round's update is applied.
    """

    how: str = "local"
    beta1: float = 0.9
    start: float = 0.0
    every: int = 8
    delay: int = 0


@dataclass(frozen=True)
class Mnist:
    """A run of the perceptron; ``recipe`` is thinwire's mnist-onebit in place of plain momentum."""

    code: str
    recipe: bool = False
    lr: float = 0.2
    momentum: float = 0.66
    minibatch: int = 1024
    error_feedback: bool = True
    epochs: int = EPOCHS


def _adam(code: str = "sign", start: float = 0.2, **options: float) -> Lm:
    return Lm("1-bit Adam", code=code, start=start, **options)  # type: ignore[arg-type]


RUNS: dict[str, Lm | Mnist] = {
    "lm float32": Lm("ddp"),
    "lm sign": Lm("hook"),
    "lm 1-bit Adam": _adam(),
    "lm sign, start 20 %": Lm("hook", start=0.2),
    "lm float32, beta1 0.9": Lm("ddp", beta1=0.9),
    "lm sign, beta1 0.9": Lm("hook", beta1=0.9),
    "lm 1-bit Adam, beta1 0.9": _adam(beta1=0.9),
    "lm sign, start 20 %, beta1 0.9": Lm("hook", beta1=0.9, start=0.2),
    "lm rotated": Lm("hook", code="rotated"),
    "lm bits 1/4": Lm("hook", code=("sign", "4-bit")),
    "lm bits 4/4": Lm("hook", code="4-bit"),
    "lm bits 4/4, beta1 0.9": Lm("hook", code="4-bit", beta1=0.9),
    "lm owner AdamW": Lm("owner"),
    "lm fp16": Lm("fp16"),
    "lm local steps": Local(),
    "lm local steps, beta1 0.5": Local(beta1=0.5),
    "lm local steps, start 10 %": Local(start=0.1),
    "lm local steps, delay 4": Local(delay=4),
    "lm local steps, rounds of 16": Local(every=16),
    "lm local steps, float32": Local(code="float32"),
    "lm 1-bit Adam, start 10 %": _adam(start=0.1),
    "lm frozen variance, float32": _adam("float32"),
    "lm float32, lr 0.006": Lm("ddp", lr=0.006),
    "lm sign, start 20 %, lr 0.006": Lm("hook", start=0.2, lr=0.006),
    "lm 1-bit Adam, lr 0.006": _adam(lr=0.006),
    "lm frozen variance, float32, lr 0.006": _adam("float32", lr=0.006),
    "lm frozen variance, float32, beta1 0.9": _adam("float32", beta1=0.9),
    "lm bits 4/4, lr 0.006": Lm("hook", code="4-bit", lr=0.006),
    "lm float32, lr 0.012": Lm("ddp", lr=0.012),
    "lm bits 4/4, lr 0.012": Lm("hook", code="4-bit", lr=0.012),
    "lm sign, start 20 %, lr 0.012": Lm("hook", start=0.2, lr=0.012),
    "lm 1-bit Adam, lr 0.012": _adam(lr=0.012),
    "mnist m 0.9, float32": Mnist("float32", momentum=0.9, lr=0.06),
    "mnist m 0.9, sign": Mnist("sign", momentum=0.9, lr=0.06),
    "mnist m 0.9, rotated": Mnist("rotated", momentum=0.9, lr=0.06),
    "mnist no feedback, sign": Mnist("sign", error_feedback=False),
    "mnist no feedback, rotated": Mnist("rotated", error_feedback=False),
    "mnist m 0.66, float32": Mnist("float32"),
    "mnist m 0.66, sign": Mnist("sign"),
    "mnist recipe, float32": Mnist("float32", recipe=True),
    "mnist recipe, sign": Mnist("sign", recipe=True),
    "mnist recipe, rotated": Mnist("rotated", recipe=True),
    "mnist recipe, 4-bit": Mnist("4-bit", recipe=True),
}
AGAIN = ("lm float32", "lm sign, start 20 %", "lm 1-bit Adam")  # with a second seed


def cells(_: Results) -> list[Cell]:
    """Return all runs with seed 0, and some with seed 1."""
    named = [(name, name, 0) for name in RUNS]
    named += [(f"{name}, seed 1", name, 1) for name in AGAIN]
    found = []
    for key, name, seed in named:
        task, workers = ("lm", 4) if isinstance(RUNS[name], Lm) else ("mnist", 2)
        function = f"benchmarks.training.frontier_runs:measure_{task}"
        settings = {"task": task, **asdict(RUNS[name])}
        found.append(Cell(key, settings, function, Place(workers), key, seed))
    return found


def tables(results: Results) -> list[Table]:
    """Return every run."""
    columns = {
        "MB sent per worker": number("bytes", 1, 1e-6),
        "loss": number("loss", 3),
        "test error %": number("test error %"),
    }
    return [of_measures("Bytes against loss", results, columns)]


BENCHMARK = Benchmark("frontier", "benchmarks.training.frontier", cells, tables, 60.0, ("task",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
