"""What evaluations cost, and evaluations as values that carry it."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Cost:
    """What evaluations took. Costs add up.

    Work is counted over all workers, each piece once however they share it; sums as one worker
    takes part in them.

    Attributes:
        gradients: losses over all samples that were computed with their gradient.
        losses: losses over all samples that were computed without.
        products: curvature products over the curvature batch.
        batch_losses: losses over the curvature batch.
        fishers: Fisher matrices over the curvature batch.
        vector_sums: collectives of something as long as the model, or as a batch of samples.
        small_sums: collectives of a few numbers.

    >>> Cost(products=2, vector_sums=2) + Cost(gradients=1, vector_sums=1)
    Cost(gradients=1, losses=0, products=2, batch_losses=0, fishers=0, vector_sums=3, small_sums=0)
    """

    gradients: int = 0
    losses: int = 0
    products: int = 0
    batch_losses: int = 0
    fishers: int = 0
    vector_sums: int = 0
    small_sums: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    @property
    def sums(self) -> "Cost":
        """What was sent, without the work."""
        return Cost(vector_sums=self.vector_sums, small_sums=self.small_sums)

    def passes(self, share: float) -> float:
        """Effective passes over all samples.

        Args:
            share: the curvature batch's part of all samples.

        >>> Cost(gradients=1, products=8, fishers=1).passes(share=0.25)
        3.25
        """
        whole = self.gradients + self.losses
        return share * (self.products + self.batch_losses + self.fishers) + whole


NOTHING = Cost()


@dataclass(frozen=True, eq=False)
class Evaluation(Generic[T_co]):
    """A result with what it cost.

    Attributes:
        result: what was computed.
        cost: what that took.
        note: what people should know of it.
    """

    result: T_co
    cost: Cost = NOTHING
    note: str = ""

    def after(self, *earlier: "Evaluation[Any]", note: str = "") -> "Evaluation[T_co]":
        """The same result, with costs and notes of the evaluations that led to it as well."""
        every = (*earlier, self)
        return Evaluation(self.result, total(e.cost for e in every), joined(*every, note=note))


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    return sum(costs, start=NOTHING)


def joined(*evaluations: Evaluation[Any], note: str = "") -> str:
    """What is to be known of several evaluations, in one line."""
    return "; ".join(text for text in (*(e.note for e in evaluations), note) if text)
