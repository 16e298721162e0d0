"""How gradients are exchanged: the options that every front end has, explained once."""

from dataclasses import dataclass
from datetime import timedelta
from typing import get_args

from thinwire.exchange.transport import transport_names
from thinwire.quantize import Axis, CodeLike, StageCodes, stage_codes

SERIAL = "serial"  # the one start that is no code
Codes = CodeLike | tuple[CodeLike, CodeLike]
EXACT = stage_codes("float32")
DROP_IN_CODE: Codes = "4-bit"  # under scripts whose optimiser is not known


@dataclass(frozen=True, kw_only=True)
class ExchangeConfig:
    """The options of the exchange, the same in all optimisers, the hook, FSDP2 and recipes.

    Attributes:
        code: how values travel: a code or its name (``thinwire.quantize.code_names()``), or two
            of them, of gradients to their owners and of updates back, as ``("sign", "4-bit")``.
        error_feedback: the part of the quantisation error that is carried into the next step, from
            0 to 1; True is all, and False is none. With all of it nothing is ever lost. A part,
            such as 0.8, forgets old errors: a step's error counts ``0.8**n`` after n steps, which
            takes some of one bit's loss away where momentum is long (``docs/codes.md``).
        axis: which unit's weights share reconstruction levels, an "output" unit's or an "input"
            unit's; see ``thinwire.quantize``.
        start: how the first steps are exchanged: a code, such as "float32", or "serial". In a
            serial start worker 0 trains alone on what it is given, then one broadcast hands over
            everything [Seide 2014, section 5.2]; until then ``computes`` is False on the other
            workers and their gradients are ignored.
        start_samples: samples, over all workers, after which the start is over.
        start_steps: steps after which the start is over. Give one of the two, or neither for no
            start.
        bucket_mb: float32 megabytes of gradient after which a bucket is sent. Smaller ones overlap
            more of backward; each costs two collectives.
        timeout: how long a collective may take before it fails; None is torch's own.
        transport: how packets move, one of ``thinwire.exchange.transport_names()``; "auto" is what
            fits where the code runs.

    Raises:
        TypeError: a timeout that is none.
        ValueError: an option out of range, naming it.
    """

    code: Codes = "sign"
    error_feedback: bool | float = True
    axis: Axis = "output"
    start: Codes = "4-bit"
    start_samples: int = 0
    start_steps: int = 0
    bucket_mb: float = 25.0
    timeout: timedelta | None = None
    transport: str = "auto"

    def __post_init__(self) -> None:
        stage_codes(self.code)
        if self.start != SERIAL:
            stage_codes(self.start, "start")
        part = self.error_feedback
        if not isinstance(part, (int, float)) or not 0 <= part <= 1:
            raise ValueError(
                f"error_feedback: expected True, False or a part from 0 to 1, got {part!r}"
            )
        if self.axis not in get_args(Axis):
            raise ValueError(f"axis: expected one of {get_args(Axis)}, got {self.axis!r}")
        for name in ("start_samples", "start_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected >= 0, got {getattr(self, name)}")
        if self.start_samples and self.start_steps:
            raise ValueError(
                f"start_steps: expected 0 beside start_samples = {self.start_samples}, got "
                f"{self.start_steps}: give the length of the start in one unit"
            )
        if not self.bucket_mb > 0:
            raise ValueError(f"bucket_mb: expected > 0, got {self.bucket_mb}")
        if self.timeout is not None and not isinstance(self.timeout, timedelta):
            raise TypeError(
                f"timeout: expected a datetime.timedelta, got {self.timeout!r}: write "
                "timedelta(seconds=60)"
            )
        if self.transport not in transport_names():
            raise ValueError(
                f"transport: expected one of {transport_names()}, got {self.transport!r}"
            )

    @property
    def start_codes(self) -> StageCodes:
        """How values travel during the start; a serial one sends nothing but what is exact."""
        return EXACT if self.start == SERIAL else stage_codes(self.start, "start")

    def in_start(self, steps: float, samples: float) -> bool:
        """Whether the start still lasts after so many steps and so many samples."""
        return steps < self.start_steps or samples < self.start_samples
