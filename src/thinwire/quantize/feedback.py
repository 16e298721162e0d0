"""Error feedback: what one step's code could not say is said by the next (S section 3)."""

import torch
from torch import Tensor

from thinwire.quantize.code import Code
from thinwire.quantize.columns import Columns


class ErrorFeedback:
    """The residual of one run of values, with a step that can still be taken back.

    A step writes fresh values into ``values``, calls ``encode`` (whole, or run by run) and then
    ``commit``, or ``drop`` where it is abandoned because another worker met a NaN. Encoding leaves
    the new residual in ``values`` and does not touch ``residual``, so there is nothing to undo.
    Committing swaps the two buffers, so it costs no memory traffic unless a part is forgotten.

    Attributes:
        residual: float32 ``[n]``, Delta(t - N) of S section 3.
        values: float32 ``[n]``, input of the next ``encode``; scratch between steps.

    Args:
        n: number of values.
        part: of the error that the next step carries, from 0 to 1; what is left of it is forgotten.
            With 0 ``residual`` stays 0.
        device: where the buffers live.
    """

    def __init__(
        self, n: int, *, part: bool | float = True, device: torch.device | str = "cpu"
    ) -> None:
        self.residual = torch.zeros(n, dtype=torch.float32, device=device)
        self.values = torch.zeros(n, dtype=torch.float32, device=device)
        self.part = float(part)
        self._input_norm = 0.0
        self._held: list[tuple[slice, Tensor]] = []

    def note_input(self, scale: float = 1.0) -> None:
        """Remember the size of the fresh input, ``scale * values``, for ``ratio``."""
        self._input_norm = scale * float(self.values.norm())

    def ratio(self) -> float:
        """|residual| / |fresh input| of the step last noted and committed; healthy below 3."""
        return float(self.residual.norm()) / self._input_norm if self._input_norm > 0 else 0.0

    def encode(
        self,
        code: Code,
        scale: float,
        columns: Columns,
        payload: Tensor,
        start: int = 0,
        values: Tensor | None = None,
    ) -> int:
        """Encode ``scale * values + residual`` for the run that begins at ``start``.

        Args:
            code: the code to use; it may differ from step to step.
            scale: factor on ``values``.
            columns: the run's groups.
            payload: uint8 ``[code.payload_bytes(columns)]``, receives the bytes.
            start: index of the run's first value.
            values: ``[n]``, read in place of this object's own, which still receive the new
                residual; float32, bfloat16 or float16.

        Returns:
            The first group of the run into which a NaN or infinity went, or -1.
        """
        run = slice(start, start + columns.values)
        left, given = self.values[run], self.values if values is None else values
        code.encode(given[run], scale, self.residual[run], columns, left, payload)
        return code.nonfinite_group(payload, columns)

    def hold(self, run: slice) -> None:
        """Take part of the residual out of this step: it is what it was when the step has ended.

        Call it before ``encode``, for values of which this step sends nothing.
        """
        self._held.append((run, self.residual[run].clone()))
        self.residual[run].zero_()

    def commit(self) -> None:
        """Make what ``encode`` left behind, or a part of it, the residual of the next step."""
        if self.part > 0:
            self.residual, self.values = self.values, self.residual
        if 0 < self.part < 1:
            self.residual.mul_(self.part)
        self._put_back()

    def drop(self) -> None:
        """Leave the residual as it was before the step."""
        self._put_back()

    def _put_back(self) -> None:
        for run, kept in self._held:
            self.residual[run].copy_(kept)
        self._held = []
