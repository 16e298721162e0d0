"""The measurements of [Seide 2014]: costs (Table 1, section 5.1) and speeds (Tables 4 and 5).

From the former the planner predicts the latter; ``tests/plan/test_paper.py`` and
``docs/planner.md`` hold the two against each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from thinwire.plan.step import BucketTimes, Costs, Step, predict
from thinwire.plan.subbatch import SubBatchTimes

# Table 1: one K20X, momentum and two AdaGrad steps, no data parallelism.
SUB_BATCHES = (256, 512, 1024, 2048, 4096, 8192)
SUB_BATCH_SECONDS = (0.059, 0.089, 0.143, 0.260, 0.490, 0.955)
POST_AND_UPDATE = 0.0182  # section 5.1: C T_post + T_upd
UPDATE = 0.009  # section 5.1: T_upd "with quantization"
EXCHANGE = (0.003, 0.010)  # section 5.1: T_comm / Z "fluctuates in the range"
SECOND_GPU = 0.55  # section 5.5: two-way model parallelism is 55 % efficient

# Speeds in samples/s. Table 5, row 1 x 1 of the farm: one GPU as the whole system runs it.
ALONE = {2880: 7500.0, 16384: 8200.0}
# Table 4: 4 x 2 GPUs of the farm, by (double buffering, N).
_SIZES_4 = (1024, 2048, 2880, 4096, 8192, 16384, 32768, 65536, 94208)
_TABLE_4 = {
    False: (None, 23, 28, 32, 36, 38, 39, 44, 45),
    True: (15, 23, 28, 34, 39, 45, 47, 49, 50),
}
# Table 5: rows (data, model parallelism); columns N = 2880 farm, 8-GPU server, N = 16384 likewise.
_TABLE_5 = {
    (4, 2): (26.9, 25.0, 42.3, 40.9),
    (8, 1): (26.9, 26.5, 51.6, 50.6),
    (8, 2): (34.8, None, 72.5, None),
    (16, 1): (30.2, None, 77.9, None),
}


@dataclass(frozen=True)
class Cell:
    """One measured speed.

    Attributes:
        table: 4 or 5.
        data: data-parallel nodes, K.
        model: GPUs in each.
        minibatch: N.
        double_buffer: Table 5 does not say; its 4 x 2 row lies between Table 4's two.
        system: "farm" or "8-GPU".
        measured: samples/s.
    """

    table: int
    data: int
    model: int
    minibatch: int
    double_buffer: bool
    system: str
    measured: float


def cells() -> Iterator[Cell]:
    """Yield all data-parallel cells of Tables 4 and 5."""
    for double_buffer, speeds in _TABLE_4.items():
        for n, speed in zip(_SIZES_4, speeds, strict=True):
            if speed is not None:
                yield Cell(4, 4, 2, n, double_buffer, "farm", 1e3 * speed)
    columns = [(n, system) for n in (2880, 16384) for system in ("farm", "8-GPU")]
    for (data, model), row in _TABLE_5.items():
        for (n, system), kfps in zip(columns, row, strict=True):
            if kfps is not None:
                yield Cell(5, data, model, n, True, system, 1e3 * kfps)


def bare_costs() -> Costs:
    """Return the three cost factors, as section 5.1 gives them.

    C T_post is what remains of 18.2 ms when T_upd = 9 ms is taken off; the paper gives it nowhere
    (18.2 ms was measured without quantisation, 9 ms with it). It hardly matters, being divided by
    K.
    """
    variable = tuple(round(t - POST_AND_UPDATE, 6) for t in SUB_BATCH_SECONDS)
    times = SubBatchTimes(SUB_BATCHES, variable)
    return Costs(times, post=POST_AND_UPDATE - UPDATE, apply=UPDATE)


def unexplained() -> tuple[float, float]:
    """Return what one GPU takes beyond Table 1 in the whole system: (s a step, s a sample).

    N / speed of Table 5's row 1 x 1 less Table 1's time for that sub-batch, at both N; the line
    through the two.
    """
    costs = bare_costs()
    small, large = (
        n / speed - costs.times.variable(n) - POST_AND_UPDATE for n, speed in ALONE.items()
    )
    n_small, n_large = ALONE
    per_sample = (large - small) / (n_large - n_small)
    return small - per_sample * n_small, per_sample


def full_costs() -> Costs:
    """Return ``bare_costs`` and what row 1 x 1 shows to be missing from them."""
    exchange, read = unexplained()
    bare = bare_costs()
    return Costs(bare.times, bare.post, apply=bare.apply, exchange=exchange, read=read)


def predicted(cell: Cell, costs: Costs, *, comm: float = EXCHANGE[1]) -> Step:
    """Predict one cell.

    Args:
        cell: which.
        costs: of one GPU.
        comm: T_comm / Z in seconds; by default the upper end of what the paper saw, since a step
            waits for the slowest of its exchanges.
    """
    node = costs.split(cell.model, SECOND_GPU) if cell.model > 1 else costs
    wires = [BucketTimes(1.0, comm / 2, comm / 2)]
    return predict(node, wires, cell.minibatch, cell.data, double_buffer=cell.double_buffer)


def deviation(cell: Cell, costs: Costs) -> float:
    """Return (predicted - measured) / measured speed."""
    return predicted(cell, costs).samples_per_second / cell.measured - 1
