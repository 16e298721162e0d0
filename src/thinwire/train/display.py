"""What a person sees while training: a live line on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from thinwire.train.tasks import Metric


class Display:
    """Progress of one run; worker 0 shows it, the others are given a quiet one.

    Args:
        total: samples, or whatever ``counter`` counts, in the whole run.
        console: where to; None shows nothing.
        counter: the field of a step event that says how much of the total is done.
        metrics: the task's, which events hold.
    """

    def __init__(
        self,
        total: int,
        console: Console | None,
        counter: str = "samples",
        metrics: Sequence[Metric] = (),
    ) -> None:
        self.console, self._metrics = console, metrics
        self.total = total
        self._counter = counter
        self._live: Progress | None = None
        if console is not None and console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._live.add_task("starting", total=total)

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """One line that stays."""
        if self.console is not None:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def step(self, event: dict[str, Any]) -> None:
        """The state of training, from a step event."""
        line = describe_step(event, self._metrics)
        if self._live is not None:
            self._live.update(self._task, description=line, completed=event[self._counter])
        else:
            self.say(line)

    def epoch(self, event: dict[str, Any]) -> None:
        """What has been evaluated, from its event."""
        values = [
            f"{part} {_value(metric, event[f'{part}_{metric.name}'])}  "
            for metric in self._metrics
            for part in ("train", "test")
        ]
        self.say(
            f"epoch {event['epoch']:6.2f}  train loss {event['train_loss']:.4f}  "
            f"{''.join(values)}{event['seconds']:6.1f} s"
        )


def describe_step(event: dict[str, Any], metrics: Sequence[Metric]) -> str:
    """One line: where the run is, what the step did, what has been sent so far."""
    if "objective" in event:
        return _describe_iteration(event)
    compression = event["compression"]
    values = [f"{_value(metric, event[metric.name])}  " for metric in metrics]
    factor = f"{compression:5.1f}x" if compression is not None else "    -"
    return (
        f"epoch {event['epoch']:6.2f}  loss {event['loss']:.4f}  {''.join(values)}"
        f"{event['samples_per_second']:7.0f} samples/s  "
        f"worker 0 sent {event['bytes_sent'] / 1e6:8.2f} MB  {factor}"
    )


def _value(metric: Metric, value: float | None) -> str:
    if metric.percent:
        return f"{metric.title} " + ("    -  " if value is None else f"{100 * value:5.2f} %")
    return f"{metric.name} " + (f"{'-':>7}" if value is None else f"{value:7.4g}")


def _describe_iteration(event: dict[str, Any]) -> str:
    return (
        f"iteration {event['step']:3d}  objective {event['objective']:.4f}  "
        f"{event['products']} products, {event['kind']} step {event['alpha']:.3g}, "
        f"damping {event['damping']:.1e}  {event['communications']} communications  "
        f"worker 0 sent {event['bytes_sent'] / 1e6:8.2f} MB"
    )
