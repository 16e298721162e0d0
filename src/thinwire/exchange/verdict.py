"""What all workers know after stage 1: how many samples there were, and whether all is finite."""

from collections.abc import Sequence
from dataclasses import dataclass

Culprit = tuple[int, str]  # a worker, and its parameter that is not finite


@dataclass(frozen=True)
class Verdict:
    """What the headers of stage 1 said, the same on every worker.

    Attributes:
        samples: in the minibatch, over all workers.
        nonfinite: (worker, parameter) of the first NaN or infinity, if any worker has one. All
            workers then drop the step together.
        withdrawn: (worker, reason) of each that takes back what it has sent, if any; nobody may
            use it then.
        idle: whether some worker lacks the gradient of some parameter.
        alike: whether all workers go by the same options; nobody may use what was sent otherwise.
    """

    samples: float
    nonfinite: Culprit | None = None
    withdrawn: tuple[tuple[int, int], ...] = ()
    idle: bool = False
    alike: bool = True

    @property
    def finite(self) -> bool:
        """Whether every worker's sub-gradient is finite."""
        return self.nonfinite is None


def joint(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on buckets that are kept or dropped together.

    Args:
        verdicts: at least one, of buckets of one minibatch.
    """
    withdrawn = (verdict for verdict in verdicts if verdict.withdrawn)
    unlike = (verdict for verdict in verdicts if not verdict.alike)
    nonfinite = (verdict for verdict in verdicts if not verdict.finite)
    return next(withdrawn, next(unlike, next(nonfinite, verdicts[0])))


class UpdateError(FloatingPointError):
    """An owner's update is not finite although every sub-gradient is.

    Attributes:
        culprit: the owner, and the parameter.
    """

    def __init__(self, culprit: Culprit) -> None:
        worker, name = culprit
        super().__init__(
            f"worker {worker}: the update of {name!r} is not finite although all gradients are: "
            "lower the learning rate"
        )
        self.culprit = culprit
