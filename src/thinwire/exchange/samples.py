"""How many samples a worker's gradient is the mean over: its weight in the sum over workers."""

import numbers

from torch import Tensor

_MOST = 2.0**53  # beyond it float64 skips whole numbers


class SampleCount:
    """What a script has said of its minibatches; until it does, every worker counts 1.

    Attributes:
        value: samples in this worker's next minibatch.
        given: whether the script has said so.
    """

    def __init__(self) -> None:
        self.value, self.given = 1.0, False

    def set(self, value: object) -> None:
        """Take what the script says.

        Args:
            value: a number, which need not be whole, or a tensor of one number.

        Raises:
            ValueError: it is no number, or out of range.
        """
        number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        real = isinstance(number, numbers.Real) and not isinstance(number, bool)
        if not real or not 0 <= float(number) <= _MOST:  # type: ignore[arg-type]
            raise ValueError(f"samples: expected a number from 0 to 2**53, got {value!r}")
        self.value, self.given = float(number), True  # type: ignore[arg-type]

    def needed(self, option: str | None, where: str) -> float:
        """Return the count for an exchange.

        Args:
            option: what is stated in samples, such as "batch_size=1024"; None: nothing is, and any
                number that is the same on all workers will do.
            where: what has the attribute ``samples``, such as "optimizer".

        Raises:
            ValueError: something is stated in samples, and the script never said how many it has.
        """
        if option is not None and not self.given:
            raise ValueError(
                f"samples: expected it to be set before the first backward, since {option} counts "
                f"samples: write {where}.samples = len(inputs) in every step"
            )
        return self.value
