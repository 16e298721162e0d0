"""What a run tells of itself: events, evaluations, the display and the summary."""

import time
from typing import Any

from torch import Tensor

from thinwire.data import DataSource
from thinwire.exchange import Wire
from thinwire.report import EventLog
from thinwire.train.counts import communications
from thinwire.train.display import Display
from thinwire.train.evaluate import evaluate
from thinwire.train.prepare import Job
from thinwire.train.recipe_files import to_jsonable
from thinwire.train.replicas import compare_replicas
from thinwire.train.resume import Plan
from thinwire.train.split import whole_state
from thinwire.train.summary import Summary, summarise, versions
from thinwire.train.tasks import Scores, reported
from thinwire.train.training import Told, Training


class Reporter:
    """Tells of one worker's run.

    Attributes:
        log: where events go; the loop opens it.

    Args:
        job: what ``prepare`` made.
        training: the algorithm at work.
        wire: the workers.
        display: where progress is shown.
    """

    log: EventLog

    def __init__(self, job: Job, training: Training, wire: Wire, display: Display) -> None:
        self.job, self.training, self.wire, self.display = job, training, wire, display
        self.state, self.counts = training.state, training.state.counts

    def whole(self) -> dict[str, Tensor]:
        """The state of the model that all workers share, not split; all ask for it together."""
        with self.state.replica():
            state = whole_state(self.state.model, self.training.grid.model(self.wire.ledger))
            return {name: tensor.clone() for name, tensor in state.items()}

    def start(self, plan: Plan) -> None:
        """Say what begins."""
        self.log.write(
            "start",
            schema=1,
            rank=self.wire.rank,
            time=time.time(),
            resumed_step=plan.checkpoint.step if plan.checkpoint else None,
            name=self.job.name,
            method=self.job.recipe.method,
            workers=self.wire.world,
            params=self.counts.params,
            seed=self.job.recipe.seed,
            train_samples=len(self.job.dataset.train),
            versions=versions(),
            metrics=[metric.told() for metric in self.job.task.metrics],
            decides=self.job.task.decides.told(),
            recipe=to_jsonable(self.job.recipe),
        )

    def _progress(self) -> dict[str, Any]:
        """The counts every event carries; bytes are this worker's."""
        counts, seconds = self.counts, self.counts.watch.seconds
        return {
            "step": counts.steps,
            "epoch": self.training.epochs,
            "samples": counts.samples,
            **communications(self.wire.ledger),
            "bytes_sent": self.wire.ledger.total().bytes,
            "seconds": seconds,
            "samples_per_second": counts.samples / seconds,
        }

    def tell(self, told: Told) -> None:
        """Write an event, and show it."""
        event = {**self._progress(), **told.fields}
        self.log.write(told.event, **event)
        if told.line:
            self.display.say(told.line)
        else:
            self.display.step(event)

    def evaluate(self) -> None:
        """Measure and make sure that replicas agree; neither is in the counted seconds."""
        self.counts.watch.stop()
        progress, averages = self._progress(), self.training.averages()
        scores = averages or self._measure(self.job.dataset.train)
        event = {
            **progress,
            **reported(self.job.task, scores, "train_"),
            "exact": averages is None,
            **self._test(),
        }
        self.log.write("epoch", **event)
        self.display.epoch(event)
        self.state.last_epoch = event
        self.counts.watch.start()

    def _test(self) -> dict[str, Any]:
        """The test set's figures of the model as it is, the same on all workers."""
        return {
            **reported(self.job.task, self._measure(self.job.dataset.test), "test_"),
            "params_sha256": compare_replicas(self.whole(), self.wire),
            "replicas_identical": True,
        }

    def finish(self) -> None:
        """Complete what is in flight: after the checkpoint, from which more epochs may go on."""
        told = self.training.finish()
        if told is None:
            return
        for one in told:
            self.tell(one)
        self.state.last_epoch = {**self.state.last_epoch, **self._test()}

    def _measure(self, source: DataSource) -> Scores:
        job, wire = self.job, self.training.grid.data(self.wire.ledger)
        with self.state.replica():
            return evaluate(self.state.model, source, wire, job.loss, job.task)

    def summary(self) -> Summary:
        """Measure the training samples once more and put all figures together."""
        last_epoch = self.state.last_epoch
        scores, task = self._measure(self.job.dataset.train), self.job.task
        kept = (*reported(task, scores, "test_"), "params_sha256", "replicas_identical")
        results = {
            "name": self.job.name,
            "method": self.job.recipe.method,
            "seed": self.job.recipe.seed,
            **reported(task, scores, "train_"),
            **{key: last_epoch[key] for key in kept},
        }
        return summarise(self.training, self.wire, results)
