"""When what is exchanged: what an optimiser asks of a schedule.

SerialStart      worker 0 alone, then one hand-over         serial_start
AtOnce           every step its own gradient's update       at_once
DoubleBuffered   every step the gradient's of the one before    double_buffer
"""

from typing import Protocol

from torch import Tensor

from thinwire.optim.progress import StepReport


class Schedule(Protocol):
    """One way to exchange gradients; an optimiser may go from one to the next between steps.

    Attributes:
        phase: what reports call it: "serial" or "dense" in a start, then "steady".
    """

    phase: str

    @property
    def begun(self) -> bool:
        """Whether gradients have been copied that no step has applied yet."""
        ...

    def gradient_ready(self, parameter: Tensor, samples: float) -> None:
        """Take note that backward has completed a parameter's gradient.

        Args:
            parameter: whose gradient it is.
            samples: in this worker's minibatch.
        """
        ...

    def step(self, samples: float) -> StepReport | None:
        """Exchange this step's gradients.

        Args:
            samples: in this worker's minibatch.

        Returns:
            What the step did; None where that is known only when it lands.
        """
        ...

    def discard(self) -> None:
        """Forget the gradients that have been sent since the last step, on all workers alike."""
        ...

    def end(self) -> None:
        """Hand over to the next schedule, after this one's last step."""
        ...
