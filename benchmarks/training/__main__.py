"""Time and bytes to a target over a thin wire, for every contender.

    python -m benchmarks.training [--only "tune, mnist" "speed" ...]    (root for speed; 3 hours)

What a minibatch does to the network does not depend on the wire, so the two are measured apart.
``tune`` tries every contender for a few steps, on an open wire: at every point of the same grid,
and then what it alone has at the best of them. ``train`` takes the best point to the target, with
three seeds. ``speed`` measures, on the throttled network, what a step takes, sends and receives: of
the start and of the rest. Seconds to the target are steps times seconds per step, each kind its
own. Hessian-free iterations differ from each other, so these contenders go to the target on every
wire themselves.

The Brown corpus comes through npm, and Fashion-MNIST from Debian's package dataset-fashion-mnist or
from the folder in THINWIRE_FASHION.
"""

import sys

from benchmarks.command import main
from benchmarks.runner import Benchmark
from benchmarks.training.cells import cells
from benchmarks.training.rows import tables

BENCHMARK = Benchmark(
    "training", "benchmarks.training", cells, tables, 20.0, ("stage", "task", "rate")
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
