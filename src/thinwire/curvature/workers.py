"""The workers as curvature sees them: sums over all, each with what it cost.

Nothing else in ``curvature`` and in the Hessian-free half of ``optim`` calls the exchange. Vectors
travel from the device they are on and arrive there. Numbers are Python's before and after, and
tensors of the CPU in between.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from thinwire.curvature.cost import Cost, Evaluation
from thinwire.exchange import (
    CodedSum,
    Ledger,
    all_reduce,
    check_alike,
    copy_from_first,
    shared_wire,
)
from thinwire.quantize import StageCodes

T = TypeVar("T")


class Workers:
    """All workers of a group, each of which makes the same calls.

    Args:
        process_group: the workers; None is the default group, or this process alone.
        ledger: where traffic is entered.

    Attributes:
        ledger: as given.
    """

    def __init__(self, process_group: dist.ProcessGroup | None, ledger: Ledger) -> None:
        self.ledger = ledger
        self._wire = shared_wire(process_group, ledger)

    @property
    def world(self) -> int:
        """Their number, W."""
        return self._wire.world

    @property
    def rank(self) -> int:
        """This one's."""
        return self._wire.rank

    def alone(self) -> "Workers":
        """This worker by itself, on the same ledger: nothing is sent, its summand is the sum."""
        workers = copy.copy(self)
        workers._wire = self._wire.alone()
        return workers

    def check_alike(self, facts: Mapping[str, Any], what: str) -> None:
        """See ``exchange.check_alike``."""
        check_alike(facts, self._wire, what)

    # --- the data plane -------------------------------------------------------------------------

    def sum(
        self, own: Tensor, riders: Sequence[float], stage: str
    ) -> Evaluation[tuple[Tensor, list[float]]]:
        """The sum of a vector, [P], and of a few numbers that ride along: one collective."""
        return self._vectors(lambda: all_reduce(own, riders, self._wire, stage))

    def sum_coded(self, own: Tensor, coded: CodedSum, stage: str) -> Evaluation[Tensor]:
        """The sum of a vector, [P], sent by a code; NaN throughout if a summand is not finite."""
        return self._vectors(lambda: coded(own, stage))

    def gather(self, own: Tensor, stage: str) -> Evaluation[list[Tensor]]:
        """Every worker's flat vector, in rank order; all must be of the same length."""
        return self._vectors(lambda: self._wire.all_gather(own, stage))

    def swap(
        self, runs: Sequence[Tensor], sizes: Sequence[int], stage: str
    ) -> Evaluation[list[Tensor]]:
        """What each worker has for this one, in rank order.

        Args:
            runs: for each worker what it gets.
            sizes: for each worker how many values it sends here.
            stage: where the ledger enters it.
        """
        return self._vectors(lambda: self._wire.exchange(runs, sizes, stage))

    def take_first(self, own: Tensor, stage: str) -> Evaluation[Tensor]:
        """Worker 0's vector, a new tensor."""
        vector = own.clone()
        sent = self._vectors(lambda: self._wire.broadcast(vector, stage))
        return Evaluation(vector, sent.cost)

    def copy_first(self, tensors: Sequence[Tensor], stage: str) -> None:
        """Overwrite tensors of any shapes and dtypes by worker 0's."""
        self._vectors(lambda: copy_from_first(tensors, self._wire, stage))

    def coded_sum(
        self, parameters: Sequence[Parameter], codes: StageCodes, *, error_feedback: bool | float
    ) -> CodedSum:
        """What ``sum_coded`` sums vectors of these parameters with."""
        return CodedSum(parameters, codes, self._wire, error_feedback=error_feedback)

    # --- the control plane ----------------------------------------------------------------------

    def sum_numbers(self, own: Sequence[float], stage: str) -> Evaluation[list[float]]:
        """The sums of a few numbers, added in rank order: one small collective."""
        tensor = torch.tensor(own, dtype=torch.float64, device="cpu")
        return self._numbers(lambda: self._wire.sum(tensor, stage).tolist())

    def gather_numbers(self, own: Sequence[float], stage: str) -> Evaluation[list[list[float]]]:
        """Every worker's numbers, in rank order."""
        tensor = torch.tensor(own, dtype=torch.float64, device="cpu")
        return self._numbers(lambda: [t.tolist() for t in self._wire.all_gather(tensor, stage)])

    # --------------------------------------------------------------------------------------------

    def _vectors(self, act: Callable[[], T]) -> Evaluation[T]:
        result, collectives = self._counted(act)
        return Evaluation(result, Cost(vector_sums=collectives))

    def _numbers(self, act: Callable[[], T]) -> Evaluation[T]:
        result, collectives = self._counted(act)
        return Evaluation(result, Cost(small_sums=collectives))

    def _counted(self, act: Callable[[], T]) -> tuple[T, int]:
        """What was asked for, and how many collectives the ledger entered for it."""
        before = self.ledger.total().collectives
        result = act()
        return result, self.ledger.total().collectives - before
