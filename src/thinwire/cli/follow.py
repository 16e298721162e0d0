"""``thinwire follow RUN``: hand a run's events to TensorBoard or Weights & Biases as they come."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from thinwire.cli.usage import UsageError, parse, user_errors
from thinwire.needed import needed
from thinwire.report.events import Event
from thinwire.report.follow import follow, scalars

USAGE = """usage: thinwire follow RUN [--tensorboard DIR] [--wandb PROJECT]

Reads the events of a run that is training, or has finished, and writes every figure to DIR for
TensorBoard, or to a project of Weights & Biases. It ends when the run has ended. WANDB_MODE=offline
keeps everything on this machine. Needs thinwire[watch]."""


@dataclass(frozen=True, kw_only=True)
class FollowFields:
    """Where figures go."""

    tensorboard: Path | None = None
    """Folder for TensorBoard."""
    wandb: str | None = None
    """Project of Weights & Biases."""


class Board(Protocol):
    """A place where figures are looked at."""

    def begin(self, start: Event) -> None:
        """Take what a run tells of itself when it starts, or starts again."""

    def show(self, values: Mapping[str, float], step: int) -> None:
        """Take figures by name, of a step."""

    def close(self) -> None:
        """Write what is pending."""


class TensorBoard:
    """A folder that TensorBoard shows."""

    def __init__(self, folder: Path) -> None:
        needed("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def begin(self, start: Event) -> None:
        """See `Board`."""
        lines = [f"    {name}: {value}" for name, value in flat(start).items()]
        self._writer.add_text("run", "\n".join(lines))

    def show(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Board`."""
        self._writer.close()


class WeightsAndBiases:
    """A run in a project of Weights & Biases."""

    def __init__(self, project: str, folder: Path) -> None:
        self._wandb = needed("wandb")
        self._project, self._folder, self._run = project, folder, None

    def begin(self, start: Event) -> None:
        """See `Board`."""
        if self._run is None:
            name = str(start.get("name") or self._folder.name)
            self._run = self._wandb.init(
                project=self._project, name=name, dir=str(self._folder), config=flat(start)
            )

    def show(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        self._wandb.log(dict(values), step=step)

    def close(self) -> None:
        """See `Board`."""
        if self._run is not None:
            self._wandb.finish()


def run(args: list[str]) -> int:
    """Follow a run to its end; returns the exit code."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    folder, fields = Path(args[0]), parse(FollowFields(), args[1:], prog="thinwire follow")
    if fields.tensorboard is None and fields.wandb is None:
        raise UsageError("expected --tensorboard DIR or --wandb PROJECT, or both")
    with user_errors(), ExitStack() as stack:
        events = follow(folder)
        first = next(events)  # before anything is made elsewhere
        boards: list[Board] = []
        if fields.tensorboard is not None:
            boards.append(TensorBoard(fields.tensorboard))
        if fields.wandb is not None:
            boards.append(WeightsAndBiases(fields.wandb, folder))
        for board in boards:
            stack.callback(board.close)
        step = hand_over(first, boards, 0)
        for event in events:
            step = hand_over(event, boards, step)
    print(f"{folder}: the run has ended after step {step}")
    return 0


def hand_over(event: Event, boards: list[Board], step: int) -> int:
    """Show an event on all boards; returns its step, or that of the event before it."""
    told = event.get("step")
    step = told if isinstance(told, int) and not isinstance(told, bool) else step
    for board in boards:
        if event["event"] == "start":
            board.begin(event)
        elif values := scalars(event):
            board.show(values, step)
    return step


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted names.

    >>> flat({"name": "a", "recipe": {"optimizer": {"lr": 1}}})
    {'name': 'a', 'recipe.optimizer.lr': 1}
    """
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            found |= flat(inner, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = inner
    return found
